"""Settings of a corpus: its instruments, and how its clips are split for validation."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from irmas_dist.config.augment import MixSettings
from irmas_dist.config.base import Settings
from irmas_dist.instruments import IRMAS_INSTRUMENTS, Vocabulary

ConflictPolicy = Literal["keep", "drop"]
"""How identical audio with different labels is treated."""


TABLE_COLUMNS = ("path", "instruments", "part", "group", "source", "start", "end")
"""Columns of a table of clips with a meaning of their own."""

PREDICTION_COLUMNS = ("path", "instruments", "error", "note", "adapted_to")
"""Columns of predictions before those of the scores."""

RESERVED = tuple(dict.fromkeys((*TABLE_COLUMNS, *PREDICTION_COLUMNS)))
"""Names of other columns, of tables of clips and of predictions."""

NO_CODE = (
    "cannot be the code of an instrument: a table could not have it; codes are not empty, "
    f"? or {', '.join(RESERVED)}, contain no | and neither begin nor end with a space"
)
"""Why a text is no code, see `is_code`."""


def is_code(text: str) -> bool:
    """Return whether a text can be the code of an instrument, in a table of clips, too."""
    return text == text.strip() and text not in ("", "?", *RESERVED) and "|" not in text


class CorpusSettings(Settings):
    """The instruments of a data set, and how its conflicts are treated."""

    instruments: dict[str, str] = Field(IRMAS_INSTRUMENTS, min_length=1)
    """Instruments: code, as in folder names and label files, to name."""
    families: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Families: code to the codes of their instruments. 'evaluate --at family' counts those of
    one family as one instrument."""
    conflicts: ConflictPolicy = "keep"
    """Treatment of byte-identical files with different labels: 'keep' uses all of them as they
    are labelled, 'drop' none. Published scores count all of IRMAS's test excerpts, so
    scores without them do not compare."""

    @field_validator("instruments")
    @classmethod
    def _codes_can_be_in_tables(cls, instruments: dict[str, str]) -> dict[str, str]:
        for code in instruments:
            if not is_code(code):
                raise ValueError(f"{code!r} {NO_CODE}")
        return instruments

    @model_validator(mode="after")
    def _families_have_instruments(self) -> Self:
        family_of: dict[str, str] = {}
        for family, codes in self.families.items():
            for code in codes:
                if code not in self.instruments:
                    known = ", ".join(self.instruments)
                    raise ValueError(f"family {family}: {code} is no instrument of {known}")
                if (other := family_of.setdefault(code, family)) != family:
                    raise ValueError(f"{code} is in the families {other} and {family}")
            if family in self.instruments and family not in codes:
                raise ValueError(f"family {family} has the code of an instrument outside of it")
        return self

    @property
    def vocabulary(self) -> Vocabulary:
        """The instruments in order."""
        return Vocabulary.of(self.instruments)


class SplitSettings(Settings):
    """Settings of the validation split."""

    share: float = Field(0.15, gt=0.0, lt=1.0)
    """Share of each instrument's clips that is held out for validation."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the split: the same seed holds out the same groups."""
    by: Literal["group", "source"] = "group"
    """What is held out whole: groups, or all clips that an instrument has of a source, where it has
    several sources. Figures on sources that training has seen are too good for other music; but
    sources that are held out are lost for training, and there are few."""


class ValidationSettings(SplitSettings):
    """Settings of validation: the held-out groups, and their mixtures.

    Nothing is held out of a corpus that has validation clips of its own.
    """

    mixed: bool = True
    """Whether the held-out clips are mixed. As they are, clips of several instruments may resemble
    those to be scored more."""
    mixtures: int = Field(500, ge=1)
    """Multilabel clips mixed from the held-out ones, on which epochs and trials are compared."""
    threshold_mixtures: int = Field(4_000, ge=2)
    """Multilabel clips mixed from the same, in which instruments are equally frequent. Thresholds
    are fitted to them once, after the last epoch."""
    equalise_db: float = Field(6.0, ge=0.0, le=30.0)
    """Equalisation of the clips of every second of these, as of `augment.equalise_db`: thresholds
    fitted to known microphones and rooms alone suit others less."""
    pitch_semitones: float = Field(1.0, ge=0.0, le=12.0)
    """Their shift in pitch, as of `augment.pitch_semitones`."""
    mix: MixSettings = MixSettings()
    """How they are mixed; separate from the mixing of training examples, so that all trials of a
    search are evaluated on the same clips."""
