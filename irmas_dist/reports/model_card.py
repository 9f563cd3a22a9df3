"""The model card in Markdown: what a model is, its training data and its figures.

After Mitchell et al., "Model cards for model reporting" (FAT* 2019). All of its content comes
from the model directory.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.evaluation.protocols import MEANING
from irmas_dist.evaluation.published import figures_of, groups_of
from irmas_dist.inference.evaluate import evaluate_model_scores, read_model_scores
from irmas_dist.inference.export import CARD, ExportSummary, tolerance
from irmas_dist.reports.model_page import COLUMNS
from irmas_dist.reports.templates import render_template
from irmas_dist.storage.results import SCORES_FILE, directory_name
from irmas_dist.terminal import say
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.validation_rule import validated_on

FINGERPRINT = re.compile("[0-9a-f]{4,}")

WEAK_F1 = 0.5
"""An instrument with a lower F1 is named among the limits."""


def model_card(
    name: str,
    description: ModelDescription,
    evaluation: Evaluation | None = None,
    exported: ExportSummary | None = None,
) -> str:
    """Return a model's card.

    Args:
        name: Its heading.
        description: The content of ``model.json``.
        evaluation: The model's evaluation, if it was evaluated.
        exported: The exported files beside the card, if there are any.
    """
    rows = [] if evaluation is None else evaluation.instruments
    weak = [row for row in rows if row["clips"] and row["f1"] < WEAK_F1]
    return render_template(
        "model_card.md",
        name=name,
        **dict(description),
        rules=list(dict.fromkeys(part.aggregation for part in description.parts)),
        relative=description.relative,
        partly_known=any(part.data.partly_known for part in description.parts),
        facts=dict(_facts(description)),
        validated_on=validated_on(description.recipe, description.data),
        evaluation=evaluation,
        of=groups_of(description.vocabulary),
        figures=figures_of(description.vocabulary),
        headings=COLUMNS,
        meaning=MEANING,
        weakest=sorted(weak, key=lambda row: row["f1"]),
        exported=exported,
        tolerance=tolerance,
    )


def _facts(description: ModelDescription) -> Iterator[tuple[str, str]]:
    """Yield what a model was made from by name; that of an ensemble's members has their number."""

    def flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from flat(inner, f"{name} {key}".strip())
        elif isinstance(value, list):
            for number, inner in enumerate(value, start=1):
                yield from flat(inner, f"{name} {number}")
        else:
            yield name, str(value) if name.endswith("adapted_to") else _fact(value)

    if not description.members:
        yield from flat(description.data.facts(), "")
    for number, member in enumerate(description.members, start=1):
        yield from flat(member.data.facts(), f"member {number}:")


def _fact(value: str | float) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            return f"fingerprint `{value}`" if FINGERPRINT.fullmatch(value) else value
        case _:
            return f"{value:,}"


def write_model_card(model: str, exported: ExportSummary) -> ExportSummary:
    """Write a model's card beside its exported files.

    Args:
        model: Model directory. If it was evaluated as it is now, the card has the figures.
        exported: The files.

    Returns:
        The same, with the card among the files.

    Raises:
        IrmasError: The card cannot be written.
    """
    description, evaluation = read_description(model), None
    if storage.exists(storage.join(model, SCORES_FILE)):
        try:
            evaluation = evaluate_model_scores(*read_model_scores(model))
        except IrmasError as error:
            # The files beside it are written by now, and need no figures.
            say(f"the model card has no figures: {error}")
    name = directory_name(model)
    card = model_card(name, description, evaluation, exported)
    with storage.write_atomically(storage.join(exported.path, CARD)) as stream:
        stream.write(f"{card}\n".encode())
    return replace(exported, files=[*exported.files, CARD])
