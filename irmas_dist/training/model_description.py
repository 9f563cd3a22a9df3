"""``model.json``: what is known of a finished model but its weights; read without torch."""

import os
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AllowInfNan,
    Field,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from irmas_dist import storage
from irmas_dist.config.base import Settings, first_problem
from irmas_dist.config.corpus import CorpusSettings
from irmas_dist.config.decisions import RELATIVE_RULES, AggregationRule, ThresholdSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.instruments import Vocabulary
from irmas_dist.storage.results import MODEL_FILE, SWEEP_FILE, found_instead, holds
from irmas_dist.training.records import AdaptationRecord, DataRecord
from irmas_dist.training.validation_rule import for_adapted, for_validation


class Normalisation(Settings):
    """Per-band statistics of the training clips, natural logarithm of mel power."""

    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]


class ScoringWindows(Settings):
    """Windows in frames, and how their scores are aggregated over a clip."""

    frames: int = Field(ge=1)
    hop_frames: int = Field(ge=1)
    aggregation: AggregationRule


class Calibration(Settings):
    """How scores become comparable with those of other models, see `evaluation.platt`."""

    scale: float = 1.0
    offset: float = 0.0


class EnsembleMember(Settings):
    """A model of an ensemble; fields are those of its own ``model.json``."""

    model: ModelSettings
    normalisation: Normalisation
    aggregation: AggregationRule
    calibration: Calibration | None = None
    """Fitted to its validation scores; none in a model that is no ensemble."""
    recipe: dict[str, Any]
    data: DataRecord
    best_epoch: int
    scores: dict[str, Annotated[float, AllowInfNan()]]
    adapted: AdaptationRecord | None = None


