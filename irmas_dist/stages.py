"""The stages that put rooms together: train, evaluate, fit thresholds again, report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irmas_dist import storage, tracking
from irmas_dist.config import Recipe
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.evaluation.thresholds import ThresholdSettings, fit_thresholds
from irmas_dist.features import store
from irmas_dist.inference.predictor import Predictor
from irmas_dist.terminal import progress
from irmas_dist.training.checkpoint import (
    ModelDescription,
    read_description,
    threshold_origin,
    write_description,
)
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.room import WorkerSettings
from irmas_dist.training.task import Task, load_task


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of clips, with its own thresholds.

    Attributes:
        scores: Scores and labels of the clips.
        metrics: As from `metrics.evaluate`.
        instruments: As from `metrics.per_instrument`.
        path: The scores file.
    """

    scores: Scores
    metrics: dict[str, float]
    instruments: list[dict[str, Any]]
    path: str


def open_task(features: str, recipe: Recipe) -> Task:
    """Load a feature store for training, once it is sure that the recipe goes with it.

    Raises:
        IrmasError: There is no finished store, or it was made with other settings.
    """
    info = store.read_info(features)
    if info.fingerprint != store.fingerprint(recipe.features, recipe.corpus.vocabulary):
        raise IrmasError(
            f"{features} was made with other feature settings or instruments than this recipe "
            "has; extract with the same --config, or train with the one of the features"
        )
    return load_task(features, recipe.validation, recipe.ingest)


def train(recipe: Recipe, features: str, out: str, workers: WorkerSettings) -> ModelDescription:
    """Train a recipe and write its model directory; go on where an earlier run was cut short.

    Raises:
        IrmasError: ``out`` holds a model of another recipe, finished or not, the features do
            not go with the recipe, or training failed.
    """
    settings = recipe.model_dump(mode="json")
    if storage.exists(storage.join(out, "model.json")):
        finished = read_description(out)
        if finished.recipe != settings:
            raise IrmasError(f"{out} holds a model of another recipe; choose another directory")
        return finished
    begun = storage.join(out, "begun.json")
    about: dict[str, Any] = {"recipe": settings, "run_id": tracking.new_run_id()}
    if storage.exists(begun):
        about = storage.read_json(begun)
        if about["recipe"] != settings:
            raise IrmasError(
                f"{out} holds an unfinished training of another recipe; finish that one, "
                "delete it, or choose another directory"
            )
    task = open_task(features, recipe)
    storage.write_json(begun, about)
    name = out.rstrip("/").rsplit("/", 1)[-1]
    run = tracking.start_run(
        recipe.tracking, name=name, job_type="train", config=settings, run_id=about["run_id"]
    )
    failed = True
    try:
        with progress("train", recipe.training.epochs, "epochs") as advance:
            description = train_distributed(
                task, recipe, settings, out, workers, _listener(run, advance)
            )
        best = {f"best_{key}": value for key, value in description.scores.items()}
        run.summarise({**best, "parameters": description.parameters})
        storage.remove(begun)
        failed = False
    finally:
        run.close(failed=failed)
    return description


def _listener(
    run: tracking.Run, advance: Callable[[int], None]
) -> Callable[[Mapping[str, float]], None]:
    """What to do with each epoch's metrics: log them, and advance to where they are.

    After a resume the first epoch is not number 1, and after a lost worker some come again.
    """
    done = 0

    def on_epoch(metrics: Mapping[str, float]) -> None:
        nonlocal done
        if (epoch := int(metrics["epoch"])) > done:
            run.log(metrics)
            advance(epoch - done)
            done = epoch

    return on_epoch


def evaluate(model: str, features: str, out: str, part: str = TESTING) -> Evaluation:
    """Score one part of a feature store and judge the scores by the model's own thresholds.

    Writes ``scores.parquet`` into ``out``.

    Raises:
        IrmasError: The model or the features cannot be used, or do not go together.
    """
    predictor = Predictor.load(model)
    scores = predictor.score_store(features, part)
    path = storage.join(out, "scores.parquet")
    write_scores(path, scores)
    return judge(predictor.description, scores, path)


def log_evaluation(recipe: Recipe, evaluation: Evaluation, name: str) -> None:
    """Log how a model does as a W&B run of its own, with a table of the instruments."""
    run = tracking.start_run(
        recipe.tracking, name=name, job_type="evaluate", config=recipe.model_dump(mode="json")
    )
    run.summarise(evaluation.metrics)
    rows = [list(row.values()) for row in evaluation.instruments]
    run.table("instruments", list(evaluation.instruments[0]), rows)
    run.close()


def judge(description: ModelDescription, scores: Scores, path: str) -> Evaluation:
    """Apply a model's thresholds to scores.

    Raises:
        IrmasError: The scores are for other instruments than the model's.
    """
    if scores.vocabulary != description.vocabulary:
        raise IrmasError(f"{path} holds scores of other instruments than the model's")
    thresholds = description.threshold_array()
    return Evaluation(
        scores=scores,
        metrics=metrics.evaluate(scores.labels, scores.scores, thresholds),
        instruments=metrics.per_instrument(
            scores.labels, scores.scores, thresholds, scores.vocabulary
        ),
        path=path,
    )


def refit_thresholds(model: str, settings: ThresholdSettings) -> ModelDescription:
    """Fit a model's thresholds again, to its scores of the validation mixtures.

    Raises:
        IrmasError: There is no finished model, or its validation scores are gone.
    """
    description = read_description(model)
    scores = read_scores(storage.join(model, "validation.parquet"))
    fitted = fit_thresholds(scores.labels, scores.scores, settings)
    results = metrics.evaluate(scores.labels, scores.scores, fitted)
    changed = description.model_copy(
        update={
            "thresholds": dict(zip(description.instruments, fitted.tolist(), strict=True)),
            "thresholds_from": threshold_origin(settings, len(scores.clip_ids)),
            "scores": description.scores
            | {SELECTED_BY: results["macro_f1"], "val_micro_f1": results["micro_f1"]},
        }
    )
    write_description(model, changed)
    return changed


def report(
    model: str, scores: Scores, out: str, baselines: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Write the HTML report of a model on a set of clips.

    Raises:
        IrmasError: There is no finished model, or the page cannot be written.
    """
    # Here, so that no training waits for matplotlib.
    from irmas_dist.evaluation.report import write_report

    description = read_description(model)
    part = " and ".join(sorted(set(scores.parts)))
    write_report(
        out,
        title=f"{Path(model).name}: {len(scores.clip_ids)} {part} clips",
        scores=scores,
        thresholds=description.threshold_array(),
        model=description.model_dump(mode="json", exclude={"history"}),
        history=description.history,
        baselines=baselines,
        thresholds_from=description.thresholds_from,
    )
