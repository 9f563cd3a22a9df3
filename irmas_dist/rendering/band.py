"""The band of a recording: its players and instruments, and the key and room of its music."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from irmas_dist.rendering.general_midi import (
    BACKING,
    CYMBALS,
    DRUM_KITS,
    DRUMS,
    KICK,
    RIDE,
    Texture,
    playable,
)

MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (1, 4, 0, 0), (0, 4, 5, 3), (5, 3, 0, 4), (0, 3, 0, 4))
"""Scale degrees of the roots of the chords, one per bar of four beats."""


@dataclass(frozen=True)
class Player:
    """A musician with an instrument, the same throughout a recording."""

    code: str  # of the instrument; "drums" for the drummer without a label
    program: int  # General MIDI program, or the number of the drum kit
    lowest: int  # lowest MIDI note of the register in use
    highest: int  # highest MIDI note of that register
    texture: Texture
    busy: float  # 0 for long notes, 1 for short ones
    legato: float  # share of its duration that a note sounds
    swell_db: float  # gain in level from a note's beginning to its end
    release_s: float  # time in which a released note dies away
    vibrato_cents: float  # depth of the vibrato to either side
    vibrato_hz: float  # its rate
    brightness: float  # -1 (dull) to 1 (shrill): share of a sample subtracted from the next
    pan: float  # -1 for left, 1 for right
    level_db: float  # RMS in the mix, relative to the other players
    kit: tuple[int, ...] = ()  # MIDI notes of the drums that a drummer plays


@dataclass(frozen=True)
class Band:
    """What all passages of one recording share."""

    players: dict[str, Player]  # of the labelled instruments, by code
    backing: tuple[Player, ...]  # of other instruments, quieter
    drummer: Player | None
    groove: str  # genre of the drum pattern
    scale: tuple[int, ...]  # pitch classes (0 to 11), from the tonic upwards
    progression: tuple[int, ...]  # scale degree of the chord of each bar, repeated
    beat_s: float  # duration of a beat
    tuning_cents: float  # deviation of the whole band from A = 440 Hz
    reverberation_s: float  # time in which the echo of the room falls by 60 dB
    wet_db: float  # energy of the room's echo relative to the direct sound
    room_seed: int  # of the room's echo
    noise_db: float  # RMS of the background noise relative to the music
    soundfont: str  # path of the prepared soundfont


def form_band(
    instruments: Sequence[str],
    rng: np.random.Generator,
    soundfont: str,
    *,
    drums: bool,
    groove: str = "pop_roc",
    backing: Collection[str] = BACKING,
) -> Band:
    """Form the band of one recording or song.

    Args:
        instruments: Codes of the labelled instruments, each once.
        rng: Source of every choice.
        soundfont: Path of a soundfont from `soundfont.prepared_soundfonts`.
        drums: Whether a drummer plays along.
        groove: Genre of the drum pattern, one of `performance.GROOVES`.
        backing: Codes of instruments that may play along quietly without a label.

    Raises:
        IrmasError: There is no General MIDI program for one of the instruments.
    """
    players = {code: _player(code, rng, level_db=(-4, 4)) for code in instruments}
    mode = MODES[str(rng.choice(list(MODES)))]
    tonic = int(rng.integers(12))
    return Band(
        players=players,
        backing=tuple(
            _player(code, rng, level_db=(-22, -11)) for code in backing if rng.random() < 0.3
        ),
        drummer=_drummer(rng) if drums else None,
        groove=groove,
        scale=tuple((tonic + step) % 12 for step in mode),
        progression=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
        beat_s=60 / rng.uniform(66, 152),
        tuning_cents=rng.normal(0, 8),
        reverberation_s=rng.uniform(0.2, 1.2),
        wet_db=rng.uniform(-22, -5),
        room_seed=int(rng.integers(2**31)),
        noise_db=rng.uniform(-70, -45),
        soundfont=soundfont,
    )


def _player(code: str, rng: np.random.Generator, level_db: tuple[float, float]) -> Player:
    instrument = playable(code)
    program = int(rng.choice(list(instrument.ranges)))
    lowest, highest = instrument.ranges[program]
    width = min(int(rng.integers(14, 27)), highest - lowest)
    lowest = int(rng.integers(lowest, highest - width + 1))
    return Player(
        code=code,
        program=program,
        lowest=lowest,
        highest=lowest + width,
        texture=instrument.textures[rng.integers(len(instrument.textures))],
        busy=rng.random(),
        legato=rng.uniform(0.5, 1.0),
        swell_db=rng.normal(0, 2.5),
        release_s=instrument.release_s * rng.uniform(0.3, 1.0),
        vibrato_cents=instrument.vibrato_cents * rng.random(),
        vibrato_hz=rng.uniform(4.5, 6.5),
        brightness=rng.uniform(-0.6, 0.5),
        pan=rng.uniform(-0.7, 0.7),
        level_db=rng.uniform(*level_db),
        kit=instrument.kit,
    )


def _drummer(rng: np.random.Generator) -> Player:
    return Player(
        code="drums",
        program=DRUM_KITS[rng.integers(len(DRUM_KITS))],
        lowest=KICK,
        highest=RIDE,
        texture="melody",
        busy=rng.random(),
        legato=1.0,
        swell_db=0.0,
        release_s=0.1,
        vibrato_cents=0.0,
        vibrato_hz=1.0,
        brightness=rng.uniform(-0.5, 0.5),
        pan=rng.uniform(-0.1, 0.1),
        level_db=rng.uniform(-16, -4),
        kit=DRUMS + CYMBALS,
    )
