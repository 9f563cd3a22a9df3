"""Renders a twin of a data set: files like its own, under paths and with labels like its own.

A twin tests the pipeline at full size without the real audio: names, splits, identical files,
memory, time. Its music is that of `render`, with the same limits.

Existing files are not rendered again. A record at the root of the tree states what all audio in
it was made from: seed, soundfonts, catalogue, renderer and its libraries. It is written before
the first file, files appear atomically, and those of another record are deleted before it is
replaced; so an existing file is the file that would be rendered. Only a manual change that keeps
the size goes unnoticed, and of Ogg files any.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from irmas_dist import storage
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.rendering.irmas_twin import irmas_recordings
from irmas_dist.rendering.openmic_twin import openmic_clips, openmic_recordings, write_tables
from irmas_dist.rendering.recordings import Recording
from irmas_dist.rendering.render import (
    RenderSummary,
    SoundSettings,
    existing_audio,
    refuse_other_audio,
    render_recordings,
    summarise_rendering,
)
from irmas_dist.rendering.sound_files import label_file, wav_bytes
from irmas_dist.rendering.soundfont import prepared_soundfonts
from irmas_dist.storage.locks import lock_directory
from irmas_dist.terminal import say

RECORD = "rendering.json"
"""File at the root of a twin that states what its audio was made from."""

RENDERER = (
    "corpus.archives",
    "corpus.catalogue",
    "corpus.csv_tables",
    "corpus.groups",
    "corpus.irmas",
    "corpus.names",
    "corpus.openmic",
    "rendering.band",
    "rendering.general_midi",
    "rendering.irmas_twin",
    "rendering.openmic_twin",
    "rendering.performance",
    "rendering.recordings",
    "rendering.render",
    "rendering.sound_files",
    "rendering.soundfont",
    "rendering.synthesis",
)
"""Modules that the audio depends on: when one changes, a twin is rendered again."""


class TwinSettings(SoundSettings):
    """The data set to render a twin of, and how much of it."""

    dataset: Literal["irmas", "openmic"] = "irmas"
    """IRMAS, or another data set in its shape, or OpenMIC-2018."""
    catalogue: Path | None = None
    """Directory with ``training.csv`` and ``testing.csv``. None: the catalogue of IRMAS."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the recordings of each instrument and of the test songs; at least one of each."""


@dataclass(frozen=True)
class _Plan:
    """What a twin consists of, apart from its sound."""

    recordings: Sequence[Recording]
    vocabulary: Vocabulary
    source: str  # all that its audio depends on, whatever the fraction
    finish: Callable[[Path], None] | None = None  # writes what a tree has besides recordings


def render_twin(out: Path, settings: TwinSettings) -> RenderSummary:
    """Render a twin, or its missing files.

    The same settings give the same bytes, whatever the number of workers and interruptions.

    Args:
        out: Root of the tree; created unless it exists.
        settings: What to render.

    Raises:
        IrmasError: The catalogue is wrong, a soundfont or a package is missing, or the target
            cannot be written or holds audio that is not of this twin.
    """
    plan = _plan(settings)
    with lock_directory(out):
        refuse_other_audio(out, plan.recordings)
        _match_record(out, plan.recordings, _provenance(settings, plan.source))
        missing = [recording for recording in plan.recordings if not _is_complete(out, recording)]
        if missing:
            missing.sort(key=lambda recording: -sum(clip.duration_s for clip in recording.clips))
            render_recordings(out, missing, settings, plan.vocabulary)
        if plan.finish:
            plan.finish(out)
    return summarise_rendering(out, plan.recordings, missing)


def _plan(settings: TwinSettings) -> _Plan:
    if settings.dataset == "openmic":
        clips = openmic_clips(settings.fraction, settings.seed)
        return _Plan(
            openmic_recordings(clips, settings.seed),
            OPENMIC,
            "OpenMIC-2018",
            lambda out: write_tables(out, clips),
        )
    entries = read_catalogue(settings.catalogue)
    return _Plan(
        irmas_recordings(entries, settings.fraction, settings.seed),
        IRMAS,
        repr(sorted(map(repr, entries))),
    )


def _provenance(settings: TwinSettings, source: str) -> dict[str, Any]:
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
        "catalogue": hashlib.sha256(source.encode()).hexdigest(),
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
    elif found := existing_audio(out):
        say(f"rendering {len(found):,} files of {out} again: soundfont, seed or renderer differ")
    for recording in recordings:
        for clip in recording.clips:
            (out / clip.path).unlink(missing_ok=True)
    storage.write_json(record, provenance)


def _is_complete(out: Path, recording: Recording) -> bool:
    """Return whether all files of a recording exist, in a tree that matches its record."""
    for clip in recording.clips:
        path = out / clip.path
        if not path.is_file():
            return False
        if path.suffix == ".wav" and path.stat().st_size != wav_bytes(clip.duration_s):
            return False
        labels = path.with_suffix(".txt")
        if recording.label_files and (
            not labels.is_file() or labels.read_bytes() != label_file(clip)
        ):
            return False
    return True
