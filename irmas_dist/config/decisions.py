"""Settings of decisions: aggregation of windows, thresholds, their objectives and protocols."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from irmas_dist.config.base import Settings

AGGREGATION_RULES = ("mean", "s2", "han2017", "max", "top3", "attention")
"""One rule of every kind; ``top`` takes any number."""

_ANY_RULE = "|".join(AGGREGATION_RULES).replace("top3", "top[1-9][0-9]*")
AggregationRule = Annotated[str, StringConstraints(pattern=f"^({_ANY_RULE})$")]
"""How window scores become clip scores, see `evaluation.aggregate`."""

RELATIVE_RULES = ("s2", "han2017")
"""The rules by which the surest instrument of every clip scores 1."""

Protocol = Literal["validation", "adapted", "fixed", "cross-validated", "oracle"]
"""How the thresholds of an evaluation are chosen, see `evaluation.protocols`."""

ThresholdRule = Literal["global", "per_instrument"]
"""One threshold for all instruments, or one for each."""

ObjectiveName = Literal[
    "macro_f1",
    "micro_f1",
    "macro_f2",
    "micro_f2",
    "macro_f05",
    "micro_f05",
    "subset_accuracy",
    "cost",
]
"""What thresholds maximise. F2 counts recall twice as much as precision, F0.5 half as much;
subset accuracy is the share of clips whose set of instruments is exactly right; cost is the
negative cost of wrong decisions."""


class ThresholdSettings(Settings):
    """How decision thresholds are chosen."""

    rule: ThresholdRule = "per_instrument"
    """One threshold for all instruments, or one for each."""

    objective: ObjectiveName = "macro_f1"
    """What the thresholds maximise on the clips they are fitted to."""

    cost_of_missing: float = Field(1.0, gt=0.0)
    """For the objective ``cost``: cost of a false negative, where a false positive costs 1."""

    evidence: float = Field(0.6, gt=0.0, le=1.0)
    """Share of its distance, in log-odds, from the mean score of its instrument that a threshold
    keeps: on music of other sources a model is less confident than on validation mixtures. 1 keeps
    thresholds where they fit the mixtures best."""

    @property
    def summary(self) -> str:
        """The rule and the objective in words, such as ``per instrument, for macro F1``.

        `evidence` is left out: it counts for some validation clips only.
        """
        objective = self.objective.replace("_f05", " F0.5").replace("_f", " F")
        return f"{self.rule.replace('_', ' ')}, for {objective}"


FOR_SCORES = ThresholdSettings(rule="global")
"""How thresholds are fitted to scores without a model where no recipe says it.

Fitted to other clips than are evaluated, one threshold for all does better than one for each.
"""
