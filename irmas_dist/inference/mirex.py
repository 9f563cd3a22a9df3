"""Predictions in the shape of MIREX 2026's task Audio Instrument Recognition.

The task takes, of every excerpt, a confidence for each label of one vocabulary, that of
OpenMIC-2018, and no decisions: https://music-ir.org/mirex/wiki/2026:Audio_Instrument_Recognition.
A model of other instruments is mapped to it; labels that it does not know have a confidence of 0.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from irmas_dist import storage
from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.merging import Merge, require_known
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.results import csv_line
from irmas_dist.instruments import Vocabulary

OTHER_NAMES = {"drum kit": "drums", "drum set": "drums", "synth": "synthesizer"}
"""Names that the task's page counts to a label, and the label."""


@dataclass(frozen=True)
class MirexLabels:
    """A model's instruments as MIREX's labels.

    Attributes:
        members: The model's codes of each label that it knows; their highest score counts.
        notes: One line each on labels without an instrument, and instruments without a label.
    """

    members: Mapping[str, Sequence[str]]
    notes: list[str]

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, mapping: Mapping[str, str], absent: Collection[int] = ()
    ) -> "MirexLabels":
        """Map a model's instruments; those with the code or the name of a label need no mapping.

        Args:
            vocabulary: The model's instruments.
            mapping: Labels by code.
            absent: Columns of instruments that do not count beside others of a label, see
                `ModelDescription.known_absent`.

        Raises:
            IrmasError: The mapping names no instrument of the model, or no label, or the model
                has no label's instrument.
        """
        require_known(mapping, vocabulary)
        for code, label in mapping.items():
            if label not in OPENMIC:
                raise IrmasError(
                    f"--map {code}={label}: {label} is no label of MIREX's; these are "
                    f"{', '.join(OPENMIC.codes)}"
                )
        labels = dict(zip(OPENMIC.names, OPENMIC.codes, strict=True)) | OTHER_NAMES
        named = {
            code: labels[name.lower()]
            for code, name in zip(vocabulary.codes, vocabulary.names, strict=True)
            if code not in OPENMIC and name.lower() in labels
        }
        mapping = named | dict(mapping)
        merge = Merge.of(vocabulary, mapping).without(absent)
        members = {
            label: [vocabulary.codes[column] for column in columns]
            for label, columns in zip(merge.vocabulary.codes, merge.members, strict=True)
            if label in OPENMIC
        }
        if not members:
            raise IrmasError(
                f"the model's instruments, {', '.join(vocabulary.codes)}, are none of MIREX's "
                f"labels, {', '.join(OPENMIC.codes)}; say with --map which are"
            )
        lost = [code for code in vocabulary.codes if mapping.get(code, code) not in OPENMIC]
        unknown = [label for label in OPENMIC.codes if label not in members]
        notes = []
        if lost:
            notes.append(f"no label of MIREX's, left out: {', '.join(lost)}")
        if unknown:
            notes.append(f"no instrument of the model is one, confidence 0: {', '.join(unknown)}")
        return cls(members, notes)


def write_mirex(out: str, predictions: Sequence[Prediction], labels: MirexLabels) -> None:
    """Write predictions atomically: CSV of ``path`` and a confidence from 0 to 1 per label.

    A file that could not be used has no confidences.

    Args:
        out: Path or URL.
        predictions: In the order of the file.
        labels: The model's.

    Raises:
        IrmasError: The file cannot be written.
    """
    lines = [csv_line(["path", *OPENMIC.codes])]
    for prediction in predictions:
        scores = prediction.scores
        cells = [
            f"{max((scores[code] for code in labels.members.get(label, ())), default=0):.9g}"
            if scores
            else ""
            for label in OPENMIC.codes
        ]
        lines.append(csv_line([prediction.name, *cells]))
    with storage.write_atomically(out) as stream:
        stream.write("".join(lines).encode())
