"""Renders an IRMAS-shaped tree of audio from soundfonts: a stand-in for IRMAS.

It has IRMAS's folders, file names, labels and formats, so every later stage reads it like
IRMAS. It is not realistic: one synthesizer, improvised music, and labels that are always right.
A score on it compares recipes with each other, never with published results.
"""

import signal
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

from pydantic import Field

from irmas_dist import storage, terminal
from irmas_dist.config.base import Settings
from irmas_dist.corpus.audio_files import audio_in
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.rendering.band import form_band
from irmas_dist.rendering.general_midi import BACKING, playable
from irmas_dist.rendering.recordings import (
    Clip,
    Recording,
    generator,
    song_recordings,
    training_recordings,
)
from irmas_dist.rendering.sound_files import encode, label_file
from irmas_dist.rendering.soundfont import prepared_soundfonts
from irmas_dist.rendering.synthesis import render_passage
from irmas_dist.storage.locks import lock_directory


class SoundSettings(Settings):
    """Soundfonts, seed and processes of a rendering."""

    soundfonts: tuple[Path, ...] = ()
    """General MIDI soundfonts (.sf2), one per recording; empty for pretty_midi's TimGM6mb."""
    seed: int = Field(default=0, ge=0)
    """Seed of all music and sound: the same seed renders the same bytes."""
    workers: int | None = Field(default=None, ge=1)
    """Processes to render with. None: one per core."""


class RenderSettings(SoundSettings):
    """How much audio to render, and how."""

    recordings: int = Field(default=20, ge=0)
    """Training recordings per instrument."""
    clips_per_recording: int = Field(default=3, ge=1)
    """Training clips of 3 s from each recording."""
    songs: int = Field(default=40, ge=0)
    """Test songs."""
    excerpts_per_song: int = Field(default=3, ge=1)
    """Test excerpts of 5 to 20 s from each song."""
    drums_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training recordings and of test songs with drums."""


@dataclass(frozen=True)
class RenderSummary:
    """Counts and sizes of a rendered tree."""

    path: Path  # its root
    training_files: int
    testing_files: int
    audio_s: float
    bytes: int
    kept_files: int = 0  # existing files that were not rendered again


def render(out: Path, settings: RenderSettings, vocabulary: Vocabulary = IRMAS) -> RenderSummary:
    """Render a tree of audio in the shape of IRMAS.

    The same settings give the same bytes, whatever the number of workers.

    Args:
        out: Root of the tree; created unless it exists.
        settings: How much to render.
        vocabulary: The instruments, each of which must be in `general_midi.PLAYABLE`.

    Raises:
        IrmasError: An instrument cannot be rendered, a soundfont or a package is missing, or
            the target cannot be written or holds other audio.
    """
    for code in vocabulary.codes:
        playable(code)  # raises before anything is written
    common = settings.drums_share, settings.seed
    recordings = [
        # Songs take longest: started first, none keeps a single process busy at the end.
        *song_recordings(vocabulary, settings.songs, settings.excerpts_per_song, *common),
        *training_recordings(
            vocabulary, settings.recordings, settings.clips_per_recording, *common
        ),
    ]
    with lock_directory(out):
        refuse_other_audio(out, recordings)
        render_recordings(out, recordings, settings, vocabulary)
    return summarise_rendering(out, recordings, recordings)


def summarise_rendering(
    out: Path, recordings: Sequence[Recording], rendered: Sequence[Recording]
) -> RenderSummary:
    """Summarise a tree of recordings, of which some were rendered and others existed."""
    clips = [clip for recording in recordings for clip in recording.clips]
    testing = sum(len(recording.clips) for recording in recordings if recording.testing)
    return RenderSummary(
        path=out,
        training_files=len(clips) - testing,
        testing_files=testing,
        audio_s=sum(clip.duration_s for clip in clips),
        bytes=sum((out / clip.path).stat().st_size for clip in clips),
        kept_files=len(clips) - sum(len(recording.clips) for recording in rendered),
    )


def render_recordings(
    out: Path, recordings: Sequence[Recording], settings: SoundSettings, vocabulary: Vocabulary
) -> None:
    """Render recordings in parallel, quickest if the longest come first.

    Instruments of the vocabulary never play without a label. Errors are those of `render`.
    """
    import joblib  # which the processes that render do without

    labelled = {
        program
        for code in vocabulary.codes
        if not playable(code).kit
        for program in playable(code).ranges
    }
    backing = tuple(code for code in BACKING if labelled.isdisjoint(playable(code).ranges))
    files = sum(len(recording.clips) for recording in recordings)
    workers = min(settings.workers or joblib.cpu_count(), max(1, len(recordings)))
    with (
        prepared_soundfonts(settings.soundfonts) as soundfonts,
        terminal.progress("render", files, "files") as advance,
    ):
        storage.make_directory(out)
        job = partial(
            _render_recording, out=out, seed=settings.seed, soundfonts=soundfonts, backing=backing
        )
        for recording in _in_processes(job, recordings, workers):
            advance(len(recording.clips))


def _render_recording(
    recording: Recording,
    out: Path,
    seed: int,
    soundfonts: tuple[str, ...],
    backing: tuple[str, ...],
) -> None:
    """Write the clips of a recording, with their label files."""
    rng = generator(seed, recording.key, "band")
    band = form_band(
        sorted({code for clip in recording.clips for code in clip.instruments}),
        rng,
        soundfonts[rng.integers(len(soundfonts))],
        drums=recording.drums,
        groove=recording.genre,
        backing=backing,
    )
    passages: dict[int, list[Clip]] = defaultdict(list)
    for clip in recording.clips:
        passages[clip.passage].append(clip)
    for number, clips in passages.items():
        rng = generator(seed, recording.key, f"clip {number}")
        instruments = list(dict.fromkeys(code for clip in clips for code in clip.instruments))
        audio = render_passage(band, instruments, clips[0].duration_s, rng)
        file = encode(audio, PurePosixPath(clips[0].path).suffix)
        for clip in clips:
            if recording.label_files:
                with storage.write_atomically((out / clip.path).with_suffix(".txt")) as stream:
                    stream.write(label_file(clip))
            with storage.write_atomically(out / clip.path) as stream:
                stream.write(file)


def _in_processes(
    job: Callable[[Recording], None], recordings: Sequence[Recording], workers: int
) -> Iterator[Recording]:
    """Do a job for every recording in ``workers`` processes; yield each when it is done."""
    if workers == 1:
        for recording in recordings:
            job(recording)
            yield recording
        return
    # Not fork: Ray, Arrow and the progress bar have threads, which can deadlock a fork.
    # Ctrl-C, which all processes of a terminal get, must not end one that holds the pool's lock.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    try:
        futures = {pool.submit(job, recording): recording for recording in recordings}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise IrmasError(
            "a rendering process died, perhaps for lack of memory; use fewer workers, "
            "or a single one, which renders in this process"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_other_audio(out: Path, recordings: Sequence[Recording]) -> None:
    """Raise an `IrmasError` if a tree has other audio, which would pass for one of the clips."""
    expected = {clip.path for recording in recordings for clip in recording.clips}
    for path in existing_audio(out):
        if path not in expected:
            raise IrmasError(
                f"{out} already holds other audio, such as {path}: render into an empty directory"
            )


def existing_audio(out: Path) -> list[str]:
    """Return the paths of the audio files in a tree, relative to it, in Unicode NFD."""
    found = audio_in(out) if out.is_dir() else []
    return [unicodedata.normalize("NFD", path) for path in found]
