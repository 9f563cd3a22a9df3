"""The recordings of a twin of IRMAS: each of its files, under its path and with its labels."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from irmas_dist.corpus.catalogue import CatalogueEntry
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.irmas import DRUMS_SHARE, EXCERPT_S, GENRES, TRAINING_CLIP_S
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, recording_of, song_of
from irmas_dist.rendering.performance import GROOVES
from irmas_dist.rendering.recordings import Clip, Recording, draw_weighted, generator


def irmas_recordings(
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
    return Recording(key, tuple(clips), drums, genre, not training, testing=not training)


def _stem(entry: CatalogueEntry) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(entry.path).stem)
