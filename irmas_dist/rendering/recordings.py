"""The recordings, songs and files of a rendered tree, with names and labels as in IRMAS."""

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.corpus.irmas import (
    DRUMS_ANNOTATED,
    EXCERPT_S,
    GENRES,
    INSTRUMENTS_PER_EXCERPT,
    TEST_LABELS,
    TESTING_FOLDERS,
    TRAINING_CLIP_S,
    TRAINING_FOLDER,
)
from irmas_dist.instruments import Vocabulary
from irmas_dist.rendering.performance import GROOVES

TITLES = (
    "{number:02d} {words}",
    "{number:02d}. Don't {words}",
    "{words} - Añoranza #{number}",
    "{number:02d} - {words} [live], Op. {number}",
    "Débussy, {words} & {number}",
    "{words}_{number}",
)
"""File names of songs as they occur in IRMAS, with every character that is easily mishandled."""

WORDS = ("blue", "river", "night", "gone", "train", "summer", "lonely", "window", "gold", "waltz")


@dataclass(frozen=True)
class Clip:
    """An audio file to render.

    Clips of one passage of a recording are the same bytes, with every instrument that any of
    them is labelled with.
    """

    path: str  # relative to the root of the tree
    instruments: tuple[str, ...]  # codes of its labels, all of which play in it
    duration_s: float
    passage: int  # number of the passage within its recording


@dataclass(frozen=True)
class Recording:
    """Clips in which the same band plays: a training recording or a test song."""

    key: str  # with the seed, determines its music and sound
    clips: tuple[Clip, ...]
    drums: bool  # whether there are drums in them
    genre: str  # one of `irmas.GENRES`
    label_files: bool  # whether each clip has a label file, as in IRMAS's test part
    testing: bool = False  # whether its clips are of the testing part


def training_recordings(
    vocabulary: Vocabulary, recordings: int, clips: int, drums_share: float, seed: int
) -> list[Recording]:
    """Return training recordings of one instrument each, under file names as in IRMAS.

    Args:
        vocabulary: The instruments.
        recordings: Recordings per instrument.
        clips: Clips per recording.
        drums_share: Share of the recordings with drums.
        seed: Seed of every choice.
    """
    planned = []
    for column, code in enumerate(vocabulary.codes):
        for index in range(recordings):
            key = f"training/{code}/{index}"
            rng = generator(seed, key)
            drums = bool(rng.random() < drums_share)
            genre = _genre(rng, drums)
            name = f"[{code}][{genre}]{column * recordings + index + 1:04d}"
            if rng.random() < DRUMS_ANNOTATED:
                annotation = "[dru]" if drums else "[nod]"
                name = f"{index + 1:03d}__" + name.replace("]", "]" + annotation, 1)
            path = f"{TRAINING_FOLDER}/{code}/{name}"
            passages = tuple(
                Clip(f"{path}__{passage + 1}.wav", (code,), TRAINING_CLIP_S, passage)
                for passage in range(clips)
            )
            planned.append(Recording(key, passages, drums, genre, label_files=False))
    return planned


def song_recordings(
    vocabulary: Vocabulary, songs: int, excerpts: int, drums_share: float, seed: int
) -> list[Recording]:
    """Return test songs, whose excerpts have one to five instruments, distributed as in IRMAS.

    Args:
        vocabulary: The instruments; all equally frequent unless all are IRMAS's.
        songs: Number of songs.
        excerpts: Excerpts per song.
        drums_share: Share of the songs with drums.
        seed: Seed of every choice.
    """
    popularity = np.ones(len(vocabulary))
    if all(code in TEST_LABELS for code in vocabulary.codes):
        popularity = np.array([float(TEST_LABELS[code]) for code in vocabulary.codes])
    popularity /= popularity.sum()
    planned = []
    for number in range(1, songs + 1):
        key = f"testing/{number}"
        rng = generator(seed, key)
        drums = bool(rng.random() < drums_share)
        genre = _genre(rng, drums)
        path = f"{TESTING_FOLDERS[0]}/{_title(number, rng)}"
        sizes = np.minimum(draw_weighted(rng, INSTRUMENTS_PER_EXCERPT, excerpts), len(vocabulary))
        band = rng.choice(vocabulary.codes, size=sizes.max(), replace=False, p=popularity)
        passages = tuple(
            Clip(
                f"{path}-{passage + 1}.wav",
                tuple(str(code) for code in sorted(rng.choice(band, size=size, replace=False))),
                round(rng.uniform(*EXCERPT_S), 1),
                passage,
            )
            for passage, size in enumerate(sizes)
        )
        planned.append(Recording(key, passages, drums, genre, label_files=True, testing=True))
    return planned


def generator(seed: int, *key: str) -> np.random.Generator:
    """Return the random generator of one item, independent of all other items."""
    return np.random.default_rng([seed, *"/".join(key).encode()])


def _title(number: int, rng: np.random.Generator) -> str:
    words = " ".join(rng.choice(WORDS, size=2, replace=False))
    title = TITLES[number % len(TITLES)].format(number=number, words=words)
    # IRMAS's names were written on a Mac, whose file system decomposes accented letters.
    return unicodedata.normalize("NFD", title)


def _genre(rng: np.random.Generator, drums: bool) -> str:
    genres = {genre: n for genre, n in GENRES.items() if genre in GROOVES or not drums}
    return str(draw_weighted(rng, genres, 1)[0])


def draw_weighted(rng: np.random.Generator, counts: dict[Any, int], size: int) -> npt.NDArray[Any]:
    """Draw keys in proportion to their counts."""
    chances = np.array(list(counts.values())) / sum(counts.values())
    return rng.choice(list(counts), size=size, p=chances)
