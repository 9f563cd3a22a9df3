"""Training: overhead of data, augmentation and Ray beside the network itself.

(a) the Learner against a bare loop over random tensors in memory, (b) one worker, an actor,
against the Learner alone, (c) two workers against one, each on one thread, beside two independent
Learners, (d) resident against streaming ingest, (e) the Learner's memory format and precision
against PyTorch's defaults, and the time from a command to the end of its first epoch. All with the
network of Han et al. (2016) on rendered clips, with all augmentation. On a GPU also (f): steps
captured as CUDA graphs, steps taken one by one and a bare loop, for recipes and batches in use.
Prints ratios with their quartiles and writes them to ``benchmarks/results/train.json``. Takes some
fifteen minutes on two idle cores; with a GPU everything runs there, and (c) only with two of them.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import ray
import torch
from processes.arguments import parser_of
from processes.machine import machine
from processes.noise import noise
from torch.nn import functional as F

from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe
from irmas_dist.config.training import IngestSettings, WorkerSettings
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import write_manifest
from irmas_dist.features.extract import extract
from irmas_dist.models.cnn import CNN
from irmas_dist.rendering.render import RenderSettings, render
from irmas_dist.storage.results import PROGRESS
from irmas_dist.training.data import TrainingData
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import load_training_data
from irmas_dist.training.precision import computes_in_bfloat16

HERE = Path(__file__).parent
RECIPE = HERE.parent / "configs" / "han2016.yaml"
EPOCHS = 60 if torch.cuda.is_available() else 3
"""On a GPU enough for what captures its first ones to weigh little."""

WINDOWS_PER_CLIP = 3
"""In whole epochs, which would otherwise end in seconds; those of IRMAS take minutes."""

ROUNDS = 2
OVERRIDES = (
    "augment.mix.counts=[1236, 1278, 318, 39, 3]",
    "augment.equalise_db=6",
    "augment.pitch_semitones=1",
    "augment.tempo=0.1",
    "augment.noise_snr_db=20",
    "augment.frequency_mask=16",
    "augment.time_mask=8",
    "training.batch_size=32",
    f"training.epochs={EPOCHS}",
    "training.patience=100",
    "validation.mixtures=40",
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU_CASES = (("irmas", 64), ("irmas", 256), ("han2016", 128))
GPU_CLIPS = 5_702
"""Training clips of IRMAS beside those held out."""

Measured = dict[str, Any]


def race(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run contestants in turn; each returns windows per second."""
    for run in contestants.values():
        run()  # first allocations, kernels and caches
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run())
    return rates


def ratio(name: str, rates: dict[str, list[float]], target: float | None = None) -> Measured:
    """Print and return the ratio of the first contestant's rate to the second's, over rounds."""
    ours, theirs = rates
    ratios = np.array(rates[ours]) / np.array(rates[theirs])
    middle, low, high = np.quantile(ratios, [0.5, 0.25, 0.75])
    goal = f", target {target:g}" if target else ""
    print(f"({name}) {ours} / {theirs}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}{goal})")
    for contestant, values in rates.items():
        print(f"      {contestant}: {np.median(values):.1f} windows/s")
    return {
        "ratio": middle,
        "quartiles": [low, high],
        "target": target,
        "windows_per_s": {key: float(np.median(values)) for key, values in rates.items()},
    }


def timed(windows: int, work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return windows / (time.perf_counter() - began)

    return run


def bare_loop(
    recipe: Recipe, data: TrainingData, windows: int, device: str, *, plain: bool
) -> Callable[[], None]:
    """Steps of a network over existing tensors; ``plain`` uses PyTorch's defaults."""
    frames = recipe.window.frames(data.store.settings)
    bands, instruments = data.store.settings.bands, len(data.store.vocabulary)
    network = CNN(recipe.model, bands, frames, instruments).to(device)
    if not plain:
        network.to(memory_format=torch.channels_last)
    halves = computes_in_bfloat16(torch.device(device)) and not plain
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.training.lr)
    inputs = torch.randn(windows, bands, frames, device=device)
    labels = (torch.rand(windows, instruments, device=device) < 0.15).float()

    def epoch() -> None:
        network.train()
        size = recipe.training.batch_size
        for low in range(0, windows, size):
            with torch.autocast(device, torch.bfloat16, enabled=halves):
                logits = network(inputs[low : low + size])
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels[low : low + size])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def part_of(data: TrainingData, clips: int) -> TrainingData:
    return dataclasses.replace(data, training=data.training.select(list(range(clips))))