class ModelDescription(Settings):
    """The content of ``model.json``."""

    format: Literal[1] = 1
    instruments: dict[str, str]
    features: LogMelSettings
    normalisation: Normalisation
    model: ModelSettings
    parameters: int
    windows: ScoringWindows
    thresholds: dict[str, float]
    """Decision threshold by instrument: it is predicted when its score is at least this."""
    thresholds_from: str
    """Description of the clips, the rule and the objective of the fitted thresholds."""
    thresholds_fitted: ThresholdSettings | None = None
    """How they were fitted, if another way than the recipe says: by ``irmas thresholds``."""
    recipe: dict[str, Any]
    """All settings of the training run."""
    data: DataRecord
    """What it was made from."""
    versions: dict[str, str]
    commit: str | None = None
    """Git commit of the code that trained it, if that was a checkout."""
    history: list[dict[str, Annotated[float, AllowInfNan()]]]
    """Metrics of every epoch; the loss of one that diverged is not finite."""
    best_epoch: int
    """The epoch, from 1, whose weights these are."""
    scores: dict[str, Annotated[float, AllowInfNan()]]
    """Validation metrics of that epoch."""
    weights: str = ""
    """Digest of the file of weights that this describes; empty before they are written."""
    run: str | None = None
    """Identity of its W&B run, which evaluations are logged to."""
    members: tuple[EnsembleMember, ...] = ()
    """Of an ensemble: its models. Model, normalisation, aggregation, recipe and data above are
    those of the first, there is no history, and the scores are the ensemble's."""
    adapted: AdaptationRecord | None = None
    """What was done to adapt it to audio without labels; None if nothing."""

    @field_validator("normalisation", "members")
    @classmethod
    def _has_every_band(cls, value: Any, info: ValidationInfo) -> Any:
        found = [one.normalisation for one in value] if info.field_name == "members" else [value]
        bands = info.data["features"].bands if "features" in info.data else None
        for one in found if bands else ():
            if not len(one.mean) == len(one.std) == bands:
                raise ValueError(f"should have the mean and the deviation of each of {bands} bands")
        return value

    @field_validator("thresholds")
    @classmethod
    def _has_every_instrument(
        cls, value: dict[str, float], info: ValidationInfo
    ) -> dict[str, float]:
        for code in sorted(info.data.get("instruments", value).keys() ^ value.keys()):
            raise ValueError(f"{code} is in one of instruments and thresholds only")
        for code, threshold in value.items():
            if not 0 <= threshold <= NEVER:
                raise ValueError(f"that of {code} should be from 0 to 1, or just above: never")
        return value

    @field_validator("history")
    @classmethod
    def _has_numbered_epochs(cls, value: list[dict[str, float]]) -> list[dict[str, float]]:
        if any("epoch" not in row for row in value):
            raise ValueError("should have the epoch of each row")
        return value

    @property
    def parts(self) -> tuple[EnsembleMember, ...]:
        """The members of an ensemble, or the single model as its only one."""
        return self.members or (
            EnsembleMember(
                model=self.model,
                normalisation=self.normalisation,
                aggregation=self.windows.aggregation,
                recipe=self.recipe,
                data=self.data,
                best_epoch=self.best_epoch,
                scores=self.scores,
                adapted=self.adapted,
            ),
        )

    @property
    def threshold_settings(self) -> ThresholdSettings:
        """How its thresholds are to be fitted: by its recipe, or by what was chosen since."""
        of_recipe = self.recipe.get("thresholds", {})
        return self.thresholds_fitted or ThresholdSettings.model_validate(of_recipe)

    @property
    def validation_settings(self) -> ThresholdSettings:
        """How thresholds are fitted to its validation scores, see `for_validation`."""
        rules = [part.aggregation for part in self.parts]
        fitted = for_validation(self.threshold_settings, rules, self.recipe, self.data)
        done = self.adapted
        return for_adapted(fitted, done.share, done.match) if done else fitted

    @property
    def vocabulary(self) -> Vocabulary:
        """The instruments, in the order of the outputs."""
        return Vocabulary.of(self.instruments)

    @property
    def tracking(self) -> TrackingSettings:
        """How its training was logged.

        Raises:
            IrmasError: Its settings do not fit this version.
        """
        return self._recipe_of("tracking").tracking

    @property
    def corpus(self) -> CorpusSettings:
        """What its training clips were told to be.

        Raises:
            IrmasError: Its settings do not fit this version.
        """
        return self._recipe_of("corpus").corpus

    def _recipe_of(self, part: str) -> Recipe:
        """Return one part of its recipe, checked, beside defaults."""
        return build_recipe({part: self.recipe.get(part, {})}, {}, "the model's recipe")

    @property
    def relative(self) -> bool:
        """Whether scores are relative to that of a clip's surest instrument, see `RELATIVE_RULES`.

        Those of an ensemble are not: their mean is 1 only where all members agree.
        """
        return not self.members and self.windows.aggregation in RELATIVE_RULES

    @property
    def adapted_to(self) -> str | None:
        """What it is adapted to; None if to nothing."""
        return self.adapted.to if self.adapted else None

    @property
    def known_absent(self) -> set[int]:
        """The columns of instruments that it, or a member, is adapted to as playing in no clip."""
        absent = {
            code
            for part in self.parts
            for code, share in (part.adapted.prevalence if part.adapted else {}).items()
            if share == 0
        }
        return {n for n, code in enumerate(self.instruments) if code in absent}

    def threshold_array(self) -> np.ndarray:
        """Thresholds in the order of the outputs, float32, shape (instruments,), above 0.

        A fitted one may be 0, for an instrument that is best always predicted; but silence, which
        scores 0, has no instrument.
        """
        thresholds = np.array([self.thresholds[code] for code in self.instruments], np.float32)
        return np.maximum(thresholds, np.finfo(np.float32).tiny)

    def decide(self, scores: dict[str, float]) -> list[str]:
        """Return the codes of the instruments whose score reaches their threshold."""
        thresholds = dict(zip(self.instruments, self.threshold_array(), strict=True))
        return [code for code, score in scores.items() if np.float32(score) >= thresholds[code]]


def write_description(directory: str | os.PathLike[str], description: ModelDescription) -> None:
    """Write ``model.json``."""
    storage.write_json(storage.join(directory, MODEL_FILE), description.model_dump())


def read_description(directory: str | os.PathLike[str]) -> ModelDescription:
    """Read ``model.json``.

    Raises:
        IrmasError: There is no finished model, or it has another format.
    """
    path = storage.join(directory, MODEL_FILE)
    if not storage.exists(path):
        best = storage.join(directory, "model")
        if holds(directory, SWEEP_FILE):
            there = holds(best, MODEL_FILE)
            hint = f"its best model is {best}" if there else "it has no model yet"
            raise IrmasError(f"{directory} holds a sweep: {hint}")
        found = found_instead(directory) or f"it has no {MODEL_FILE}"
        raise IrmasError(f"{directory} is not a model directory: {found}")
    content = storage.read_json(path)
    try:
        return ModelDescription.model_validate(content)
    except ValidationError as error:
        raise IrmasError(f"{path} cannot be used: {first_problem(error)}") from error
