"""A sweep's trials per hour, and what a trial costs beside its training: ours against others.

One command, some 12 minutes, with a GPU one round and less: the same trials (the same values, seeds
and epochs, each of as many clips as this machine trains on in about 5 s, or 2 s with a GPU) on two
cores, or on a GPU and the cores beside it, by

* ``ours``: `LearnerTrial` under Tune, actors reused, features in the object store;
* ``plain``: ``study.optimize(n_jobs=1)`` in one process, once with one thread and once with
  as many as torch takes by itself;
* ``pair``: two such processes with one thread each, side by side and without any coordination,
  with the memory settings of our workers, which makes it the most that one thread per trial
  can reach on these cores;
* ``function``: a Tune function trainable that loads its data itself, without reuse of actors;
* ``trainer``: a TorchTrainer per trial, as in Ray's documentation: one trial at a time here.

Each contestant has its own process, and they take turns; rates are from the steady state: the
time from the end of the first trials (one per slot) to the end of the last. Overhead is what a
slot's time holds beside the CPU time of training. Start-up is stated apart. At the end, the
memory of 2 and of 8 trials at a time, with features of some hundred megabytes: what the
processes hold for themselves (USS), and what they share.
Writes ``benchmarks/results/sweep.json``.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from processes.arguments import parser_of
from processes.machine import machine

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "RAY_DEDUP_LOGS": "0"}
os.environ["RAY_ADDRESS"] = "local"
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"

RESULTS = Path(__file__).parent / "results"
GPU = torch.cuda.is_available()
CPUS = min(os.cpu_count() or 2, 16) if GPU else 2
"""Trials at a time. On a GPU, as many as there are cores share it."""

EPOCHS = 5
TRIALS = {"ours": 18, "plain-1": 6, "plain": 6, "pair": 7, "function": 8, "trainer": 4}
if GPU:
    TRIALS |= {"ours": 5 * CPUS, "function": 2 * CPUS, "trainer": 2}
"""Trials of each contestant in each round."""

ROUNDS = 1 if GPU else 2
TRIAL_S = 2.0 if GPU else 5.0
"""CPU time that a trial's training is to take."""

LONG, LONG_CLIPS = 6_000, 400
"""Frames of the clips with which memory is measured, and how many: copies of them would show."""

FEATURES = {"n_fft": 1_024, "hop_length": 512, "bands": 64}


def values(number: int) -> dict[str, Any]:
    """Return the values of a trial: the same for every contestant."""
    return {"training.lr": 1e-3 * (1 + number % 5), "seed": number}


def make_data(clips: int, frames: int = 130) -> Any:
    """Return clips of noise, of three seconds at first, with the demo's bands and instruments."""
    import numpy as np

    from irmas_dist.config.recipe import Recipe
    from irmas_dist.features.clips import Clips
    from irmas_dist.features.store import StoreInfo
    from irmas_dist.training.data import TrainingData
    from irmas_dist.training.sampling import mixing_alone
    from irmas_dist.training.validation import mixture_clips

    recipe = Recipe.model_validate({"features": FEATURES})
    vocabulary = recipe.corpus.vocabulary
    rng = np.random.default_rng(0)

    def draw(count: int, length: int) -> Clips:
        classes = np.arange(count) % len(vocabulary)
        mel = np.empty((count, length, 64), np.float16)
        for clip, which in enumerate(classes):
            mel[clip] = rng.normal(-9, 1, size=(length, 64))
            mel[clip, :, 5 * which : 5 * which + 5] += 4
        return Clips(
            frames=mel.reshape(-1, 64),
            starts=np.arange(count) * length,
            lengths=np.full(count, length),
            labels=np.eye(len(vocabulary), dtype=np.float32)[classes],
            clip_ids=[f"{i}" for i in range(count)],
            parts=["training"] * count,
            groups=[f"{i}" for i in range(count)],
        )

    training = draw(clips, frames)
    info = StoreInfo(
        settings=recipe.features, vocabulary=vocabulary, fingerprint="", manifest="", identity="",
        clips={"training": clips}, frames=clips * frames, shards=[],
        mean=[-9.0] * 64, std=[1.0] * 64,
    )  # fmt: skip
    validation = recipe.validation
    mixing = mixing_alone(validation.mix)
    mixed = mixture_clips(draw(clips, 130), clips, mixing, info.settings, validation.seed)
    return TrainingData(training=training, validation=mixed, store=info)