def in_process(data: TrainingData, recipe: Recipe) -> Measured:
    """(a) and (e): everything in this process, on one thread or on the GPU."""
    device = DEVICE
    windows = 4 * recipe.training.batch_size
    learner = Learner(part_of(data, windows), recipe, device=device)
    recipe_loop = bare_loop(recipe, data, windows, device, plain=False)
    plain_loop = bare_loop(recipe, data, windows, device, plain=True)
    rates = race(
        {
            "Learner": timed(windows, learner.train_epoch),
            "bare loop": timed(windows, recipe_loop),
            "PyTorch's defaults": timed(windows, plain_loop),
        },
        rounds=8,
    )
    defaults = rates.pop("PyTorch's defaults")
    return {
        "learner": ratio("a", rates, 0.97),
        "recipe": ratio("e", {"channels last": rates["bare loop"], "defaults": defaults}),
    }


def epochs_per_s(data: TrainingData, recipe: Recipe, workers: int) -> float:
    """Train on workers of Ray; return windows per second from the first epoch to the last."""
    written: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as out:

        def on_epoch(metrics: dict[str, float]) -> None:
            pattern = f"{PROGRESS}/*/epoch-{int(metrics['epoch']):04d}/checkpoint.pt"
            written.extend(
                (metrics["epoch"], path.stat().st_mtime) for path in Path(out).glob(pattern)
            )

        settings = WorkerSettings(count=workers, checkpoints_to_keep=EPOCHS, gpu=DEVICE == "cuda")
        train_distributed(data, recipe, {}, out, settings, on_epoch)
    windows = len(data.training) * recipe.training.windows_per_clip
    # Not every epoch is saved.
    (first, began), (last, ended) = written[0], written[-1]
    return windows * (last - first) / (ended - began)


def alone(data: TrainingData, recipe: Recipe) -> float:
    learner = Learner(data, recipe, device=DEVICE)
    learner.run_epoch()
    began = time.perf_counter()
    for _ in range(EPOCHS - 1):
        learner.run_epoch()
    windows = len(data.training) * recipe.training.windows_per_clip
    return windows * (EPOCHS - 1) / (time.perf_counter() - began)


@ray.remote
def alone_in_a_worker(data: TrainingData, recipe: Recipe) -> float:
    torch.set_num_threads(1)
    return alone(data, recipe)


def distributed(data: TrainingData, recipe: Recipe) -> Measured:
    """(b) and (c): whole epochs, with validation and checkpoint."""
    names = ("Learner", "one worker", "two workers", "two independent Learners")
    rates: dict[str, list[float]] = {name: [] for name in names}
    shared = ray.put(data)
    two = DEVICE == "cpu" or torch.cuda.device_count() > 1
    for _ in range(ROUNDS):
        rates["Learner"].append(alone(data, recipe))
        rates["one worker"].append(epochs_per_s(data, recipe, 1))
        if not two:
            continue
        rates["two workers"].append(epochs_per_s(data, recipe, 2))
        task = alone_in_a_worker.options(num_gpus=int(DEVICE == "cuda"))
        independent = [task.remote(shared, recipe) for _ in range(2)]
        rates["two independent Learners"].append(sum(ray.get(independent)))
    pairs = (
        ("b", "one worker", "Learner", 0.97),
        ("c", "two workers", "one worker", 1.7),
        ("c, the machine's limit", "two independent Learners", "one worker", None),
    )
    return {
        ours: ratio(name, {ours: rates[ours], theirs: rates[theirs]}, target)
        for name, ours, theirs, target in pairs
        if rates[ours]
    }


