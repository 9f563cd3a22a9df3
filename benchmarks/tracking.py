"""What logging to W&B costs: trials per hour and training throughput, and the end of a sweep.

One command, some 15 minutes: the same sweep, and the same training, with W&B

* ``disabled``;
* ``offline``: runs are written to disk;
* ``online``: and uploaded, to a server on this machine that answers at once;
* ``slow``: the same, and each request takes a second;
* ``dead``: nothing listens where the server should be.

Each has its own process, and they take turns. Stated are trials per hour from the end of the first
ones, windows of training per second, the seconds from the last trial to the prompt (the summary run
and the uploads), and what a trial costs in requests, bytes sent, and files on disk.
Writes ``benchmarks/results/tracking.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from processes.machine import machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MODES = ("disabled", "offline", "online", "slow", "dead")
SLOW_S = 1.0
ROUNDS = 3
TRIALS = 16
CLIPS = 1_000
"""Of a trial, which takes some seconds."""

EPOCHS = 12
"""Of the training; the first one does not count."""

Measured = dict[str, Any]


def sweep_with(mode: str, trials: int, clips: int, folder: str) -> Measured:
    """Sweep in this process; return trials per hour and the seconds of the end."""
    import ray
    from sweep import CPUS, make_data, make_recipe, steady, values

    from irmas_dist.cluster.runtime import WORKER_ENVIRONMENT
    from irmas_dist.config.recipe import build_recipe
    from irmas_dist.config.sweep import SweepSettings
    from irmas_dist.reports.wandb_summary import log_summary
    from irmas_dist.search.space import build_space
    from irmas_dist.search.storages import open_study
    from irmas_dist.search.sweep import sweep
    from irmas_dist.tracking.outcome import uploads_awaited

    recipe = make_recipe(folder, 16)
    recipe = build_recipe(recipe.model_dump(), {"tracking.mode": mode}, "the benchmark")
    settings = SweepSettings(trials=trials, concurrent=CPUS, sampler="grid", scheduler="none")
    entries = {
        "training.lr": {"type": "categorical", "choices": [1e-3 * (1 + i) for i in range(5)]},
        "seed": {"type": "int", "low": 0, "high": trials - 1},
    }
    space = build_space(entries, recipe, "the benchmark")
    space.grid = lambda: [values(i) for i in range(trials)]
    ray.init(
        "local",
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    out = Path(folder, "sweep")
    with uploads_awaited(recipe.tracking.wait_s):
        summary = sweep(make_data(clips), recipe, space, out, settings)
        log_summary(summary)
    prompt = time.time()
    recorded = open_study(str(out / "study.db")).get_trials(deepcopy=False)
    ends = [trial.datetime_complete.timestamp() for trial in recorded]
    files = [path for path in Path(folder, "wandb").rglob("*") if path.is_file()]
    return {
        "trials_per_hour": steady(ends, CPUS),
        "end_s": prompt - max(ends),
        "files_per_trial": len(files) / trials,
        "disk_bytes_per_trial": sum(path.stat().st_size for path in files) / trials,
    }


def train_with(mode: str, epochs: int, clips: int, folder: str) -> Measured:
    """Train in this process as the command does; return windows per second after one epoch."""
    import torch
    from sweep import make_data, make_recipe

    from irmas_dist.config.recipe import build_recipe
    from irmas_dist.tracking.outcome import uploads_awaited
    from irmas_dist.tracking.start import start_run
    from irmas_dist.training.learner import Learner
    from irmas_dist.training.local import computing_on

    changes = {"tracking.mode": mode, "training.epochs": epochs}
    recipe = build_recipe(make_recipe(folder, 16).model_dump(), changes, "the benchmark")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with uploads_awaited(recipe.tracking.wait_s), computing_on(1):
        learner = Learner(make_data(clips), recipe, device=device)
        run = start_run(
            recipe.tracking, name="train", job_type="train", config=recipe.model_dump(mode="json"),
            run_id="train",
        )  # fmt: skip
        seconds, logging = [], []
        while not learner.finished:
            began = time.perf_counter()
            metrics = learner.run_epoch()
            trained = time.perf_counter()
            run.log(metrics)
            seconds.append(time.perf_counter() - began)
            logging.append(time.perf_counter() - trained)
        run.close()
        ended = time.time()
    return {
        "windows_per_s": clips * recipe.training.windows_per_clip / float(np.median(seconds[1:])),
        "log_ms": 1_000 * float(np.median(logging)),
        "end_s": time.time() - ended,
    }


def in_process(work: str, mode: str, arguments: argparse.Namespace) -> Measured:
    """Run one contestant in a process of its own, with the server that its mode asks for."""
    sys.path.insert(0, str(ROOT))
    from tests.ray_cluster import free_port
    from tests.wandb_server import Fault, WandbServer

    server = WandbServer(f"http://127.0.0.1:{free_port()}")
    server.faults = [Fault(delay_s=SLOW_S)] if mode == "slow" else []
    if mode in ("online", "slow"):
        server.start()
    command = [sys.executable, __file__, "--only", work, "--mode", mode]
    command += ["--trials", str(arguments.trials), "--clips", str(arguments.clips)]
    command += ["--epochs", str(arguments.epochs)]
    environment = os.environ | {
        "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true",
        "RAY_ADDRESS": "local", "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    environment.pop("WANDB_MODE", None)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    finally:
        server.stop()
    if done.returncode:
        raise SystemExit(f"{work}, {mode} failed:\n{done.stderr[-3000:]}")
    result: Measured = json.loads(done.stdout.splitlines()[-1])
    requests = [request for request in server.requests if request.call != "telemetry"]
    return result | {
        "requests": len(requests),
        "bytes_sent": sum(request.body for request in requests),
        "complete": sum(run.state == "finished" for run in server.runs.values()),
        "told": [line for line in done.stderr.splitlines() if line.startswith("W&B")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("sweep", "train"), help="one, in this process")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    if arguments.only:
        mode = arguments.mode if arguments.mode in ("disabled", "offline") else "online"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if arguments.only == "sweep":
                result = sweep_with(mode, arguments.trials, arguments.clips, folder)
            else:
                result = train_with(mode, arguments.epochs, arguments.clips, folder)
        print(json.dumps(result))
        return
    began = time.time()
    found: dict[str, dict[str, list[Measured]]] = {}
    for turn in range(arguments.rounds):
        for work in ("sweep", "train"):
            # Another order in each round: what comes first may find a cooler machine.
            for mode in (*MODES[turn % len(MODES) :], *MODES[: turn % len(MODES)]):
                result = in_process(work, mode, arguments)
                found.setdefault(work, {}).setdefault(mode, []).append(result)
                rate = result.get("trials_per_hour") or result["windows_per_s"]
                print(f"round {turn + 1}: {work} {mode:9s} {rate:8.1f}", flush=True)
    report(found, arguments.trials, time.time() - began)


def report(found: dict[str, dict[str, list[Measured]]], trials: int, seconds: float) -> None:
    """Print the tables and write them down."""
    summary: Measured = {"machine": machine(), "seconds": seconds}
    print(summary["machine"])
    for work, rate in (("sweep", "trials_per_hour"), ("train", "windows_per_s")):
        plain = np.array([run[rate] for run in found[work]["disabled"]])
        for mode, runs in found[work].items():
            rates = np.array([run[rate] for run in runs])
            ends = [run["end_s"] for run in runs]
            row: Measured = {
                rate: float(np.median(rates)),
                "of_disabled": float(np.median(rates / plain)),
                "of_disabled_by_round": (rates / plain).tolist(),
                "end_s": float(np.median(ends)),
                "requests": float(np.median([run["requests"] for run in runs])),
                "bytes_sent": float(np.median([run["bytes_sent"] for run in runs])),
                "complete": min(run["complete"] for run in runs),
                "told": runs[-1]["told"],
            }
            row |= {name: runs[-1][name] for name in runs[-1] if "_per_trial" in name}
            row |= {"log_ms": runs[-1]["log_ms"]} if work == "train" else {}
            summary[f"{work}, {mode}"] = row
            share = (
                f"{row['of_disabled']:.3f} ({min(rates / plain):.3f} to {max(rates / plain):.3f})"
            )
            print(
                f"{work} {mode:9s} {row[rate]:8.1f} {rate.replace('_', ' ')}, {share} of disabled; "
                f"{row['end_s']:.1f} s to the prompt; {row['requests']:.0f} requests, "
                f"{row['bytes_sent'] / 1e3:.0f} kB, {row['complete']} runs complete"
            )
            if work == "sweep":
                print(
                    f"      per trial: {row['requests'] / trials:.1f} requests, "
                    f"{row['bytes_sent'] / trials / 1e3:.1f} kB sent, "
                    f"{row['files_per_trial']:.1f} files of "
                    f"{row['disk_bytes_per_trial'] / 1e3:.1f} kB on disk"
                )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
