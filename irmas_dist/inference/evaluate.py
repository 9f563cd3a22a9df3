"""The stages that put rooms together: train, evaluate, report, export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from irmas_dist import storage, tracking
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import TESTING, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.evaluate import Evaluation, judge
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.evaluation.thresholds import ThresholdSettings
from irmas_dist.features import store
from irmas_dist.features.extract import extract
from irmas_dist.inference.audio_inputs import find_audio
from irmas_dist.inference.export import ExportSummary
from irmas_dist.inference.export import export as export_model
from irmas_dist.inference.predictor import Predictor
from irmas_dist.pages import write_page
from irmas_dist.reports.model_card import model_card
from irmas_dist.terminal import progress
from irmas_dist.training.data import Task, load_task
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.model_directory import (
    ModelDescription,
    read_description,
)

CARD = "README.md"
"""The model card beside exported files, where those who share models look for it."""


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
    return _judge(predictor.description, scores, path)


def evaluate_tree(
    model: str, tree: Path, out: str, part: str, work: Path, address: str | None
) -> Evaluation:
    """Index and extract an IRMAS tree as a model needs it, and evaluate the model on it.

    What an earlier call left in ``work`` is not done again.

    Args:
        model: Model directory.
        tree: The audio and its labels.
        out: Where ``scores.parquet`` is written.
        part: Which part of the tree.
        work: Where the manifest and the features go.
        address: The Ray cluster to extract with; None starts one.

    Raises:
        IrmasError: The model or the tree cannot be used.
    """
    description = read_description(model)
    manifest, features = work / "manifest.parquet", str(work / "features")
    rows = index_tree(tree, description.vocabulary)
    if not any(row["part"] == part and not row["problem"] for row in rows):
        raise IrmasError(f"{tree} has no clips for {part} that can be used")
    write_manifest(manifest, [row for row in rows if row["part"] == part])
    extract(str(manifest), features, description.features, description.vocabulary, address=address)
    return evaluate(model, features, out, part)


def _judge(description: ModelDescription, scores: Scores, path: str) -> Evaluation:
    """Judge scores of a model, whose thresholds were fitted without them."""
    if scores.vocabulary != description.vocabulary:
        raise IrmasError(f"{path} holds scores of other instruments than the model's")
    fitted_to = set(scores.parts) - {TESTING}
    evaluation = judge(
        scores, path, description.threshold_array(), description.thresholds_from,
        ThresholdSettings.model_validate(description.recipe.get("thresholds", {})),
    )  # fmt: skip
    if fitted_to:
        evaluation.notes.append(
            f"the model has learnt from clips of {' and '.join(sorted(fitted_to))}: "
            "these figures say nothing of music that it has not heard"
        )
    return evaluation


def export(model: str, out: str, audio: Sequence[str] = ()) -> ExportSummary:
    """Export a model, and write its card beside the files.

    Args:
        model: Model directory. If it has been evaluated, the card has the figures.
        out: Directory for the files.
        audio: Files and folders to check the export on.

    Raises:
        IrmasError: The model or the audio cannot be used, or the export is not exact.
    """
    predictor = Predictor.load(model)
    summary = export_model(predictor, out, [source.path for source in find_audio(audio)])
    evaluation = None
    place = storage.join(model, "scores.parquet")
    if storage.exists(place):
        evaluation = _judge(predictor.description, read_scores(place), place)
    name = model.rstrip("/").rsplit("/", 1)[-1]
    card = model_card(name, predictor.description, evaluation, summary)
    with storage.write_whole(storage.join(out, CARD)) as stream:
        stream.write(card.encode())
    return replace(summary, files=[*summary.files, CARD])


def log_evaluation(recipe: Recipe, evaluation: Evaluation, name: str) -> None:
    """Log how a model does as a W&B run of its own, with a table of the instruments.

    The figures are those of the headline, and the run's name says by which protocol.
    """
    run = tracking.start_run(
        recipe.tracking,
        name=f"{name} ({evaluation.headline.protocol})",
        job_type="evaluate",
        config=recipe.model_dump(mode="json"),
    )
    run.summarise(evaluation.metrics)
    rows = [list(row.values()) for row in evaluation.instruments]
    run.table("instruments", list(evaluation.instruments[0]), rows)
    run.close()


def report(
    model: str,
    scores: Scores,
    out: str,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    tree: Path | None = None,
) -> None:
    """Write the HTML report of a model on a set of clips.

    Args:
        model: Model directory.
        scores: Its scores.
        out: The page.
        baselines: What else it is compared with, all on the same clips.
        tree: Where the audio is; None for a page without players.

    Raises:
        IrmasError: There is no finished model, the tree holds no audio, or the page cannot be
            written.
    """
    description = read_description(model)
    evaluation = _judge(description, scores, f"the scores of {model}")
    write_page(
        evaluation,
        out,
        title=Path(model).name,
        baselines=baselines,
        tree=tree,
        model=description.model_dump(mode="json", exclude={"history"}),
        history=description.history,
    )
