"""The model card: what a model is, what it was made from and how it does, in Markdown.

After Mitchell et al., "Model cards for model reporting" (FAT* 2019). Nothing is in it that the
model directory does not say.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import jinja2

from irmas_dist import storage
from irmas_dist.evaluation.protocols import MEANING
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.inference.evaluate import evaluate_model_scores
from irmas_dist.inference.export import ExportSummary, tolerance
from irmas_dist.training.model_directory import ModelDescription, read_description

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation

CARD = "README.md"
"""The model card beside exported files, where those who share models look for it."""


WEAK_F1 = 0.5
"""An instrument below this is named among the limits."""


def model_card(
    name: str,
    description: ModelDescription,
    evaluation: "Evaluation | None" = None,
    exported: ExportSummary | None = None,
) -> str:
    """Return a model's card.

    Args:
        name: Its heading.
        description: The content of ``model.json``.
        evaluation: How the model does on the clips that it was evaluated on, if it was.
        exported: The files that lie beside the card, if there are any.
    """
    features, windows = description.features, description.windows
    validation = {
        key: description.scores[f"val_{key}"]
        for key in ("micro_f1", "macro_f1")
        if f"val_{key}" in description.scores
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irmas_dist.reports", ""),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md").render(
        name=name,
        instruments=description.instruments,
        features=features,
        window_s=windows.frames / features.frames_per_second,
        hop_s=windows.hop_frames / features.frames_per_second,
        aggregation=windows.aggregation,
        relative=windows.aggregation in ("s2", "han2017"),
        parameters=description.parameters,
        thresholds=description.thresholds,
        thresholds_from=description.thresholds_from,
        exported=exported,
        tolerance=tolerance,
        validation=validation,
        data=description.data,
        versions=description.versions,
        commit=description.commit,
        **_figures(evaluation),
    )


def _figures(evaluation: "Evaluation | None") -> dict[str, object]:
    if evaluation is None:
        return {"results": [], "tested": {}, "per_instrument": [], "weakest": []}
    rows = []
    for protocol, result in evaluation.results.items():
        cells = {"protocol": protocol, "meaning": MEANING[protocol]}
        for key in ("micro_f1", "macro_f1", "lrap"):
            low, high = result.intervals[key]
            cells[key] = f"{result.metrics[key]:.3f} ({low:.3f} to {high:.3f})"
        rows.append(cells)
    scores = evaluation.scores
    weak = [row for row in evaluation.instruments if row["f1"] < WEAK_F1 and row["clips"]]
    return {
        "results": rows,
        "tested": {
            "clips": f"{len(scores.clip_ids):,}",
            "songs": f"{len(set(scores.groups)):,}",
            "parts": " and ".join(sorted(set(scores.parts))),
        },
        "per_instrument": evaluation.instruments,
        "weakest": sorted(weak, key=lambda row: row["f1"]),
    }


def write_model_card(model: str, exported: ExportSummary) -> ExportSummary:
    """Write a model's card beside its exported files.

    Args:
        model: Model directory. If it has been evaluated, the card has the figures.
        exported: The files.

    Returns:
        The same, with the card among the files.

    Raises:
        IrmasError: The scores are not the model's, or the card cannot be written.
    """
    description = read_description(model)
    evaluation = None
    scores = storage.join(model, "scores.parquet")
    if storage.exists(scores):
        evaluation = evaluate_model_scores(description, read_scores(scores), scores)
    name = model.rstrip("/").rsplit("/", 1)[-1]
    card = model_card(name, description, evaluation, exported)
    with storage.write_atomically(storage.join(exported.path, CARD)) as stream:
        stream.write(card.encode())
    return replace(exported, files=[*exported.files, CARD])
