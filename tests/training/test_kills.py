"""SIGKILL of a worker, a node and the driver at random moments leaves the curve unchanged."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import ray
import torch

# isort: split
import psutil

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.tracking.run_file import RunFile, read_records, run_files
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.train import train
from tests.conftest import CONFIGS, TINY
from tests.waiting import wait_for

CALM = {
    "training.epochs": 4,
    # Epochs of about a second, of which each is saved.
    "training.windows_per_clip": 24,
    # Batch statistics and dropout differ between workers; without them their sums agree.
    "model.normalisation": "none",
    "model.dropout.blocks": 0.0,
    "model.dropout.dense": 0.0,
}
WAIT_S = 240.0


@pytest.fixture(scope="module")
def calm(recipe: Recipe) -> Recipe:
    """A recipe whose curve does not depend on the number of workers; epochs take a moment."""
    return build_recipe(recipe.model_dump(), CALM | {"tracking.mode": "disabled"}, "the test")


@pytest.fixture(scope="module")
def undisturbed(features: str, calm: Recipe) -> list[dict[str, float]]:
    """The curve of one worker that is not killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learner = Learner(open_training_data(features, calm), calm)
    while not learner.finished:
        learner.run_epoch()
    torch.set_num_threads(threads)
    return learner.history


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob(f"progress/*/*/{CHECKPOINT_FILE}"))


def our_workers() -> list[int]:
    """Processes of the workers of the Ray that this test has, and of no other."""
    session = Path(ray._private.worker._global_node.get_session_dir_path()).name
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            name = " ".join(process.info["cmdline"] or ())
            ours = session in " ".join(process.parent().cmdline())
            if ours and ("TrainWorker" in name or "SingleWorker" in name):
                found.append(process.pid)
        except (psutil.Error, AttributeError):
            continue
    return found


