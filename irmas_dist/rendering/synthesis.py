"""Synthesis: events to audio through a soundfont, with expression, a room and a mix.

symusic's synthesizer is fast and basic: it ignores velocity, controllers and pitch bend, and
ends notes abruptly. So every voice is synthesised separately, and loudness, release, vibrato,
tuning, pan and room are applied to its audio here.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from irmas_dist.errors import IrmasError
from irmas_dist.rendering.band import Band, Player
from irmas_dist.rendering.performance import Event, perform
from irmas_dist.rendering.soundfont import SAMPLE_RATE, load_soundfont

LEAD_IN_S = 1.0
"""A clip begins in the middle of the music: up to this much is played before it and discarded."""

TAIL_S = 0.5
"""Played beyond the end of a passage, because a band tuned high reads its audio faster."""

FADE_S = 0.003
"""Shortest time in which a note dies away; a shorter one clicks."""

ECHO_BLOCK = 1 << 16
"""FFT size of the echo, which lasts half as long: 0.74 s."""

BEND_BLOCK = 1 << 14
"""Samples per block of pitch bending, to fit the processor's cache."""

SILENCE = 1e-6
"""RMS below which audio is inaudible."""

Audio = npt.NDArray[np.float32]
"""Samples at `SAMPLE_RATE`; full scale is 1."""


def render_passage(
    band: Band, instruments: Sequence[str], duration_s: float, rng: np.random.Generator
) -> Audio:
    """Perform, synthesise and mix a passage of a recording.

    Args:
        band: The band, from `band.form_band`.
        instruments: Codes of the labelled players who take part, at least one.
        duration_s: Length of the audio in seconds.
        rng: Source of every choice.

    Returns:
        Stereo, shape (2, samples), with an absolute peak from 0.3 to 0.98.

    Raises:
        IrmasError: As `render_stems`.
    """
    first = round(rng.uniform(0.2, LEAD_IN_S) * SAMPLE_RATE)
    passage = slice(first, first + round(duration_s * SAMPLE_RATE))
    samples = round((LEAD_IN_S + duration_s + TAIL_S) * SAMPLE_RATE)
    mix = np.zeros((2, samples), dtype=np.float32)
    for player, stem in render_stems(band, instruments, samples, passage, rng):
        for channel, gain in zip(mix, _pan(player.pan), strict=True):
            channel += stem * gain
    mix += _echo(mix.mean(axis=0), _room(band.room_seed, band.reverberation_s, band.wet_db))
    mix = mix[:, passage]
    noise = rng.random(mix.shape, dtype=np.float32) - np.float32(0.5)
    mix += noise * np.float32(_rms(mix) * _amplitude(band.noise_db) / _rms(noise))
    mix *= np.float32(rng.uniform(0.3, 0.98) / np.abs(mix).max())
    return mix


def render_stems(
    band: Band, instruments: Sequence[str], samples: int, passage: slice, rng: np.random.Generator
) -> Iterator[tuple[Player, Audio]]:
    """Perform and yield each player's audio for the mix: mono, without echo.

    Within the passage the RMS of a stem is its player's ``level_db``: the labelled instruments
    are within 8 dB of each other, and backing and drums are quieter.

    Args:
        band: The band.
        instruments: Codes of the labelled players who take part.
        samples: Length of the audio.
        passage: The part of the audio that goes into the clip.
        rng: Source of every choice.

    Yields:
        A player and audio of shape (samples,): the labelled players in the order of
        ``instruments``, then the backing and the drummer.

    Raises:
        IrmasError: symusic is not installed, or the soundfont has no sound for an instrument.
    """
    for player, events in perform(band, instruments, samples / SAMPLE_RATE, rng):
        stem = _synthesise(band.soundfont, player, events, samples)
        stem = _bend(stem, player, band.tuning_cents, rng)
        stem[1:] -= player.brightness * stem[:-1]
        rms = _rms(stem[passage])
        if rms < SILENCE:
            raise IrmasError(
                f"soundfont {Path(band.soundfont).name} has no sound for {player.code!r} "
                f"(General MIDI program {player.program}): use a General MIDI soundfont"
            )
        stem *= np.float32(_amplitude(player.level_db) / rms)
        yield player, stem


