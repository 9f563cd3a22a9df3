"""What a mask wins back where most labels are unknown: macro average precision on full labels.

One command, some 40 minutes on two idle cores, most of it rendering and training. A twin of
OpenMIC-2018 is rendered, of which it is known of every clip what plays. Three trainings of the
recipe `openmic`, with the same seed, learn from all labels; from 40 % of them, drawn at random, the
others unknown; and from the same with unknown taken for absent. Each is evaluated on the test clips
with all their labels. The share of the loss that the mask wins back is (mask - absent) / (full -
absent). ``--seeds`` repeats it with other seeds of masks and trainings.

Then the training throughput on the masked labels and on the full ones, interleaved. Writes
``benchmarks/results/partial_labels.json``; ``--work`` keeps audio and features for the next time.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from processes.arguments import parser_of
from processes.machine import machine

from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.corpus.clip_table import add_audio, parse_table
from irmas_dist.corpus.manifest import write_manifest
from irmas_dist.corpus.openmic import FOLDER, OPENMIC, clip_path
from irmas_dist.features.clips import Clips
from irmas_dist.features.extract import extract
from irmas_dist.inference.evaluate import evaluate
from irmas_dist.rendering.openmic_twin import OpenMicClip, openmic_clips
from irmas_dist.rendering.twin import TwinSettings, render_twin
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.train import train

RESULTS = Path(__file__).parent / "results"
KNOWN = 0.4
"""Share of the labels that are kept where some are unknown."""

LABELS = ("full", "mask", "absent")
ROUNDS = 60
CLIPS = 128
"""Clips of an epoch whose throughput is measured: short ones, so that both sides meet the same."""


def rows(clips: Sequence[OpenMicClip], labels: str, seed: int) -> Iterator[str]:
    """Yield the lines of a table of clips; test clips have all their labels."""
    rng = np.random.default_rng(seed)
    yield ",".join(["path", "part", "group", *OPENMIC.codes])
    for clip in clips:
        known = rng.random(len(OPENMIC)) < KNOWN
        unknown = {"full": None, "mask": "?", "absent": "0"}[labels]
        cells = [
            unknown
            if unknown and not drawn and clip.part == "training"
            else str(int(code in clip.plays))
            for code, drawn in zip(OPENMIC.codes, known, strict=True)
        ]
        yield ",".join([f"{FOLDER}/{clip_path(clip.key)}", clip.part, str(clip.artist), *cells])


def extract_tables(work: Path, clips: Sequence[OpenMicClip], recipe: Recipe, seed: int) -> None:
    """Write a store for each kind of labels; the audio is decoded once."""
    first = work / f"features-{LABELS[0]}"
    for labels in LABELS:
        table, store = work / f"{labels}.csv", work / f"features-{labels}"
        table.write_text("\n".join(rows(clips, labels, seed)) + "\n")
        manifest = work / f"{labels}.parquet"
        listed = add_audio(parse_table(str(table), OPENMIC, root=str(work / "twin")))
        write_manifest(manifest, listed, OPENMIC)
        if not store.exists() and first.exists():
            shutil.copytree(first, store)
        extract(str(manifest), str(store), recipe.features, OPENMIC)


def macro_ap(work: Path, labels: str, recipe: Recipe, init: str | None) -> float:
    """Train on a store, and evaluate on its test clips."""
    store = str(work / f"features-{labels}")
    with tempfile.TemporaryDirectory(dir=work) as model:
        train(recipe, store, model, WorkerSettings(), init=init)
        return evaluate(model, store, model).metrics["map"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that both sides have the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def throughput(work: Path, recipe: Recipe) -> dict[str, Any]:
    """Return windows per second with masked labels relative to full ones, epoch by epoch."""
    learners = {}
    for labels in ("full", "mask"):
        data = open_training_data(str(work / f"features-{labels}"), recipe)
        assert isinstance(data.training, Clips)
        few = replace(data, training=data.training.select(list(range(CLIPS))))
        learners[labels] = Learner(few, recipe)
    seconds: dict[str, list[float]] = {labels: [] for labels in learners}
    with one_thread():
        for number in range(ROUNDS + 1):
            for labels, learner in learners.items():
                began = time.perf_counter()
                learner.train_epoch()
                if number:  # The first one warms up.
                    seconds[labels].append(time.perf_counter() - began)
    ratios = sorted(
        full / mask for full, mask in zip(seconds["full"], seconds["mask"], strict=True)
    )
    low, middle, high = (ratios[len(ratios) * quarter // 4] for quarter in (1, 2, 3))
    return {"median": middle, "quartiles": [low, high], "rounds": len(ratios)}


def main() -> None:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--fraction", type=float, default=0.12, help="of OpenMIC's 20,000 clips")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--init", default=None, metavar="MODEL", help="as of irmas train")
    parser.add_argument("--work", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        clips = openmic_clips(given.fraction)
        render_twin(work / "twin", TwinSettings(dataset="openmic", fraction=given.fraction))
        results: dict[str, Any] = {"machine": machine(), "clips": len(clips), "known": KNOWN}
        results["macro_ap"] = []
        # A tenth of the clips needs more epochs than all of them; to the end, for equal steps.
        length = [f"training.epochs={given.epochs}", f"training.patience={given.epochs}"]
        for seed in range(given.seeds):
            recipe = load_recipe("openmic", [*length, f"seed={seed}", "tracking.mode=disabled"])
            extract_tables(work, clips, recipe, seed)
            found = {labels: macro_ap(work, labels, recipe, given.init) for labels in LABELS}
            lost = found["full"] - found["absent"]
            found["won_back"] = (found["mask"] - found["absent"]) / lost
            results["macro_ap"].append(found)
            print(", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
        results["throughput"] = throughput(work, recipe)
        print("throughput with a mask / without:", results["throughput"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "partial_labels.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
