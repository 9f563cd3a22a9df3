"""What logging to W&B costs: trials per hour and training throughput, and the end of a sweep.

One command, some 40 minutes: the same sweep, and the same training, with W&B

* ``disabled``;
* ``offline``: runs are written to disk;
* ``online``: and uploaded, to a server on this machine that answers at once;
* ``slow``: the same, and each request takes a second;
* ``dead``: nothing listens where the server should be.

Each has its own process, and they take turns: trainings after every epoch, sweeps as a whole. One
process computes some per cent faster than another that does the same, so all are started anew
several times. Stated are trials per hour from the end of the first ones and windows of training per
second, relative to those beside them without W&B: the mean over the starts and its standard error;
CPU time of a sweep; the seconds from the last trial to the prompt (the summary run and the
uploads); and what a trial costs in requests, bytes sent, and files on disk.
Writes ``benchmarks/results/tracking.json``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from processes.arguments import parser_of
from processes.machine import machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MODES = ("disabled", "offline", "online", "slow", "dead")
SLOW_S = 1.0
ROUNDS = 3
TRIALS = 12
CLIPS = 1_500
"""Of a trial, which takes some seconds."""

STARTS = 8
EPOCHS = 8
"""Of a training; the first one does not count."""

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
        with cpu_seconds() as spent:
            summary = sweep(make_data(clips), recipe, space, out, settings)
        log_summary(summary)
    prompt = time.time()
    recorded = open_study(str(out / "study.db")).get_trials(deepcopy=False)
    ends = [trial.datetime_complete.timestamp() for trial in recorded]
    files = [path for path in Path(folder, "wandb").rglob("*") if path.is_file()]
    return {
        "trials_per_hour": steady(ends, CPUS),
        "end_s": prompt - max(ends),
        "cpu_s": sum(spent.values()),
        "files_per_trial": len(files) / trials,
        "disk_bytes_per_trial": sum(path.stat().st_size for path in files) / trials,
    }


@contextmanager
def cpu_seconds() -> Iterator[dict[int, float]]:
    """Watch this process and its descendants; yield the CPU seconds of each in the block."""
    import ray  # puts the psutil that it brings along on the import path

    assert ray
    import psutil

    spent: dict[int, float] = {}
    before: dict[int, float] = {}
    over = Event()

    def look() -> None:
        this = psutil.Process()
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.Error):
                used = sum(process.cpu_times()[:2])
                spent[process.pid] = used - before.get(process.pid, 0)

    look()
    before |= spent
    watching = Thread(target=lambda: [look() for _ in iter(lambda: over.wait(0.5), True)])
    watching.start()
    try:
        yield spent
    finally:
        over.set()
        watching.join()
        look()


def train_with(mode: str, clips: int, folder: str) -> None:
    """Train in this process as the command does, an epoch for each line that is read.

    Writes the windows per second of each, and at the end what the run's end took.
    """
    import torch
    from sweep import make_data, make_recipe

    from irmas_dist.config.recipe import build_recipe
    from irmas_dist.tracking.outcome import uploads_awaited
    from irmas_dist.tracking.start import start_run
    from irmas_dist.training.learner import Learner
    from irmas_dist.training.local import computing_on

    changes = {"tracking.mode": mode, "training.epochs": 1_000, "training.patience": 1_000}
    recipe = build_recipe(make_recipe(folder, 16).model_dump(), changes, "the benchmark")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with uploads_awaited(recipe.tracking.wait_s), computing_on(1):
        learner = Learner(make_data(clips), recipe, device=device)
        run = start_run(
            recipe.tracking, name="train", job_type="train", config=recipe.model_dump(mode="json"),
            run_id="train",
        )  # fmt: skip
        logging = []
        for _ in sys.stdin:
            began = time.perf_counter()
            metrics = learner.run_epoch()
            trained = time.perf_counter()
            run.log(metrics)
            ended = time.perf_counter()
            logging.append(ended - trained)
            windows = clips * recipe.training.windows_per_clip
            print(windows / (ended - began), flush=True)
        run.close()
        ended = time.perf_counter()
    last = {"log_ms": 1_000 * float(np.median(logging)), "end_s": time.perf_counter() - ended}
    print(json.dumps(last), flush=True)


def trained(clips: int, epochs: int) -> dict[str, Measured]:
    """Train with every mode side by side, each in a process that waits for its turn."""
    with ExitStack() as stack:
        servers = {mode: stack.enter_context(served(mode)) for mode in MODES}
        processes = {
            mode: stack.enter_context(
                subprocess.Popen(
                    command("train", mode, clips=clips),
                    env=environment(servers[mode]),
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for mode in MODES
        }
        rates: dict[str, list[float]] = {mode: [] for mode in MODES}
        for turn in range(epochs + 1):
            for mode in (*MODES[turn % len(MODES) :], *MODES[: turn % len(MODES)]):
                process = processes[mode]
                assert process.stdin is not None
                assert process.stdout is not None
                print("another epoch", file=process.stdin, flush=True)
                if not (rate := process.stdout.readline()):
                    raise SystemExit(f"train, {mode} failed:\n{process.communicate()[1][-3000:]}")
                rates[mode] += [float(rate)] if turn else []  # The first one warms up.
        found: dict[str, Measured] = {}
        for mode, process in processes.items():
            said, errors = process.communicate()
            last = json.loads(said.splitlines()[-1]) | sent(servers[mode], errors)
            found[mode] = last | {"windows_per_s": float(np.median(rates[mode]))}
        return found


@contextmanager
def served(mode: str) -> Iterator[Any]:
    """Run the server that a mode asks for, if it asks for one that is there."""
    sys.path.insert(0, str(ROOT))
    from tests.ray_cluster import free_port
    from tests.wandb_server import Fault, WandbServer

    server = WandbServer(f"http://127.0.0.1:{free_port()}")
    server.faults = [Fault(delay_s=SLOW_S)] if mode == "slow" else []
    if mode in ("online", "slow"):
        server.start()
    try:
        yield server
    finally:
        server.stop()


def command(work: str, mode: str, **sizes: int) -> list[str]:
    """Return the command of one contestant."""
    options = [option for name, size in sizes.items() for option in (f"--{name}", str(size))]
    return [sys.executable, __file__, "--only", work, "--mode", mode, *options]


def environment(server: Any) -> dict[str, str]:
    """Return its environment."""
    found = os.environ | {
        "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true",
        "RAY_ADDRESS": "local", "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    found.pop("WANDB_MODE", None)
    return found


def sent(server: Any, errors: str) -> Measured:
    """Return what a server has received, and what was said of it."""
    requests = [request for request in server.requests if request.call != "telemetry"]
    return {
        "requests": len(requests),
        "bytes_sent": sum(request.body for request in requests),
        "complete": sum(run.state == "finished" for run in server.runs.values()),
        "told": [line for line in errors.splitlines() if line.startswith("W&B")],
    }


def swept(mode: str, trials: int, clips: int) -> Measured:
    """Sweep in a process of its own, with the server that its mode asks for."""
    with served(mode) as server:
        done = subprocess.run(
            command("sweep", mode, trials=trials, clips=clips),
            capture_output=True, text=True, check=False, env=environment(server),
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"sweep, {mode} failed:\n{done.stderr[-3000:]}")
    result: Measured = json.loads(done.stdout.splitlines()[-1])
    return result | sent(server, done.stderr)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=("sweep", "train"), help="one, in this process")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    if arguments.only:
        mode = arguments.mode if arguments.mode in ("disabled", "offline") else "online"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if arguments.only == "sweep":
                print(json.dumps(sweep_with(mode, arguments.trials, arguments.clips, folder)))
            else:
                train_with(mode, arguments.clips, folder)
        return
    began = time.time()
    found: dict[str, dict[str, list[Measured]]] = {"train": {mode: [] for mode in MODES}}
    for start in range(arguments.starts):
        for mode, result in trained(arguments.clips, arguments.epochs).items():
            found["train"][mode].append(result)
            of_disabled = result["windows_per_s"] / found["train"]["disabled"][-1]["windows_per_s"]
            print(f"start {start + 1}: {mode:9s} {of_disabled:.3f} of disabled", flush=True)
    for turn in range(arguments.rounds):
        # Another order in each round: what comes first may find a cooler machine.
        for mode in (*MODES[turn % len(MODES) :], *MODES[: turn % len(MODES)]):
            result = swept(mode, arguments.trials, arguments.clips)
            found.setdefault("sweep", {}).setdefault(mode, []).append(result)
            print(f"round {turn + 1}: {mode:9s} {result['trials_per_hour']:8.1f}", flush=True)
    report(found, arguments.trials, time.time() - began)


def report(found: dict[str, dict[str, list[Measured]]], trials: int, seconds: float) -> None:
    """Print the tables and write them down."""
    summary: Measured = {"machine": machine(), "seconds": seconds}
    print(summary["machine"])
    for work, by_mode in found.items():
        rate = {"sweep": "trials_per_hour", "train": "windows_per_s"}[work]
        plain = np.array([run[rate] for run in by_mode["disabled"]])
        spent_plain = np.array([run.get("cpu_s", np.nan) for run in by_mode["disabled"]])
        for mode, runs in by_mode.items():
            rates = np.array([run[rate] for run in runs])
            ends = [run["end_s"] for run in runs]
            row: Measured = {
                rate: float(np.median(rates)),
                "of_disabled": float(np.mean(rates / plain)),
                "standard_error": float(np.std(rates / plain, ddof=1) / len(rates) ** 0.5),
                "of_disabled_by_round": (rates / plain).tolist(),
                "end_s": float(np.median(ends)),
                "requests": float(np.median([run["requests"] for run in runs])),
                "bytes_sent": float(np.median([run["bytes_sent"] for run in runs])),
                "complete": min(run["complete"] for run in runs),
                "told": runs[-1]["told"],
            }
            row |= {name: runs[-1][name] for name in runs[-1] if "_per_trial" in name}
            if work == "train":
                row["log_ms"] = runs[-1]["log_ms"]
            else:
                spent = np.array([run["cpu_s"] for run in runs])
                row["cpu_of_disabled"] = float(np.median(spent / spent_plain))
            summary[f"{work}, {mode}"] = row
            share = f"{row['of_disabled']:.3f} (standard error {row['standard_error']:.3f})"
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
                    f"{row['disk_bytes_per_trial'] / 1e3:.1f} kB on disk; "
                    f"CPU time until the last trial, {row['cpu_of_disabled']:.3f} of disabled"
                )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
