"""Facts about IRMAS: its archives, folders, durations and counts.

Counts are taken from the catalogue of the data set, in about 0.1 s.

Under the 2,261 recording IDs of the training part are 2,242 recordings: 56 pairs of its files
are identical under two different IDs, and 9 of them are labelled differently, as are 10 pairs of
identical test excerpts.
"""

from collections import Counter
from pathlib import PurePosixPath

from irmas_dist.corpus.archives import Archive
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name
from irmas_dist.instruments import IRMAS

ARCHIVES = tuple(
    Archive(name, md5, part, 1290750)
    for name, md5, part in (
        ("IRMAS-TrainingData.zip", "4fd9f5ed5a18d8e2687e6360b5f60afe", TRAINING),
        ("IRMAS-TestingData-Part1.zip", "5a2e65520dcedada565dff2050bb2a56", TESTING),
        ("IRMAS-TestingData-Part2.zip", "afb0c8ea92f34ee653693106be95c895", TESTING),
        ("IRMAS-TestingData-Part3.zip", "9b3fb2d0c89cdc98037121c25bd5b556", TESTING),
    )
)

TRAINING_FOLDER = ARCHIVES[0].folder
"""Folder of the training part, with a folder for each instrument."""

TRAINING_CLIP_S = 3.0
"""Duration of every training clip, in seconds."""

EXCERPT_S = (5.0, 20.0)
"""Shortest and longest test excerpt, in seconds."""

_catalogue = read_catalogue()
_excerpts = [entry for entry in _catalogue if entry.part == TESTING]
_stems = [PurePosixPath(entry.path).stem for entry in _catalogue if entry.part == TRAINING]
_names = [name for stem in _stems if (name := parse_training_name(stem))]
_drums = Counter((name.genre, name.drums) for name in _names)
_labels = Counter(code for entry in _excerpts for code in entry.instruments)

TESTING_FOLDERS = tuple(sorted({str(PurePosixPath(entry.path).parent) for entry in _excerpts}))
"""Folders of the test excerpts."""

TEST_EXCERPTS = len(_excerpts)
"""Number of test excerpts. Only scores of all of them compare with published ones."""

TEST_LABELS = {code: _labels[code] for code in IRMAS.codes}
"""Test excerpts by instrument."""

INSTRUMENTS_PER_EXCERPT = dict(sorted(Counter(len(e.instruments) for e in _excerpts).items()))
"""Test excerpts by number of instruments: 1 to 5."""

GENRES = dict(Counter(name.genre for name in _names).most_common())
"""Training clips by genre."""

DRUMS_ANNOTATED = sum(not stem.startswith("[") for stem in _stems) / len(_stems)
"""Share of the training clips with a tag for drums in their names, ``[---]`` for unknown included.
Their names begin with a number, all others with the tag of the instrument."""

DRUMS_SHARE = {
    genre: _drums[genre, True] / (_drums[genre, True] + _drums[genre, False]) for genre in GENRES
}
"""Share of the training clips with drums, by genre, among those with a known tag."""
