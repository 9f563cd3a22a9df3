"""What is known of Ray without importing it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from irmas_dist.cluster import without_ray
from irmas_dist.cluster.without_ray import (
    LOCAL,
    fits_in_memory,
    gpu_count,
    gpu_for_each,
    node_resources,
    ray_address,
    ray_initialised,
    require_machine,
)
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError


def test_a_given_address_goes_before_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_address() == LOCAL
    assert ray_address("auto") == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert ray_address() == "head:6379"
    assert ray_address(LOCAL) == LOCAL
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert ray_address() == LOCAL


def test_a_ray_of_this_process_is_asked(ray_cluster: None) -> None:
    import ray

    assert ray_initialised()
    assert gpu_count() == 0
    size = ray.nodes()[0]["Resources"]["object_store_memory"]
    assert fits_in_memory(int(size / 2))
    assert not fits_in_memory(int(size / 2) + 1)


def test_a_node_that_has_died_has_no_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    alive, dead = (
        {"Alive": there, "Resources": {"CPU": count}}
        for there, count in ((True, 2.0), (False, 64.0))
    )
    monkeypatch.setattr(ray, "nodes", lambda: [alive, dead])
    assert node_resources() == [{"CPU": 2.0}]


@pytest.mark.parametrize(("limit", "fits"), [("max\n", True), ("1000000\n", False)])
def test_memory_is_what_a_container_may_use(
    limit: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(without_ray, "LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    monkeypatch.setattr(without_ray, "ray_initialised", lambda: False)
    assert fits_in_memory(150_000)
    assert fits_in_memory(150_001) is fits


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of this machine can be used")
def test_a_gpu_that_torch_cannot_use_is_told_and_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the driver is too old for this torch: it is counted all the same."""
    monkeypatch.setattr("irmas_dist.cluster.without_ray.ray_initialised", lambda: False)
    assert gpu_count() == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_count() == 0
    assert "cannot use the GPU of this machine" in " ".join(capsys.readouterr().err.split())


WITHOUT = """
import sys
from irmas_dist.cluster.without_ray import fits_in_memory, ray_initialised
from irmas_dist.training import train

assert not ray_initialised()
assert fits_in_memory(1 << 20) and not fits_in_memory(1 << 50)
heavy = {"matplotlib", "pandas", "ray", "scipy", "sklearn", "wandb"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_neither_the_questions_nor_the_code_of_training_import_ray() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("gpus", "enough"), [(0.0, False), (1.0, False), (2.0, True), (3.0, True)])
def test_workers_without_enough_gpus_say_that_they_train_on_cpus(
    gpus: float, enough: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("irmas_dist.cluster.without_ray.gpu_count", lambda: gpus)
    assert gpu_for_each(2) == enough
    told = " ".join(capsys.readouterr().err.split())
    assert ("2 workers need as many GPUs, and there is 1" in told) == (gpus == 1)
    assert bool(told) == (gpus == 1)


@pytest.mark.parametrize(
    ("workers", "refusal"),
    [
        (WorkerSettings(cpus=9_999, gpu=False), r"^--cpus 9999: this machine has \d+$"),
        (WorkerSettings(count=9_999), r"^9999 workers of --cpus 1: this machine has \d+$"),
        (WorkerSettings(count=9_999, min_workers=1), None),
        (WorkerSettings(gpu=True), "^--gpu: torch finds no GPU on this machine$"),
    ],
)
def test_workers_that_this_machine_cannot_hold_are_refused(
    monkeypatch: pytest.MonkeyPatch, workers: WorkerSettings, refusal: str | None
) -> None:
    monkeypatch.setattr(without_ray, "gpu_count", lambda: 0.0)
    if refusal is None:
        require_machine(workers)
        return
    with pytest.raises(IrmasError, match=refusal):
        require_machine(workers)


def test_cpus_that_the_process_may_not_use_are_not_counted() -> None:
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})  # as Slurm and taskset do
    try:
        require_machine(WorkerSettings(gpu=False))
        with pytest.raises(IrmasError, match=r"^2 workers of --cpus 1: this machine has 1$"):
            require_machine(WorkerSettings(count=2, gpu=False))
    finally:
        os.sched_setaffinity(0, ours)


def test_each_worker_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(without_ray, "gpu_count", lambda: 1.0)
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    require_machine(WorkerSettings(gpu=True))
    with pytest.raises(IrmasError, match="torch finds 1 for 2 workers on this machine"):
        require_machine(WorkerSettings(count=2, gpu=True))