def make_recipe(folder: str, width: int) -> Any:
    from irmas_dist.config.recipe import Recipe

    return Recipe.model_validate({
        "features": FEATURES,
        "window": {"seconds": 1.5, "hop_seconds": 0.75},
        "model": {"blocks": 3, "width": width, "convolutions": 1, "pool": 2, "dense": 64,
                  "normalisation": "batch", "head": "average"},
        "augment": {"equalise_db": 0.0, "pitch_semitones": 0.0},
        "training": {"epochs": EPOCHS, "batch_size": 32, "patience": 99},
        "tracking": {"directory": folder},
    })  # fmt: skip


def train_one(data: Any, recipe: dict[str, Any], number: int) -> dict[str, float]:
    """Train one trial in this process; return when it began and ended, and its CPU seconds."""
    from irmas_dist.config.recipe import build_recipe
    from irmas_dist.training.learner import SELECTED_BY, Learner

    began, cpu = time.time(), time.process_time()
    settings = build_recipe(recipe, values(number), "the benchmark")
    learner = Learner(data, settings, device="cuda" if GPU else "cpu")
    while not learner.finished:
        learner.run_epoch()
    best = learner.history[learner.best_epoch - 1][SELECTED_BY]
    return {
        "began": began, "ended": time.time(), "cpu": time.process_time() - cpu, "value": best,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def steady(ends: list[float], slots: int) -> float:
    """Return trials per hour between the end of the first ones and the end of the last."""
    ends = sorted(ends)
    return 3_600 * (len(ends) - slots) / (ends[-1] - ends[slots - 1])


def by_plain(data: Any, recipe: dict[str, Any], trials: int, threads: int | None) -> dict:
    import optuna

    if threads:
        torch.set_num_threads(threads)
    study = optuna.create_study(direction="maximize")
    done: list[dict[str, float]] = []

    def objective(trial: optuna.Trial) -> float:
        done.append(train_one(data, recipe, trial.number))
        return done[-1]["value"]

    study.optimize(objective, n_trials=trials, n_jobs=1)
    return {"rate": steady([row["ended"] for row in done], 1), "slots": 1,
            "cpu": sum(row["cpu"] for row in done[1:]) / (trials - 1),
            "threads": done[0]["threads"]}  # fmt: skip


def by_pair(data: Any, recipe: dict[str, Any], trials: int) -> dict:
    """Run two plain processes side by side that know nothing of each other."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        both = list(pool.map(by_plain, [data] * 2, [recipe] * 2, [trials] * 2, [1] * 2))
    return {"rate": sum(one["rate"] for one in both), "slots": 2,
            "cpu": sum(one["cpu"] for one in both) / 2, "threads": 1}  # fmt: skip


def by_ours(data: Any, recipe: Any, trials: int, folder: str) -> dict:
    """Run the real thing, W&B, study and all, over a grid of the same values."""
    import ray

    from irmas_dist.cluster.runtime import WORKER_ENVIRONMENT
    from irmas_dist.config.sweep import SweepSettings
    from irmas_dist.search.space import build_space
    from irmas_dist.search.storages import open_study
    from irmas_dist.search.sweep import sweep

    settings = SweepSettings(trials=trials, concurrent=CPUS, sampler="grid", scheduler="none")
    learning_rates = [1e-3 * (1 + i) for i in range(5)]
    entries = {
        "training.lr": {"type": "categorical", "choices": learning_rates},
        "seed": {"type": "int", "low": 0, "high": trials - 1},
    }
    space = build_space(entries, recipe, "the benchmark")
    space.grid = lambda: [values(i) for i in range(trials)]  # the same trials, not all pairs
    ray.init(
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    began = time.time()
    out = Path(folder, "ours")
    sweep(data, recipe, space, out, settings)
    rows = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in out.glob("tune-*/*/result.json")
    ]
    recorded = open_study(str(out / "study.db")).get_trials(deepcopy=False)
    return {
        "rate": steady([trial.datetime_complete.timestamp() for trial in recorded], CPUS),
        "slots": CPUS,
        "cpu": sum(lines[-1]["cpu_s"] for lines in rows) / len(rows),
        "first_trial_s": min(lines[0]["timestamp"] for lines in rows) - began,
    }


def by_function(data: Any, recipe: dict[str, Any], trials: int, folder: str) -> dict:
    import pickle

    import ray
    from ray import tune

    from irmas_dist.search.gpu_sharing import share_of

    file = Path(folder, "data.pickle")
    file.write_bytes(pickle.dumps(data))

    def trainable(config: dict[str, Any]) -> None:
        import pickle as reader

        mine = reader.loads(file.read_bytes())
        tune.report(train_one(mine, recipe, config["number"]))

    ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1, "GPU": share_of(CPUS) if GPU else 0}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=CPUS, reuse_actors=False),
        run_config=tune.RunConfig(name="function", storage_path=folder, verbose=0),
    )
    rows = [result.metrics for result in tuner.fit()]
    return {"rate": steady([row["ended"] for row in rows], CPUS), "slots": CPUS,
            "cpu": sum(row["cpu"] for row in rows) / trials,
            "threads": rows[0]["threads"]}  # fmt: skip


def by_trainer(data: Any, recipe: dict[str, Any], trials: int, folder: str) -> dict:
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    shared = ray.put(data)

    def worker(config: dict[str, Any]) -> None:
        train.report(train_one(ray.get(config["data"]), recipe, config["number"]))

    def trainable(config: dict[str, Any]) -> None:
        trainer = TorchTrainer(
            worker,
            train_loop_config={"data": shared, "number": config["number"]},
            scaling_config=train.ScalingConfig(num_workers=1, use_gpu=GPU),
            run_config=train.RunConfig(
                name=f"trial-{config['number']}",
                storage_path=folder,
                callbacks=[TuneReportCallback()],
            ),
        )
        trainer.fit()

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        # A trial takes a CPU for its worker and another one that only waits for it, and a GPU.
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="trainer", storage_path=folder, verbose=0),
    )
    rows = [result.metrics for result in tuner.fit()]
    return {"rate": steady([row["ended"] for row in rows], 1), "slots": 1,
            "cpu": sum(row["cpu"] for row in rows) / trials,
            "threads": rows[0]["threads"]}  # fmt: skip


def by_memory(data: Any, recipe: dict[str, Any], concurrent: int) -> dict:
    """Return what the actors of some trials at a time hold, while they train."""
    import ray
    from ray.tune import with_parameters

    # isort: split
    import psutil

    from irmas_dist.cluster.runtime import WORKER_ENVIRONMENT
    from irmas_dist.search.trial import TRIAL, LearnerTrial

    ray.init(
        num_cpus=concurrent,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    with tempfile.TemporaryDirectory() as folder:
        kind = with_parameters(LearnerTrial, data=data, recipe=recipe, root=folder)
        remote = ray.remote(num_cpus=1)(kind)
        actors = [
            remote.remote(config=values(i) | {TRIAL: {"number": i, "resume": False}})
            for i in range(concurrent)
        ]
        pids = [row["pid"] for row in ray.get([actor.train.remote() for actor in actors])]
        memory = [psutil.Process(pid).memory_full_info() for pid in pids]
    return {"features_mb": data.training.frames.nbytes / 1e6,
            "uss_mb_per_trial": sum(m.uss for m in memory) / concurrent / 1e6,
            "shared_mb_per_trial": sum(m.rss - m.uss for m in memory) / concurrent / 1e6,
            "uss_mb": sum(m.uss for m in memory) / 1e6}  # fmt: skip


def contest(name: str, trials: int, width: int, clips: int) -> dict:
    """Run one contestant in this process."""
    from irmas_dist.cluster.mps import multi_process_service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recipe = make_recipe(folder, width)
        plain = recipe.model_dump()
        data = make_data(LONG_CLIPS, LONG) if name.startswith("memory") else make_data(clips)
        began = time.time()
        if name.startswith("memory"):
            result = by_memory(data, plain, trials)
        elif name.startswith("plain"):
            result = by_plain(data, plain, trials, 1 if name == "plain-1" else None)
        elif name == "pair":
            result = by_pair(data, plain, trials)
        elif name == "ours":
            with multi_process_service(wanted=GPU):
                result = by_ours(data, recipe, trials, folder)
        elif name == "function":
            result = by_function(data, plain, trials, folder)
        else:
            result = by_trainer(data, plain, trials, folder)
        return result | {"seconds": time.time() - began}


def in_process(name: str, trials: int, arguments: argparse.Namespace) -> dict:
    """Run one contestant in a process of its own, whose threads and caches end with it."""
    command = [sys.executable, __file__, "--only", name, "--trials", str(trials)]
    command += ["--width", str(arguments.width), "--clips", str(arguments.clips)]
    environment = dict(os.environ)
    if name == "pair":
        from irmas_dist.cluster.runtime import WORKER_ENVIRONMENT

        environment |= WORKER_ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result: dict = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="one contestant, in this process")
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--clips", type=int, help="per trial; by itself as many as take 5 s")
    arguments = parser.parse_args()
    if arguments.only:
        result = contest(arguments.only, arguments.trials, arguments.width, arguments.clips)
        print(json.dumps(result))
        return
    began = time.time()
    if not arguments.clips:
        arguments.clips = 300
        seconds = in_process("pair", 2, arguments)["cpu"]
        arguments.clips = round(arguments.clips * TRIAL_S / seconds)
        print(f"{arguments.clips} clips make a trial of {TRIAL_S:.0f} s", flush=True)
    rounds: dict[str, list[dict]] = {name: [] for name in TRIALS}
    for turn in range(arguments.rounds):
        for name, trials in TRIALS.items():
            if name == "trainer" and turn:
                continue  # half a minute for each of its trials: once is enough
            rounds[name].append(in_process(name, arguments.trials or trials, arguments))
            last = rounds[name][-1]
            print(f"round {turn + 1}: {name:9s} {last['rate']:6.0f} trials an hour", flush=True)
    memory = {n: in_process(f"memory-{n}", n, arguments) for n in (2, 8)}
    report(rounds, memory, time.time() - began)


def report(rounds: dict[str, list[dict]], memory: dict[int, dict], seconds: float) -> None:
    """Print the table and write it down."""
    summary: dict[str, Any] = {}
    for name, runs in rounds.items():
        rates = [run["rate"] for run in runs]
        ratios = [
            ours["rate"] / run["rate"] for ours, run in zip(rounds["ours"], runs, strict=False)
        ]
        cpu = sum(run["cpu"] for run in runs) / len(runs)
        rate = sum(rates) / len(rates)
        summary[name] = {
            "trials_per_hour": rate,
            "trials_per_hour_by_round": rates,
            "ours_times_as_many": sum(ratios) / len(ratios),
            "ours_times_as_many_by_round": ratios,
            "training_cpu_s_per_trial": cpu,
            "overhead_s_per_trial": 3_600 * runs[0]["slots"] / rate - cpu,
        }
        row = summary[name]
        print(
            f"{name:9s} {rate:6.0f} trials an hour; ours {row['ours_times_as_many']:5.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f}); {cpu:.2f} s CPU and "
            f"{row['overhead_s_per_trial']:.2f} s besides per trial"
        )
    first = [run["first_trial_s"] for run in rounds["ours"]]
    print(f"ours: first epoch {min(first):.1f} to {max(first):.1f} s after the sweep's start")
    for count, row in memory.items():
        print(
            f"{count} trials at a time: {row['uss_mb']:.0f} MB of their own "
            f"({row['uss_mb_per_trial']:.0f} each), and each shares "
            f"{row['shared_mb_per_trial']:.0f} MB with others; the features have "
            f"{row['features_mb']:.0f} MB"
        )
    RESULTS.mkdir(exist_ok=True)
    content = {
        "machine": machine(),
        "contestants": summary,
        "first_epoch_s": first,
        "memory": memory,
        "seconds": seconds,
    }
    (RESULTS / "sweep.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
