"""Training in this process: interrupted, resumed, and refused what the machine does not have."""

from pathlib import Path

import pytest
import torch

from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.storage.results import PROGRESS
from irmas_dist.training.checkpoint import CHECKPOINT_FILE, Pace
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.local import computing_on, train_here
from irmas_dist.training.model_description import ModelDescription

ALONE = WorkerSettings(gpu=False)
pytestmark = pytest.mark.usefixtures("one_thread")
FILES = {"known.parquet", "model.json", "model.safetensors", "validation.parquet"}


def test_an_interrupted_training_keeps_its_last_epoch_and_resumes(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However short, every epoch is saved.
    monkeypatch.setattr("irmas_dist.training.loop.Pace", lambda: Pace(share=1e9))

    def here(name: str, fail_after: int = 0) -> ModelDescription:
        def on_epoch(metrics: dict[str, float]) -> None:
            seen.append(metrics)
            if metrics["epoch"] == fail_after:
                raise KeyboardInterrupt

        seen: list[dict[str, float]] = []
        description = train_here(data, settings, {}, str(tmp_path / name), ALONE, on_epoch)
        assert seen == description.history[-len(seen) :]
        return description

    whole = here("whole")
    assert [epoch["epoch"] for epoch in whole.history] == [1, 2, 3, 4]
    assert {path.name for path in (tmp_path / "whole").iterdir()} == FILES
    with pytest.raises(KeyboardInterrupt):
        here("model", fail_after=2)
    assert list((tmp_path / "model").glob(f"{PROGRESS}/attempt-001/epoch-0002/{CHECKPOINT_FILE}"))
    assert here("model").history == whole.history
    assert "resuming after epoch 2" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    for name in ("model.safetensors", "validation.parquet"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_loss_that_is_not_finite_is_one_line(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    training = settings.training.model_copy(update={"lr": 1e30})
    wild = settings.model_copy(update={"training": training})
    with pytest.raises(IrmasError, match=r"^training failed: the loss became nan or infinite in"):
        train_here(data, wild, {}, str(tmp_path), ALONE, lambda metrics: None)


def test_a_gpu_that_fails_is_said_in_one_line(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(learner: Learner) -> dict[str, float]:
        raise torch.AcceleratorError("CUDA error: no kernel image is available\nCompile with it")

    monkeypatch.setattr(Learner, "run_epoch", failing)
    line = r"^training failed: .*CUDA error: no kernel image is available; --no-gpu trains on CPUs$"
    with pytest.raises(IrmasError, match=line):
        train_here(data, settings, {}, str(tmp_path), ALONE, lambda metrics: None)


def test_a_worker_has_as_many_threads_as_cpus_and_others_have_theirs_again() -> None:
    before = torch.get_num_threads()
    for cpus, threads in ((0.5, 1), (1, 1), (2.9, 2)):
        with computing_on(cpus):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == before
