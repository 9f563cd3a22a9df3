"""Instruments: their codes, names and order.

The 11 of IRMAS are listed here only. Everything else takes a `Vocabulary`, whose order is the
order of the columns in labels, scores and thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.errors import IrmasError

UNKNOWN = -1
"""The label of an instrument of which nobody says whether it plays in a clip."""

PRESENT = 0.5
"""A label from here on counts as present where a decision is needed."""

SoftLabels = npt.NDArray[np.float32]
"""Labels to learn from, shape (clips, instruments): from 0, absent, to 1, present; NaN where
unknown."""

IRMAS_INSTRUMENTS: dict[str, str] = {
    "cel": "cello",
    "cla": "clarinet",
    "flu": "flute",
    "gac": "acoustic guitar",
    "gel": "electric guitar",
    "org": "organ",
    "pia": "piano",
    "sax": "saxophone",
    "tru": "trumpet",
    "vio": "violin",
    "voi": "voice",
}
"""Code to name, in the order of Bosch et al. (ISMIR 2012)."""


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of instruments.

    Attributes:
        codes: Short unique codes, as in folder names and label files.
        names: Display names, one per code.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, instruments: dict[str, str]) -> "Vocabulary":
        """Build from a mapping of code to name, keeping its order."""
        return cls(tuple(instruments), tuple(instruments.values()))

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: object) -> bool:
        return code in self.codes

    def name(self, code: str) -> str:
        """Return the name of the instrument ``code``."""
        return self.names[self.codes.index(code)]

    def by_code(self, values: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
        """Return the value of each instrument by its code; ``values`` has shape (instruments,)."""
        return dict(zip(self.codes, values.tolist(), strict=True))

    def encode(self, instruments: Iterable[str]) -> npt.NDArray[np.int8]:
        """Return the multi-hot vector, shape (instruments,), of a set of codes.

        Raises:
            IrmasError: A code is not in the vocabulary.
        """
        labels = np.zeros(len(self), dtype=np.int8)
        for code in instruments:
            if code not in self.codes:
                known = ", ".join(self.codes)
                raise IrmasError(f"unknown instrument {code!r}; this vocabulary has {known}")
            labels[self.codes.index(code)] = 1
        return labels

    def decode(self, labels: Sequence[int] | npt.NDArray[np.generic]) -> list[str]:
        """Return the codes whose entry in the multi-hot vector is not zero, in order.

        Raises:
            IrmasError: The vector does not have one entry per instrument.
        """
        if len(labels) != len(self):
            raise IrmasError(f"expected {len(self)} labels, one per instrument, got {len(labels)}")
        return [code for code, label in zip(self.codes, labels, strict=True) if label]


IRMAS = Vocabulary.of(IRMAS_INSTRUMENTS)
"""The vocabulary of the IRMAS data set."""


def hard_labels(labels: SoftLabels) -> npt.NDArray[np.int8]:
    """Return 1 where an instrument is present, 0 where it is absent, `UNKNOWN` where unknown."""
    return np.where(np.isnan(labels), UNKNOWN, labels >= PRESENT).astype(np.int8)
