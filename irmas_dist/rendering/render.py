"""Renders an IRMAS-shaped tree of real audio from soundfonts: a stand-in for IRMAS.

It has IRMAS's folders, file names, labels and formats, so every later stage reads it as it
reads IRMAS. What it gives up is realism: one synthesizer, improvised music, and labels that
are always right. A score on it compares recipes with each other, never with published ones.
"""

import io
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile as sf
from pydantic import Field

from irmas_dist import storage, terminal
from irmas_dist.config.base import Settings
from irmas_dist.corpus.audio_files import AUDIO_SUFFIXES
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.rendering.band import form_band
from irmas_dist.rendering.general_midi import BACKING, playable
from irmas_dist.rendering.recordings import Clip, Recording, generator, plan_testing, plan_training
from irmas_dist.rendering.soundfont import SAMPLE_RATE, prepared_soundfonts
from irmas_dist.rendering.synthesis import Audio, render_passage


class SoundSettings(Settings):
    """What to render with."""

    soundfonts: tuple[Path, ...] = ()
    """General MIDI soundfonts (.sf2); each recording takes one. None: pretty_midi's TimGM6mb."""

    seed: int = Field(default=0, ge=0)
    """Seed of all music and sound; the same seed gives the same bytes."""

    workers: int | None = Field(default=None, ge=1)
    """Processes to render with. None: one for each core."""


class RenderSettings(SoundSettings):
    """How much audio to render, and with what."""

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
    """What was rendered.

    Attributes:
        path: Root of the tree.
        training_files: Number of training clips.
        testing_files: Number of test excerpts.
        audio_s: Duration of all of them, in seconds.
        bytes: Size of all of them.
        kept_files: Number of those that were there already and were not rendered again.
    """

    path: Path
    training_files: int
    testing_files: int
    audio_s: float
    bytes: int
    kept_files: int = 0


def render(out: Path, settings: RenderSettings, vocabulary: Vocabulary = IRMAS) -> RenderSummary:
    """Render a tree of audio in the shape of IRMAS.

    Rendering again with the same settings gives the same bytes, whatever the number of
    workers.

    Args:
        out: Root of the tree; created unless it exists.
        settings: How much to render.
        vocabulary: The instruments, each of which must be in `general_midi.PLAYABLE`.

    Raises:
        IrmasError: An instrument cannot be rendered, a soundfont or a package is missing, or
            the target cannot be written or holds files that are not of this rendering.
    """
    for code in vocabulary.codes:
        playable(code)  # before anything is written
    common = settings.drums_share, settings.seed
    training = plan_training(vocabulary, settings.recordings, settings.clips_per_recording, *common)
    testing = plan_testing(vocabulary, settings.songs, settings.excerpts_per_song, *common)
    refuse_strangers(out, [*training, *testing])
    # Songs take longest: begun first, they do not keep one process busy at the end.
    size = render_recordings(out, [*testing, *training], settings, vocabulary)
    return RenderSummary(
        path=out,
        training_files=sum(len(recording.clips) for recording in training),
        testing_files=sum(len(recording.clips) for recording in testing),
        audio_s=sum(c.duration_s for recording in [*training, *testing] for c in recording.clips),
        bytes=size,
    )


def render_recordings(
    out: Path, recordings: Sequence[Recording], settings: SoundSettings, vocabulary: Vocabulary
) -> int:
    """Render recordings in parallel, and return the size of their audio files in bytes.

    Args:
        out: Root of the tree; created unless it exists.
        recordings: What to render.
        settings: What to render them with.
        vocabulary: Instruments that must never play without a label.

    Raises:
        IrmasError: An instrument cannot be rendered, a soundfont or a package is missing, or
            the target cannot be written.
    """
    backing = tuple(code for code in BACKING if code not in vocabulary)
    files = sum(len(recording.clips) for recording in recordings)
    workers = min(settings.workers or os.cpu_count() or 1, max(1, len(recordings)))
    size = 0
    with (
        prepared_soundfonts(settings.soundfonts) as soundfonts,
        terminal.progress("render", files, "files") as advance,
    ):
        storage.make_directory(out)
        job = partial(
            _render_recording, out=out, seed=settings.seed, soundfonts=soundfonts, backing=backing
        )
        for recording, written in _each(job, recordings, workers):
            size += written
            advance(len(recording.clips))
    return size


def _render_recording(
    recording: Recording,
    out: Path,
    seed: int,
    soundfonts: tuple[str, ...],
    backing: tuple[str, ...],
) -> int:
    """Write a recording's clips and return the size of their audio in bytes."""
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
    size = 0
    for number, clips in passages.items():
        rng = generator(seed, recording.key, f"clip {number}")
        instruments = list(dict.fromkeys(code for clip in clips for code in clip.instruments))
        audio = _wav(render_passage(band, instruments, clips[0].duration_s, rng))
        for clip in clips:
            if recording.label_files:
                with storage.write_atomically((out / clip.path).with_suffix(".txt")) as stream:
                    stream.write(label_file(clip))
            with storage.write_atomically(out / clip.path) as stream:
                stream.write(audio)
            size += len(audio)
    return size


def _each(
    job: Callable[[Recording], int], recordings: Sequence[Recording], workers: int
) -> Iterator[tuple[Recording, int]]:
    """Do a job for every recording, in as many processes as there are workers."""
    if workers == 1:
        yield from ((recording, job(recording)) for recording in recordings)
        return
    # Not fork: Ray, Arrow and the progress bar have threads, which forks may deadlock on.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(job, recording): recording for recording in recordings}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise IrmasError(
            "a rendering process died, perhaps for lack of memory: use fewer workers, "
            "or a single one, which renders in this process"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_strangers(out: Path, recordings: Sequence[Recording]) -> None:
    """Refuse a tree with audio of something else: it would pass for part of this one.

    Raises:
        IrmasError: There is an audio file below ``out`` that is none of the recordings' clips.
    """
    expected = {clip.path for recording in recordings for clip in recording.clips}
    for path in audio_files(out):
        if path not in expected:
            raise IrmasError(
                f"{out} already holds other audio, such as {path}: render into an empty directory"
            )


def audio_files(tree: Path) -> Iterator[str]:
    """Yield the paths of the audio files in a tree, relative to it, in Unicode NFD.

    What is hidden is left out: macOS leaves ``._name.wav`` beside real files.
    """
    for name in storage.list_files(tree, recursive=True):
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not hidden:
            yield unicodedata.normalize("NFD", name)


def label_file(clip: Clip) -> bytes:
    """Return a clip's label file, in IRMAS's odd format."""
    return "".join(f"{code}\t\n" for code in clip.instruments).encode()


def wav_bytes(duration_s: float) -> int:
    """Return the size of a rendered file of this duration, in bytes."""
    return 44 + 4 * round(duration_s * SAMPLE_RATE)


def _wav(audio: Audio) -> bytes:
    """Return stereo audio of shape (2, samples) as a 16-bit PCM WAV file."""
    file = io.BytesIO()
    samples = np.round(audio.T * 32767).astype(np.int16)
    sf.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