@pytest.mark.drill
def test_a_killed_worker_costs_the_epoch_in_progress_and_nothing_else(
    features: str,
    calm: Recipe,
    undisturbed: list[dict[str, float]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(1)
    killed: list[int] = []

    def killer() -> None:
        wait_for(lambda: len(checkpoints(tmp_path)) >= rng.integers(1, 3))
        time.sleep(rng.uniform(0, 0.3))
        for pid in our_workers()[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = Thread(target=killer)
    thread.start()
    description = train(calm, features, str(tmp_path), WorkerSettings(count=2, gpu=False))
    thread.join()
    assert killed
    messages = capsys.readouterr().err
    assert "a worker was lost (its process has died: " in messages
    assert "common causes" not in messages
    assert "resuming after epoch" in messages
    assert_same_curve(description.history, undisturbed)


def assert_same_curve(history: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    """Compare up to rounding: two workers sum in another order."""
    for ours, theirs in zip(history, expected, strict=True):
        for name in ("train_loss", "val_loss", "val_map"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.02), name


WITHOUT_RAY = """
import sys
from functools import partial
from irmas_dist.cli.main import run
from irmas_dist.training import loop

loop.Pace = partial(loop.Pace, share=1e9)
status = run(sys.argv[1:])
assert "ray" not in sys.modules
sys.exit(status)
"""
"""The command, which fails if it has imported Ray, and saves every epoch, however short."""


@pytest.mark.parametrize("place", ["here", pytest.param("cluster", marks=pytest.mark.drill)])
def test_a_killed_command_resumes_past_a_damaged_checkpoint(
    features: str, undisturbed: list[dict[str, float]], tmp_path: Path, place: str
) -> None:
    rng = np.random.default_rng(2)
    out = tmp_path / "model"
    command = [sys.executable, "-c", WITHOUT_RAY]
    address = []
    if place == "cluster":
        command = [sys.executable, "-m", "irmas_dist"]
        address = ["--address", ray.get_runtime_context().gcs_address]
    command += ["train", features, str(out), *address, "--no-gpu"]
    command += ["--config", str(CONFIGS / "demo.yaml"), "--json"]
    for override in (*TINY, *(f"{k}={v}" for k, v in CALM.items()), f"tracking.directory={out}"):
        command += ["--set", override]
    # Not W&B's service process of these tests, in which the killed run would still be open.
    own = {k: v for k, v in os.environ.items() if k not in ("WANDB_SERVICE", "RAY_ADDRESS")}
    driver = subprocess.Popen(
        command, cwd=tmp_path, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # An actor saves at its own pace: of few short epochs perhaps one alone.
    saved = 1 if place == "cluster" else 2
    wait_for(lambda: len(checkpoints(out)) >= saved or driver.poll() is not None)
    time.sleep(rng.uniform(0, 0.3))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not our_workers())  # Ray ends what the dead driver had started
    newest = max(checkpoints(out), key=lambda path: path.parent.name)
    with newest.open("r+b") as file:
        file.truncate(int(rng.integers(1, newest.stat().st_size)))

    again = subprocess.run(
        command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert again.returncode == 0, again.stderr
    assert f"{newest} is damaged" in again.stderr
    history = json.loads((out / "model.json").read_text())["history"]
    assert history == undisturbed
    # Both halves are one W&B run, which has each epoch once.
    halves = [RunFile(file) for file in run_files(out)]
    assert len(halves) == 2
    assert halves[0].run.run_id == halves[1].run.run_id
    logged = [
        record.history.step.num
        for half in halves
        for record in read_records(half.path)
        if record.HasField("history")
    ]
    assert logged == list(range(1, len(history) + 1))


@pytest.mark.parametrize(
    ("workers", "sent"),
    [
        (1, signal.SIGTERM),
        pytest.param(1, signal.SIGINT, marks=pytest.mark.drill),
        # With a Ray of its own, which it must end.
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.drill),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.drill),
    ],
)
def test_an_interrupted_command_says_so_and_resumes(
    features: str, tmp_path: Path, workers: int, sent: signal.Signals
) -> None:
    out = tmp_path / "model"
    command = [
        *(sys.executable, "-m", "irmas_dist", "train", features, str(out), "--config", "demo"),
        *("--workers", str(workers)),
        *("--set", "tracking.mode=disabled", "--set", "training.patience=4000"),
    ]
    for override in TINY:
        command += ["--set", override]
    command += ["--set", "training.epochs=4000"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as driver:
        wait_for(lambda: len(checkpoints(out)) >= 2 or driver.poll() is not None)
        started = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(sent)
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert "irmas: interrupted; the same command resumes" in err.splitlines()[-1]
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as driver:
        line = next(line for line in driver.stderr if "epoch" in line)
        driver.send_signal(sent)
        driver.communicate(timeout=60)
    assert line.startswith("resuming after epoch ")


NODE_KILL = """
import sys, time
from pathlib import Path
from threading import Thread
from ray.cluster_utils import Cluster

features, out, recipe, count, delay = sys.argv[1:]
head = {"num_cpus": int(count) - 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
lost = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
import ray
ray.init(address=cluster.address, log_to_driver=False)

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.training.train import train

def work() -> None:
    workers = WorkerSettings(count=int(count), gpu=False, wait_timeout_s=60)
    train(Recipe.model_validate_json(recipe), features, out, workers)

thread = Thread(target=work)
thread.start()
while thread.is_alive() and not list(Path(out).glob("progress/*/*/checkpoint.pt")):
    time.sleep(0.02)
time.sleep(float(delay))
cluster.remove_node(lost, allow_graceful=False)
time.sleep(1)
cluster.add_node(num_cpus=1)
thread.join()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.drill
@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_node_is_replaced_and_the_curve_is_the_same(
    features: str, calm: Recipe, undisturbed: list[dict[str, float]], tmp_path: Path, count: int
) -> None:
    delay = np.random.default_rng(3).uniform(0, 0.3)
    out = tmp_path / "model"
    # A directory of its own, or other Rays on this machine would take this cluster for theirs.
    own = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with own as temporary:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                NODE_KILL,
                features,
                str(out),
                calm.model_dump_json(),
                str(count),
                str(delay),
            ],
            env=os.environ | {"RAY_TMPDIR": temporary},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
    assert (out / "model.json").exists(), done.stderr
    assert "a worker was lost" in done.stderr
    history = json.loads((out / "model.json").read_text())["history"]
    assert_same_curve(history, undisturbed)


@pytest.mark.drill
def test_a_loss_that_is_not_finite_ends_training_at_once_with_one_line(
    features: str, calm: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = build_recipe(calm.model_dump(), {"training.lr": 1e30}, "the test")
    with pytest.raises(
        IrmasError, match=r"the loss became nan or infinite in epoch 1; try a learning"
    ):
        train(wild, features, str(tmp_path), WorkerSettings(count=2))
    assert "a worker was lost" not in capsys.readouterr().err