def on_a_gpu() -> Measured:
    """(f): windows per second of epochs without validation, over as many clips as IRMAS has."""
    result: Measured = {}
    for name, batch in GPU_CASES:
        recipe = load_recipe(name, [f"training.batch_size={batch}"])
        data = noise(recipe, GPU_CLIPS)
        one_by_one = change(recipe, {"training.graph": "off"})
        contestants = {
            "captured steps": Learner(data, recipe, device=DEVICE).train_epoch,
            "one by one": Learner(data, one_by_one, device=DEVICE).train_epoch,
            "bare loop": bare_loop(recipe, data, GPU_CLIPS, DEVICE, plain=False),
        }
        for _ in range(3):  # Until the graphs of its first epochs' steps have been captured.
            contestants["captured steps"]()
        rates = race({key: timed(GPU_CLIPS, work) for key, work in contestants.items()}, rounds=5)
        bare = rates.pop("bare loop")
        case = f"{name}, batch {batch}"
        result[case] = ratio(f"f, {case}", rates) | {"bare_loop": float(np.median(bare))}
        print(f"      bare loop: {np.median(bare):.1f} windows/s")
    return result


def change(recipe: Recipe, values: Measured) -> Recipe:
    return build_recipe(recipe.model_dump(), values, "the benchmark")


def ingest(features: str, recipe: Recipe) -> Measured:
    """(d): the same epoch from memory and from the store."""
    learners, data = {}, {}
    for mode in ("streaming", "resident"):
        settings = IngestSettings.model_validate({"mode": mode})
        data[mode] = load_training_data(features, recipe.validation, settings)
        learners[mode] = Learner(data[mode], recipe, device=DEVICE)
    windows = len(data["resident"].training)
    result = ratio(
        "d",
        race({mode: timed(windows, one.train_epoch) for mode, one in learners.items()}, rounds=3),
    )
    plan_steps = learners["streaming"].plan_steps
    pools = ClipLoader(data["streaming"].training, 0, torch.device("cpu"))

    def read() -> None:
        for _ in pools.epoch(0, plan_steps, plan_ahead=False):
            pass

    rate = np.median([timed(windows, read)() for _ in range(3)])
    print(f"      streaming without training: {rate:.0f} clips/s")
    return {**result, "clips_per_s": float(rate)}


def first_epoch(features: str) -> Measured:
    """Seconds from ``irmas train`` to the end of its first epoch, on one worker and on two."""
    found = {}
    for workers in (1, 2):
        seconds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as out:
                command = [sys.executable, "-m", "irmas_dist", "train", features, f"{out}/model"]
                command += ["--config", RECIPE, "--workers", workers, "--no-gpu"]
                for override in (*OVERRIDES, "training.epochs=3", "tracking.mode=disabled"):
                    command += ["--set", override]
                began = time.time()
                with subprocess.Popen(map(str, command), stderr=subprocess.PIPE) as process:
                    while not list(Path(out).glob(f"model/{PROGRESS}/*/*/checkpoint.pt")):
                        time.sleep(0.02)
                        if process.poll():
                            raise RuntimeError(process.communicate()[1].decode())
                    seconds.append(time.time() - began)
                    process.terminate()
                    process.communicate()
        found[f"{workers} workers"] = float(np.median(seconds))
        print(
            f"from the command to the first epoch's end, {workers} workers: "
            f"{found[f'{workers} workers']:.1f} s"
        )
    return found


def main() -> None:
    parser_of(__doc__).parse_args()
    recipe = load_recipe(RECIPE, OVERRIDES)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tree, manifest, features = (Path(folder, name) for name in ("tree", "m.parquet", "store"))
        render(tree, RenderSettings(recordings=10, clips_per_recording=3, songs=0))
        write_manifest(manifest, index_tree(tree))
        result = {"machine": machine()}
        print(result["machine"])
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        extract(str(manifest), str(features), recipe.features, recipe.corpus.vocabulary)
        data = load_training_data(str(features), recipe.validation, IngestSettings(mode="resident"))
        result |= in_process(data, recipe)
        longer = {"training.windows_per_clip": WINDOWS_PER_CLIP}
        if DEVICE == "cuda":
            result["gpu"] = on_a_gpu()
        result |= distributed(data, change(recipe, longer))
        result["ingest"] = ingest(str(features), recipe)
        ray.shutdown()
        result["first_epoch"] = first_epoch(str(features))
    out = HERE / "results" / "train.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
