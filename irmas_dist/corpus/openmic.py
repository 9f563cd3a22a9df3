"""Facts about OpenMIC-2018: its archive, files, instruments and numbers of labels.

Humphrey, Durand and McFee, "OpenMIC-2018: An open dataset for multiple instrument recognition",
ISMIR 2018: 20,000 clips of 10 s from the Free Music Archive, no two of one recording, of each of
which listeners said of some instruments whether they play. Counts are those of the tutorial that
comes with the data set: 41,268 labels, so that of the 20 instruments 2.06 are known in a clip.
"""

from dataclasses import dataclass

from irmas_dist.corpus.archives import Archive
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.instruments import Vocabulary

ARCHIVE = Archive(
    "openmic-2018-v1.0.0.tgz",
    "e4ccf187e2bb5ab2e115416e8aafe7f4",
    part=None,
    record=1432913,
    inner="openmic-2018",
)

FOLDER = ARCHIVE.folder
"""Folder of the data set, with all that follows below it."""

LABELS = "openmic-2018-aggregated-labels.csv"
"""What is known: ``sample_key``, ``instrument``, ``relevance`` and ``num_responses``."""

METADATA = "openmic-2018-metadata.csv"
"""Of each clip the recording, with ``sample_key`` and ``artist_id`` among its columns."""

PARTITIONS = {
    TRAINING: "partitions/split01_train.csv",
    TESTING: "partitions/split01_test.csv",
}
"""Keys of the clips of each part, one a line; no artist is in both."""

CLIP_S = 10.0
"""Duration of every clip, in seconds."""

CLIPS = {TRAINING: 14_915, TESTING: 5_085}
"""Clips of each part. Only scores of all test clips compare with published ones."""


@dataclass(frozen=True)
class KnownLabels:
    """Clips of a part in which it is known of an instrument whether it plays."""

    absent: int
    present: int


KNOWN: dict[str, dict[str, KnownLabels]] = {
    code: {TRAINING: KnownLabels(*training), TESTING: KnownLabels(*testing)}
    for code, training, testing in (
        ("accordion", (1159, 374), (423, 115)),
        ("banjo", (1148, 592), (338, 140)),
        ("bass", (1010, 415), (329, 134)),
        ("cello", (866, 598), (259, 226)),
        ("clarinet", (1349, 396), (503, 137)),
        ("cymbals", (485, 814), (139, 297)),
        ("drums", (495, 828), (146, 278)),
        ("flute", (1050, 472), (387, 175)),
        ("guitar", (362, 852), (150, 286)),
        ("mallet_percussion", (802, 522), (267, 211)),
        ("mandolin", (1185, 652), (434, 193)),
        ("organ", (977, 482), (310, 121)),
        ("piano", (420, 885), (130, 285)),
        ("saxophone", (906, 830), (324, 305)),
        ("synthesizer", (399, 823), (112, 268)),
        ("trombone", (1405, 635), (492, 228)),
        ("trumpet", (1303, 828), (467, 318)),
        ("ukulele", (1279, 556), (408, 182)),
        ("violin", (623, 779), (237, 394)),
        ("voice", (426, 764), (150, 224)),
    )
}
"""By instrument and part, in the data set's order of instruments."""

OPENMIC = Vocabulary.of({code: code.replace("_", " ") for code in KNOWN})
"""The vocabulary of OpenMIC-2018."""


def clip_path(key: str) -> str:
    """Return the path of a clip's audio below `FOLDER`, from its key, such as 000046_3840."""
    return f"audio/{key[:3]}/{key}.ogg"
