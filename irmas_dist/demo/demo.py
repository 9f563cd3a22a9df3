"""The whole pipeline on a small rendered corpus, with two baselines measured in the same run."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.cluster.runtime import ray_running
from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import TESTING, TRAINING, write_manifest
from irmas_dist.demo.mfcc_baseline import mfcc_baseline
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.baselines import most_frequent
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.evaluation.scores import Scores
from irmas_dist.features.extract import extract
from irmas_dist.inference.evaluate import evaluate
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import Vocabulary
from irmas_dist.rendering.render import RenderSettings, render
from irmas_dist.reports.model_page import write_model_page
from irmas_dist.reports.wandb_evaluation import log_evaluation
from irmas_dist.reports.wandb_summary import log_summary
from irmas_dist.search.space import load_space
from irmas_dist.search.sweep import SweepSettings, sweep
from irmas_dist.storage.locks import lock_directory
from irmas_dist.terminal import say
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description
from irmas_dist.training.train import train

SEARCH_EPOCHS = 9
"""Most epochs of a trial; the best recipe is then trained for the epochs of the demo's recipe."""

MARKER = ".irmas-demo"
"""File in the directory of a demo, whose content a later demo may overwrite."""


def demo(out: Path, trials: int) -> dict[str, Any]:
    """Render, index, extract, search, train, fit thresholds, evaluate, predict and report.

    Args:
        out: Directory of all results; those of an earlier demo are overwritten.
        trials: Trials of the search.

    Returns:
        The content of ``summary.json``: ``micro_f1``, ``macro_f1``, ``protocol``, ``metrics``,
        ``per_instrument``, ``baselines``, ``trials``, ``seconds`` by stage and ``paths``.

    Raises:
        IrmasError: ``out`` holds results that are not a demo's, or a stage failed.
    """
    with lock_directory(out):
        return _demo(out, trials)


def _demo(out: Path, trials: int) -> dict[str, Any]:
    _clear(out)
    # Not as overrides, which are YAML: a directory may be called 1.
    directory = {"tracking.directory": str(out)}
    recipe = build_recipe(load_recipe("demo").model_dump(), directory, "the demo")
    vocabulary = recipe.corpus.vocabulary
    tree, manifest, features = out / "audio", out / "manifest.parquet", str(out / "features")
    model, page = str(out / "model"), str(out / "report.html")
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str, description: str) -> Iterator[None]:
        say(description, "bold")
        began = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - began, 1)

    with stage("render", "Rendering an IRMAS-shaped corpus from a soundfont"):
        render(tree, RenderSettings(), vocabulary)
    with stage("index", "Indexing it"):
        table = write_manifest(manifest, index_tree(tree, vocabulary), vocabulary)
    say("Starting Ray", "bold")
    with ray_running():
        with stage("extract", "Computing log-mel spectrograms with Ray Data"):
            extract(str(manifest), features, recipe.features, vocabulary)
        with stage("sweep", f"Searching with Ray Tune and Optuna, {trials} trials"):
            data = open_training_data(features, recipe)
            epochs = {"training.epochs": SEARCH_EPOCHS}
            short = build_recipe(recipe.model_dump(), epochs, "the demo")
            space = load_space("quick", short)
            found = sweep(data, short, space, out / "sweep", SweepSettings(trials=trials))
            log_summary(found)
    training = found.best.training.model_copy(update={"epochs": recipe.training.epochs})
    best = found.best.model_copy(update={"training": training})
    with stage("train", "Training the best recipe"):
        train(best, features, model, WorkerSettings())
    with stage("evaluate", "Scoring the test excerpts"):
        evaluation = evaluate(model, features, model)
        log_evaluation(read_description(model), evaluation, "model")
    with stage("baselines", "Measuring the baselines on the same excerpts"):
        baselines = _baselines(table, evaluation.scores, vocabulary, best)
    write_model_page(page, evaluation, "model", read_description(model), baselines)
    _predict_one(model, table)

    summary = {
        "micro_f1": evaluation.metrics["micro_f1"],
        "macro_f1": evaluation.metrics["macro_f1"],
        "protocol": evaluation.headline.protocol,
        "metrics": evaluation.metrics,
        "per_instrument": evaluation.instruments,
        "baselines": baselines,
        "trials": found.trials,
        "seconds": seconds,
        "paths": {
            "model": model,
            "report": page,
            "wandb_runs": str(out / "wandb"),
            "summary": str(out / "summary.json"),
        },
    }
    storage.write_json(out / "summary.json", summary)
    return summary


def _clear(out: Path) -> None:
    """Delete the results of an earlier demo; refuse those of anything else."""
    names = ("audio", "features", "sweep", "model", "wandb",
             "manifest.parquet", "summary.json", "report.html")  # fmt: skip
    results = [out / name for name in names]
    found = [path for path in results if path.exists()]
    if found and not (out / MARKER).exists():
        raise IrmasError(
            f"{found[0]} is not a demo's, and the demo would replace it; choose another --out"
        )
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def _baselines(
    table: pa.Table, scores: Scores, vocabulary: Vocabulary, recipe: Recipe
) -> dict[str, dict[str, float]]:
    """Evaluate both baselines on the clips that the model is evaluated on."""
    # Chosen on the test labels themselves: the best that any fixed answer can reach.
    always = most_frequent(scores.labels, len(scores.clip_ids)).astype(np.float32)
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    training = table.filter(pc.equal(table.column("part"), TRAINING)).to_pylist()
    labels = np.stack([vocabulary.encode(row["instruments"]) for row in training])
    by_mfcc, thresholds = mfcc_baseline(
        training, labels, [rows[clip] for clip in scores.clip_ids], recipe.thresholds
    )
    return {
        "most frequent instruments": overall_metrics(scores.labels, always, 0.5),
        "logistic regression on MFCC means": overall_metrics(scores.labels, by_mfcc, thresholds),
    }


def _predict_one(model: str, table: pa.Table) -> None:
    """Predict the first test excerpt from its file, as a user would."""
    predictor = Predictor.load(model)
    row = next(row for row in table.to_pylist() if row["part"] == TESTING)
    predicted = predictor.decide(predictor.file(row["path"]))
    names = predictor.description.instruments
    say(
        f"{Path(row['path']).name}: predicted {', '.join(names[c] for c in predicted) or 'none'}; "
        f"labelled {', '.join(names[c] for c in row['instruments'])}"
    )