def _synthesise(soundfont: str, player: Player, events: list[Event], samples: int) -> Audio:
    """Return a player's voices, shaped one by one and added up: mono, shape (samples,)."""
    import symusic

    is_drum = bool(player.kit)
    synthesizer = load_soundfont(soundfont, player.program, is_drum)
    audio = np.zeros(samples, dtype=np.float32)
    for voice in sorted({event.voice for event in events}):
        own = [event for event in events if event.voice == voice]
        limits = [event.start_s for event in own[1:]] + [samples / SAMPLE_RATE + TAIL_S]
        track = symusic.Track("", player.program, is_drum, ttype="second")
        for event, limit_s in zip(own, limits, strict=True):
            ringing_s = min(event.end_s + player.release_s, limit_s) - event.start_s
            for pitch in event.pitches:
                track.notes.append(symusic.Note(event.start_s, ringing_s, pitch, 100, "second"))
        score = symusic.Score(480, ttype="second")
        score.tracks.append(track)
        sound = synthesizer.render(score, stereo=False)[0, :samples]
        for event, limit_s in zip(own, limits, strict=True):
            _shape(sound, event, limit_s, player)
        audio[: len(sound)] += sound
    return audio


def _shape(sound: Audio, event: Event, limit_s: float, player: Player) -> None:
    """Apply an event's loudness, swell and release to its part of a voice, in place."""
    end_s = min(event.end_s, limit_s - FADE_S)
    silent_s = min(end_s + max(FADE_S, player.release_s), limit_s)
    start, end, silent, limit = (
        round(s * SAMPLE_RATE) for s in (event.start_s, end_s, silent_s, limit_s)
    )
    level = _amplitude(event.level_db)
    swollen = level * _amplitude(player.swell_db)
    _ramp(sound[start:end], level, swollen)
    _ramp(sound[end:silent], swollen, 0.0)
    sound[silent:limit] = 0.0


def _ramp(sound: Audio, first: float, last: float) -> None:
    """Multiply by a linear ramp, in place."""
    slope = (last - first) / max(1, len(sound))
    gain = np.arange(len(sound), dtype=np.float32)
    gain *= np.float32(slope)
    gain += np.float32(first)
    sound *= gain


def _bend(audio: Audio, player: Player, tuning_cents: float, rng: np.random.Generator) -> Audio:
    """Tune and add vibrato, by reading the audio at a varying speed."""
    speed = 2 ** (tuning_cents / 1200)
    angular = 2 * np.pi * player.vibrato_hz / SAMPLE_RATE  # radians per sample
    depth = (2 ** (player.vibrato_cents / 1200) - 1) / angular  # samples
    phase = rng.uniform(0, 2 * np.pi)
    bent = np.empty_like(audio)
    for start in range(0, len(audio), BEND_BLOCK):
        sample = np.arange(start, min(start + BEND_BLOCK, len(audio)))
        at = sample * speed + depth * np.sin((angular * sample + phase).astype(np.float32))
        np.clip(at, 0, len(audio) - 2, out=at)
        below = at.astype(np.intp)
        between = (at - below).astype(np.float32)
        values = audio[below]
        values += between * (audio[below + 1] - values)
        bent[start : start + BEND_BLOCK] = values
    return bent


@lru_cache(maxsize=1)
def _room(seed: int, reverberation_s: float, wet_db: float) -> npt.NDArray[np.complexfloating]:
    """Return the spectrum, shape (2, bins), of a room's echo: decaying noise."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(ECHO_BLOCK // 2) / SAMPLE_RATE
    echo = rng.standard_normal((2, len(seconds))) * 10 ** (-3 * seconds / reverberation_s)
    echo *= _amplitude(wet_db) / np.sqrt(np.square(echo).sum(axis=1, keepdims=True))
    return np.fft.rfft(echo.astype(np.float32), ECHO_BLOCK)


def _echo(mono: Audio, room: npt.NDArray[np.complexfloating]) -> Audio:
    """Convolve with a room by overlap-add: blocks in the processor's cache are far quicker."""
    step = ECHO_BLOCK // 2
    echo = np.zeros((2, len(mono) + ECHO_BLOCK), dtype=np.float32)
    for start in range(0, len(mono), step):
        spectrum = np.fft.rfft(mono[start : start + step], ECHO_BLOCK)
        echo[:, start : start + ECHO_BLOCK] += np.fft.irfft(spectrum * room)
    return echo[:, : len(mono)]


def _pan(pan: float) -> tuple[np.float32, np.float32]:
    """Return the gains of left and right, of equal total power at every position."""
    angle = (pan + 1) * np.pi / 4
    return np.float32(np.cos(angle)), np.float32(np.sin(angle))


def _amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _rms(audio: Audio) -> float:
    return float(np.sqrt(np.mean(np.square(audio), dtype=np.float64)))
