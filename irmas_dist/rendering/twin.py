"""Renders a twin of IRMAS: each of its files, under its path and with its labels.

A twin shows at full size, without the real audio, that the whole road works: names, splits,
identical files, memory, hours. Its music is `render`'s, and so are its limits.

What was rendered already is not rendered again. A record at the root of the tree says what all
audio in it was made from: seed, soundfonts, catalogue, and the renderer, with the libraries
below it. It is written before the first file, files appear whole or not at all, and those of
another record are deleted before it is replaced; so a file that is there and has its size is the
file that would be rendered. Only a change by hand that keeps the size goes unseen.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from irmas_dist import storage
from irmas_dist.corpus.catalogue import CatalogueEntry, read_catalogue
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.irmas import DRUMS_SHARE, EXCERPT_S, GENRES, TRAINING_CLIP_S
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, recording_of, song_of
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.performance import GROOVES
from irmas_dist.rendering.recordings import Clip, Recording, generator
from irmas_dist.rendering.render import (
    RenderSummary,
    SoundSettings,
    audio_files,
    label_file,
    refuse_strangers,
    render_recordings,
    wav_bytes,
)
from irmas_dist.rendering.soundfont import prepared_soundfonts

RECORD = "rendering.json"
"""At the root of a twin: what its audio was made from."""

RENDERER = (
    "corpus.catalogue",
    "corpus.groups",
    "corpus.irmas",
    "corpus.names",
    "rendering.band",
    "rendering.general_midi",
    "rendering.performance",
    "rendering.recordings",
    "rendering.render",
    "rendering.soundfont",
    "rendering.synthesis",
)
"""Modules that the audio depends on: when one changes, a twin is rendered anew."""


class TwinSettings(SoundSettings):
    """Which catalogue to render a twin of, and how much of it."""

    catalogue: Path | None = None
    """Directory with ``training.csv`` and ``testing.csv``. None: the catalogue of IRMAS."""

    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the recordings of each instrument and of the test songs; at least one of each."""


def render_twin(out: Path, settings: TwinSettings) -> RenderSummary:
    """Render a twin of IRMAS, or what is missing of it.

    Rendering again with the same settings gives the same bytes, whatever the number of
    workers and however often it was interrupted.

    Args:
        out: Root of the tree; created unless it exists.
        settings: What to render.

    Raises:
        IrmasError: The catalogue is wrong, a soundfont or a package is missing, or the target
            cannot be written or holds audio that is not of this twin.
    """
    entries = read_catalogue(settings.catalogue)
    recordings = plan_twin(entries, settings.fraction, settings.seed)
    refuse_strangers(out, recordings)
    _claim(out, recordings, _provenance(settings, entries))
    missing = [recording for recording in recordings if not _whole(out, recording)]
    if missing:
        # Longest first, or one process would be busy with a long song at the end.
        missing.sort(key=lambda recording: -sum(clip.duration_s for clip in recording.clips))
        render_recordings(out, missing, settings, IRMAS)
    clips = [clip for recording in recordings for clip in recording.clips]
    testing = sum(len(recording.clips) for recording in recordings if recording.label_files)
    return RenderSummary(
        path=out,
        training_files=len(clips) - testing,
        testing_files=testing,
        audio_s=sum(clip.duration_s for clip in clips),
        bytes=sum(wav_bytes(clip.duration_s) for clip in clips),
        kept_files=len(clips) - sum(len(recording.clips) for recording in missing),
    )


def _provenance(settings: TwinSettings, entries: Sequence[CatalogueEntry]) -> dict[str, Any]:
    """Return all that the bytes of the audio depend on; neither fraction nor workers are."""
    with prepared_soundfonts(settings.soundfonts) as soundfonts:
        played = [hashlib.sha256(Path(copy).read_bytes()).hexdigest() for copy in soundfonts]
    code = hashlib.sha256()
    for module in RENDERER:
        code.update(
            Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py").read_bytes()
        )
    return {
        "seed": settings.seed,
        "soundfonts": played,
        "catalogue": hashlib.sha256(repr(sorted(map(repr, entries))).encode()).hexdigest(),
        "renderer": code.hexdigest(),
        "libraries": {name: version(name) for name in ("numpy", "symusic", "soundfile")},
    }


