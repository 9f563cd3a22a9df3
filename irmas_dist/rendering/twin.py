"""Renders a twin of IRMAS: each of its files, under its path and with its labels.

A twin tests the pipeline at full size without the real audio: names, splits, identical files,
memory, time. Its music is that of `render`, with the same limits.

Existing files are not rendered again. A record at the root of the tree states what all audio in
it was made from: seed, soundfonts, catalogue, renderer and its libraries. It is written before
the first file, files appear atomically, and those of another record are deleted before it is
replaced; so an existing file of the right size is the file that would be rendered. Only a manual
change that keeps the size goes unnoticed.
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
from irmas_dist.rendering.recordings import Clip, Recording, draw_weighted, generator
from irmas_dist.rendering.render import (
    RenderSummary,
    SoundSettings,
    existing_audio,
    label_file,
    refuse_other_audio,
    render_recordings,
    summarise_rendering,
    wav_bytes,
)
from irmas_dist.rendering.soundfont import prepared_soundfonts
from irmas_dist.storage.locks import lock_directory

RECORD = "rendering.json"
"""File at the root of a twin that states what its audio was made from."""

RENDERER = (
    "corpus.archives",
    "corpus.catalogue",
    "corpus.csv_tables",
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
"""Modules that the audio depends on: when one changes, a twin is rendered again."""


class TwinSettings(SoundSettings):
    """The catalogue to render a twin of, and how much of it."""

    catalogue: Path | None = None
    """Directory with ``training.csv`` and ``testing.csv``. None: the catalogue of IRMAS."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the recordings of each instrument and of the test songs; at least one of each."""


def render_twin(out: Path, settings: TwinSettings) -> RenderSummary:
    """Render a twin of IRMAS, or its missing files.

    The same settings give the same bytes, whatever the number of workers and interruptions.

    Args:
        out: Root of the tree; created unless it exists.
        settings: What to render.

    Raises:
        IrmasError: The catalogue is wrong, a soundfont or a package is missing, or the target
            cannot be written or holds audio that is not of this twin.
    """
    entries = read_catalogue(settings.catalogue)
    recordings = twin_recordings(entries, settings.fraction, settings.seed)
    with lock_directory(out):
        refuse_other_audio(out, recordings)
        _match_record(out, recordings, _provenance(settings, entries))
        missing = [recording for recording in recordings if not _is_complete(out, recording)]
        if missing:
            missing.sort(key=lambda recording: -sum(clip.duration_s for clip in recording.clips))
            render_recordings(out, missing, settings, IRMAS)
    return summarise_rendering(out, recordings, missing)


def _provenance(settings: TwinSettings, entries: Sequence[CatalogueEntry]) -> dict[str, Any]:
    """Return all that the bytes of the audio depend on, hence neither fraction nor workers."""
    with prepared_soundfonts(settings.soundfonts) as soundfonts:
        played = [hashlib.sha256(Path(copy).read_bytes()).hexdigest() for copy in soundfonts]
    code = hashlib.sha256()
    package = Path(__file__).parents[1]
    for module in RENDERER:
        code.update((package / f"{module.replace('.', '/')}.py").read_bytes())
    return {
        "seed": settings.seed,
        "soundfonts": played,
        "catalogue": hashlib.sha256(repr(sorted(map(repr, entries))).encode()).hexdigest(),
        "renderer": code.hexdigest(),
        "libraries": {name: version(name) for name in ("numpy", "symusic", "soundfile")},
    }


def _match_record(out: Path, recordings: Sequence[Recording], provenance: dict[str, Any]) -> None:
    """Delete audio of another provenance than this one, and record this one."""
    record = out / RECORD
    if not record.exists():
        # The real data set has the same names and must never be overwritten.
        if found := existing_audio(out):
            raise IrmasError(
                f"{out} already holds audio that is not a twin's, such as {found[0]}: "
                "render into an empty directory"
            )
    elif storage.read_json(record) == provenance:
        return
    for recording in recordings:
        for clip in recording.clips:
            (out / clip.path).unlink(missing_ok=True)
    storage.write_json(record, provenance)


def _is_complete(out: Path, recording: Recording) -> bool:
    """Return whether all files of a recording exist, in a tree that matches its record."""
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


def twin_recordings(
    entries: Sequence[CatalogueEntry], fraction: float = 1.0, seed: int = 0
) -> list[Recording]:
    """Return the recordings of a twin of IRMAS: the same files with other music.

    A recording holds the clips of one recording ID, or the excerpts of one test song; those that
    share an identical file are one recording. Identical files have every instrument that any of
    their labels names. The sound of a recording depends on its own files and the seed alone, so
    any larger fraction has the same files and more.

    Genre and drums are those in the names; ``[dru]`` counts when names disagree. Where names have
    none, both are drawn from their distribution in IRMAS's training clips.

    Args:
        entries: The files, from `read_catalogue`.
        fraction: Share of the recordings of each instrument, and of the test songs, to take,
            from 0 to 1; at least one of each.
        seed: Seed of every choice.
    """
    recordings = _by_recording(entries)
    strata: dict[str, list[str]] = defaultdict(list)
    for key in sorted(recordings, key=lambda key: generator(seed, "fraction", key).random()):
        for stratum in {
            entry.instruments[0] if entry.part == TRAINING else TESTING for entry in recordings[key]
        }:
            strata[stratum].append(key)
    taken = {key for keys in strata.values() for key in keys[: max(1, round(fraction * len(keys)))]}
    return [_recording(key, recordings[key], seed) for key in sorted(taken)]


def _by_recording(entries: Sequence[CatalogueEntry]) -> dict[str, list[CatalogueEntry]]:
    """Return the files of each recording in order of path, by the first of its names."""
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
    drawn = str(draw_weighted(rng, GENRES, 1)[0])
    genre = next((name.genre for name in names if name.genre in GENRES), drawn)
    drums = bool(rng.random() < DRUMS_SHARE[genre])
    if annotated := {name.drums for name in names} - {None}:
        drums = True in annotated
    if drums and genre not in GROOVES:
        genre = "pop_roc"  # a few classical clips of IRMAS have drums; there is no groove for them
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
