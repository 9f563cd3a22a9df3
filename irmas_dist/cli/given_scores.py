"""Options of scores that need no model: their labels, and how thresholds are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from irmas_dist.cli.command import read_recipe
from irmas_dist.errors import UsageError

if TYPE_CHECKING:
    from irmas_dist.config.corpus import CorpusSettings
    from irmas_dist.evaluation.evaluate import Evaluation
    from irmas_dist.evaluation.scores import Scores

LabelFile = Annotated[
    str | None,
    typer.Option(
        help="For scores without labels of their own: table of path, and instruments (gac|voi) or "
        "a column for each (1, 0, ?); default: IRMAS's."
    ),
]
Threshold = Annotated[
    float | None, typer.Option(help="With --scores: a threshold that was chosen beforehand.")
]
FitOn = Annotated[
    str | None,
    typer.Option(
        help="With --scores: held-out scores to fit thresholds to; mixed if single-label."
    ),
]
FitLabels = Annotated[
    str | None, typer.Option(help="Labels of --fit-on, as --labels; default: IRMAS's.")
]

Level = Literal["instrument", "family"]
"""Of figures: each instrument, or each family of the recipe."""


def require_instruments(corpus: "CorpusSettings", scores: "Scores", name: str) -> None:
    """Refuse scores with instruments of their own, where a recipe states others.

    Args:
        corpus: Settings of the recipe.
        scores: The scores.
        name: Their file or model.

    Raises:
        UsageError: The codes differ.
    """
    stated = "instruments" in corpus.model_fields_set
    if stated and set(scores.vocabulary.codes) != set(corpus.vocabulary.codes):
        raise UsageError(
            f"{name}: its instruments are {', '.join(scores.vocabulary.codes)}, and those of the "
            f"recipe {', '.join(corpus.vocabulary.codes)}; give a recipe of these"
        )


@dataclass(frozen=True)
class GivenScores:
    """The options of scores, as the commands `evaluate` and `report` have them."""

    labels: str | None
    threshold: float | None
    fit_on: str | None
    fit_labels: str | None
    config: str | None
    overrides: list[str] | None

    def refuse_any(self) -> None:
        """Refuse them all, where a model is given.

        Raises:
            typer.BadParameter: One of them is given.
        """
        if self.labels or self.threshold is not None or self.fit_on or self.fit_labels:
            raise typer.BadParameter(
                "a model has thresholds and its clips have labels: see --scores"
            )
        if self.config or self.overrides:
            raise typer.BadParameter(
                "a model has the recipe that it was trained with: leave out --config and --set, "
                "and give families that it does not have as --map"
            )

    def evaluate(
        self, scores: str, at: Level = "instrument", mapping: str | None = None
    ) -> "Evaluation":
        """Evaluate a file of scores with the thresholds that the options choose.

        Args:
            scores: The file.
            at: Level of the figures.
            mapping: New codes of its instruments, as of ``--map``.

        Raises:
            IrmasError: The file or the labels cannot be used, or an option.
            typer.BadParameter: Options contradict each other.
        """
        import numpy as np

        from irmas_dist.config.decisions import FOR_SCORES, Protocol
        from irmas_dist.evaluation.csv_scores import open_scores
        from irmas_dist.evaluation.evaluate import evaluate_scores, thresholds_from
        from irmas_dist.evaluation.merging import Merge, new_codes, require_known
        from irmas_dist.instruments import IRMAS

        threshold = self.threshold
        if Path(scores).is_dir():
            raise UsageError(f"--scores {scores} is a directory: name the file of scores in it")
        if self.fit_labels is not None and self.fit_on is None:
            raise typer.BadParameter("--fit-labels are of --fit-on: give both")
        if threshold is not None and self.fit_on is not None:
            raise typer.BadParameter("--threshold and --fit-on: give one of them")
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"--threshold {threshold:g}: must be from 0 to 1")
        vocabulary, settings, merge = IRMAS, FOR_SCORES, None
        families: Mapping[str, Sequence[str]] = {}
        if self.config or self.overrides:
            recipe = read_recipe(self.config, self.overrides, used=("corpus", "thresholds"))
            vocabulary, settings = recipe.corpus.vocabulary, recipe.thresholds
            families = recipe.corpus.families
            for override in self.overrides or ():
                if at != "family" and override.strip().startswith("corpus.families"):
                    raise UsageError(f"--set {override}: families count with --at family alone")
        read = open_scores(scores, self.labels, vocabulary)
        if self.config or self.overrides:
            require_instruments(recipe.corpus, read, scores)
        if at == "family" or mapping is not None:
            codes = new_codes(mapping, families)
            given = "--at family" if mapping is None else "--map"
            require_known(codes, read.vocabulary, given=given)
            merge = Merge.of(read.vocabulary, codes)
        chosen, origin = None, ""
        evaluated = merge(read) if merge else read
        if threshold is not None:
            chosen = np.full(len(evaluated.vocabulary), threshold, np.float32)
            origin = f"{threshold:g}, chosen beforehand"
        elif self.fit_on is not None:
            chosen, origin = thresholds_from(self.fit_on, self.fit_labels, settings, read, merge)
        protocol: Protocol = "adapted" if evaluated.adapted_to else "validation"
        return evaluate_scores(evaluated, scores, chosen, origin, settings, protocol)
