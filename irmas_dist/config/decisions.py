"""Settings of decisions: thresholds, objectives and the aggregation of windows."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from irmas_dist.config.base import Settings

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
"""What thresholds can make as large as possible. F2 counts recall twice as much as precision,
F0.5 half as much; subset accuracy is the share of clips whose set of instruments is exactly
right; cost is that of wrong decisions, which is made as small as possible."""


AggregationRule = Annotated[
    str, StringConstraints(pattern=r"^(mean|s2|han2017|max|top[1-9][0-9]*|attention)$")
]
"""The name of a rule of this module's docstring."""


class ThresholdSettings(Settings):
    """How decision thresholds are chosen."""

    rule: Literal["global", "per_instrument"] = "per_instrument"
    """One threshold for all instruments, or one for each."""

    objective: ObjectiveName = "macro_f1"
    """What the thresholds make as large as possible on the clips they are fitted to."""

    cost_of_missing: float = Field(1.0, gt=0.0)
    """For the objective ``cost``: what it costs to miss an instrument, where saying one that
    does not play costs 1."""
