"""Passages of music, improvised for a band with a random generator.

The music is deliberately simple: a key, a tempo, a chord progression, melodies that walk on the
scale, chords, arpeggios and drums, so that pitch, rhythm and register reveal little about the
instrument and its timbre must. It has no form, no themes and no interplay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irmas_dist.rendering.band import Band, Player
from irmas_dist.rendering.general_midi import CLOSED_HAT, KICK, OPEN_HAT, RIDE, SNARE

GROOVES: dict[str, dict[int, str]] = {
    "pop_roc": {
        KICK: "9..2..3.9.2.....",
        SNARE: "....9.......9..1",
        CLOSED_HAT: "9.9.9.9.9.9.9.9.",
    },
    "jaz_blu": {KICK: "7.....2.4.......", SNARE: "..2....3..2....4", RIDE: "9...9..79...9..7"},
    "cou_fol": {
        KICK: "9...5...9...5...",
        SNARE: "....8.......8...",
        CLOSED_HAT: "6.9.6.9.6.9.6.9.",
    },
    "lat_sou": {KICK: "9..99..99..99..9", SNARE: "7..7..7...7.7...", OPEN_HAT: "..9...9...9...9."},
}
"""For each genre and drum, the chance of a stroke on each sixteenth of a bar, in tenths."""


@dataclass(frozen=True)
class Event:
    """One or more notes played together."""

    start_s: float  # time of the onset
    end_s: float  # time of the release
    pitches: tuple[int, ...]  # MIDI notes
    level_db: float  # relative to the player's other events
    voice: int  # an event ends the one before it in its voice; voices sound together


def perform(
    band: Band, instruments: Sequence[str], duration_s: float, rng: np.random.Generator
) -> list[tuple[Player, list[Event]]]:
    """Return a passage: each player's events in order of time.

    Args:
        band: The band.
        instruments: Codes of the players who take part; backing and drums always do.
        duration_s: Duration in seconds.
        rng: Source of every choice.
    """
    chords = [_chord(band, degree) for degree in band.progression]
    first = int(rng.integers(len(chords)))
    chords = chords[first:] + chords[:first]
    passage = []
    for player in (*(band.players[code] for code in instruments), *band.backing):
        if player.kit:
            events = _drums(band, player, duration_s, rng)
        elif player.texture == "melody":
            events = _melody(band, player, chords, duration_s, rng)
        else:
            events = _accompaniment(band, player, chords, duration_s, rng)
        passage.append((player, events))
    if band.drummer:
        passage.append((band.drummer, _drums(band, band.drummer, duration_s, rng)))
    return passage


def _chord(band: Band, degree: int) -> set[int]:
    """Return the pitch classes of the triad on a degree of the scale."""
    return {band.scale[(degree + third) % len(band.scale)] for third in (0, 2, 4)}


def _melody(
    band: Band, player: Player, chords: list[set[int]], duration_s: float, rng: np.random.Generator
) -> list[Event]:
    """Walk on the scale, mostly by step, landing on chord tones where a beat begins."""
    ladder = [p for p in range(player.lowest, player.highest + 1) if p % 12 in band.scale]
    beats = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
    chances = np.exp(-beats * 2.5 * player.busy) * (beats != 0.75) + 0.05
    chances /= chances.sum()
    events: list[Event] = []
    rests = True
    position = int(rng.integers(len(ladder)))
    beat = 0.0
    while beat * band.beat_s < duration_s:
        length = float(rng.choice(beats, p=chances))
        position += int(
            rng.choice([-4, -2, -1, 0, 1, 2, 4], p=[0.06, 0.14, 0.25, 0.1, 0.25, 0.14, 0.06])
        )
        position = abs(position) if position < len(ladder) else 2 * len(ladder) - 2 - position
        position = min(max(position, 0), len(ladder) - 1)
        on_beat = beat == int(beat)
        chord = chords[int(beat / 4) % len(chords)]
        if on_beat and ladder[position] % 12 not in chord:
            position += 1 if position + 1 < len(ladder) else -1
        # Rests are short, and never two in a row: even a short passage must be audible.
        rests = not rests and length <= 1.0 and rng.random() < 0.15
        if not rests:
            start = max(0.0, beat * band.beat_s + rng.normal(0, 0.008))
            end = start + max(0.09, length * band.beat_s * player.legato)
            level = rng.normal(0, 2.0) + (1.5 if on_beat else 0.0)
            events.append(Event(start, end, (ladder[position],), level, len(events) % 2))
        beat += length
    return events


def _accompaniment(
    band: Band, player: Player, chords: list[set[int]], duration_s: float, rng: np.random.Generator
) -> list[Event]:
    """Play the chords, as block chords in a rhythm or as arpeggios."""
    rhythm = [(4.0,), (2.0, 2.0), (1.5, 1.5, 1.0), (1.0,) * 4, (0.5,) * 8][int(player.busy * 4.99)]
    size = int(rng.integers(3, 6))
    events: list[Event] = []
    bar = 0
    while bar * 4 * band.beat_s < duration_s:
        chord = chords[bar % len(chords)]
        tones = [p for p in range(player.lowest, player.highest + 1) if p % 12 in chord]
        lowest = int(rng.integers(max(1, len(tones) - size + 1)))
        voicing = tuple(tones[lowest : lowest + size])
        strokes: list[tuple[float, float, tuple[int, ...]]]  # beat, length, pitches
        if player.texture == "arpeggio":
            step = 0.25 if player.busy > 0.5 and band.beat_s > 0.5 else 0.5
            order = [*voicing, *voicing[-2:0:-1]]
            strokes = [(i * step, step, (order[i % len(order)],)) for i in range(int(4 / step))]
        else:
            starts = [sum(rhythm[:i]) for i in range(len(rhythm))]
            strokes = [(s, length, voicing) for s, length in zip(starts, rhythm, strict=True)]
        for beat, length, pitches in strokes:
            start = max(0.0, (bar * 4 + beat) * band.beat_s + rng.normal(0, 0.006))
            rings = 4 if player.texture == "arpeggio" else 2
            end = start + max(0.12, length * (rings / 2) * band.beat_s * player.legato)
            level = rng.normal(0, 1.5) + (1.5 if beat == int(beat) else 0.0)
            events.append(Event(start, end, pitches, level, len(events) % rings))
        bar += 1
    return [event for event in events if event.start_s < duration_s]


def _drums(band: Band, player: Player, duration_s: float, rng: np.random.Generator) -> list[Event]:
    """Repeat the player's part of the groove, each stroke with its chance, each drum as a voice."""
    sixteenth_s = band.beat_s / 4
    groove = {drum: strokes for drum, strokes in GROOVES[band.groove].items() if drum in player.kit}
    events = []
    for step in range(int(duration_s / sixteenth_s) + 1):
        for voice, (drum, pattern) in enumerate(groove.items()):
            chance = pattern[step % 16]
            if step == 0 or (chance != "." and rng.random() < (int(chance) + 1) / 10):
                start = max(0.0, step * sixteenth_s + rng.normal(0, 0.004))
                events.append(Event(start, start + 0.4, (drum,), rng.normal(0, 2.0), voice))
    return sorted(events, key=lambda event: event.start_s)