def _claim(out: Path, recordings: Sequence[Recording], provenance: dict[str, Any]) -> None:
    """Make sure that all audio in the tree is of this provenance, and record it."""
    record = out / RECORD
    if not record.exists():
        # The real data set has the same names, and must never be overwritten.
        if found := next(audio_files(out), None):
            raise IrmasError(
                f"{out} already holds audio that is not a twin's, such as {found}: "
                "render into an empty directory"
            )
    elif storage.read_json(record) == provenance:
        return
    for recording in recordings:
        for clip in recording.clips:
            (out / clip.path).unlink(missing_ok=True)
    storage.write_json(record, provenance)


def _whole(out: Path, recording: Recording) -> bool:
    """Return whether all files of a recording are there, in a tree that `_claim` has passed."""
    for clip in recording.clips:
        path = out / clip.path
        if not path.is_file() or path.stat().st_size != wav_bytes(clip.duration_s):
            return False
        labels = path.with_suffix(".txt")
        if recording.label_files and (
            not labels.is_file() or labels.read_bytes() != label_file(clip)
        ):
            return False
    return True


def plan_twin(
    entries: Sequence[CatalogueEntry], fraction: float = 1.0, seed: int = 0
) -> list[Recording]:
    """Return the recordings of a twin of IRMAS: its files, of other music.

    One recording holds the clips of one recording ID, or the excerpts of one test song.
    Recordings that share an identical file are the same one under several names, and planned
    as one. Identical files have every instrument that any of their labels names. What a
    recording sounds like depends on its own files and the seed alone, so a fraction has the
    very files of the whole, and a smaller fraction those of a larger one.

    Genre and drums are what the names say; ``[dru]`` counts when names disagree. Where they say
    nothing, both are drawn as they are distributed in IRMAS's training clips.

    Args:
        entries: The files, from `read_catalogue`.
        fraction: Share of the recordings of each instrument, and of the test songs, that is
            taken, from 0 to 1; at least one of each.
        seed: Seed of every choice.
    """
    recordings = _join(entries)
    strata: dict[str, list[str]] = defaultdict(list)
    for key in sorted(recordings, key=lambda key: generator(seed, "fraction", key).random()):
        for stratum in {
            entry.instruments[0] if entry.part == TRAINING else TESTING for entry in recordings[key]
        }:
            strata[stratum].append(key)
    taken = {key for keys in strata.values() for key in keys[: max(1, round(fraction * len(keys)))]}
    return [_recording(key, recordings[key], seed) for key in sorted(taken)]


def _join(entries: Sequence[CatalogueEntry]) -> dict[str, list[CatalogueEntry]]:
    """Return the files of each recording, in order of path, under the first of its names."""
    rows: list[dict[str, Any]] = [
        {"clip_id": entry.path, "group": _recording_name(entry), "md5": entry.md5, "problem": None}
        for entry in entries
    ]
    join_identical(rows)
    recordings: dict[str, list[CatalogueEntry]] = defaultdict(list)
    for entry, row in sorted(zip(entries, rows, strict=True), key=lambda pair: pair[0].path):
        recordings[row["group"]].append(entry)
    return recordings


def _recording_name(entry: CatalogueEntry) -> str:
    stem = _stem(entry)
    if entry.part == TESTING:
        return f"{TESTING}/{song_of(stem)}"
    return f"{TRAINING}/{recording_of(stem) or stem}"


def _recording(key: str, entries: Sequence[CatalogueEntry], seed: int) -> Recording:
    rng = generator(seed, key)
    training = entries[0].part == TRAINING
    names = [name for entry in entries if training and (name := parse_training_name(_stem(entry)))]
    shares = [count / sum(GENRES.values()) for count in GENRES.values()]
    drawn = str(rng.choice(list(GENRES), p=shares))
    genre = next((name.genre for name in names if name.genre in GENRES), drawn)
    drums = bool(rng.random() < DRUMS_SHARE[genre])
    if said := {name.drums for name in names} - {None}:
        drums = True in said
    if drums and genre not in GROOVES:
        genre = "pop_roc"  # three classical clips of IRMAS have drums: there is no groove for them
    passages: dict[str, int] = {}
    durations: list[float] = []
    clips = []
    for entry in entries:
        passage = passages.setdefault(entry.md5 or entry.path, len(passages))
        if passage == len(durations):
            durations.append(TRAINING_CLIP_S if training else round(rng.uniform(*EXCERPT_S), 1))
        clips.append(Clip(entry.path, entry.instruments, durations[passage], passage))
    return Recording(key, tuple(clips), drums, genre, label_files=not training)


def _stem(entry: CatalogueEntry) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(entry.path).stem)
