"""The training loop: it resumes from the newest checkpoint, and keeps the last ones."""

import shutil
from pathlib import Path

import pytest
import torch

from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.training.checkpoint import CHECKPOINT_FILE, Pace
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.loop import Attempt, as_failure, finish, resume, run_epochs


def attempt(settings: LearnerSettings, progress: Path, number: int) -> Attempt:
    return Attempt(f"attempt-{number:03d}", str(progress), settings, {}, WorkerSettings())


def always() -> Pace:
    """A pace at which every epoch is saved, however short."""
    return Pace(share=1e9)


def saved(progress: Path) -> list[str]:
    """Attempt and epoch of each checkpoint."""
    files = progress.glob(f"*/*/{CHECKPOINT_FILE}")
    return sorted(str(path.parent.relative_to(progress)) for path in files)


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_loop_resumes_where_it_was_and_keeps_the_last_checkpoints(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    whole, first, second = (Learner(data, settings) for _ in range(3))
    expected = list(run_epochs(whole, attempt(settings, tmp_path / "whole", 1), always()))
    assert saved(tmp_path / "whole") == ["attempt-001/epoch-0003", "attempt-001/epoch-0004"]

    progress = tmp_path / "progress"
    assert list(resume(first, str(progress))) == []
    epochs = run_epochs(first, attempt(settings, progress, 1), always())
    assert [next(epochs) for _ in range(3)] == expected[:3]
    # Saved before it is told of.
    assert saved(progress) == ["attempt-001/epoch-0002", "attempt-001/epoch-0003"]
    newest = progress / "attempt-001" / "epoch-0003" / CHECKPOINT_FILE
    newest.write_bytes(newest.read_bytes()[:-9])
    damaged, resuming = resume(second, str(progress))
    assert f"{newest} is damaged" in damaged
    assert resuming == "resuming after epoch 2"
    epochs = run_epochs(second, attempt(settings, progress, 2), always())
    assert next(epochs) == expected[2]
    # What it resumed from stays until as many are kept. One that could not be read, for now
    # perhaps, stays until all that are kept are later.
    late = "attempt-001/epoch-0003"
    assert saved(progress) == ["attempt-001/epoch-0002", late, "attempt-002/epoch-0003"]
    # Another worker, taken for lost, may delete some, too.
    shutil.rmtree(progress / "attempt-001" / "epoch-0002")
    assert list(epochs) == expected[3:]
    assert saved(progress) == [late, "attempt-002/epoch-0003", "attempt-002/epoch-0004"]
    assert finish(second, {})[0] == finish(whole, {})[0]


@pytest.mark.usefixtures("one_thread")
def test_short_epochs_are_saved_and_told_of_now_and_then_and_none_is_left_out(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    """At first, since that has cost nothing yet, and at last."""
    learner = Learner(data, settings)
    told = [
        (metrics["epoch"], learner.epoch)
        for metrics in run_epochs(learner, attempt(settings, tmp_path, 1), Pace(share=1e-9))
    ]
    assert told == [(1, 1), (2, 4), (3, 4), (4, 4)]
    assert saved(tmp_path) == ["attempt-001/epoch-0001", "attempt-001/epoch-0004"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, MemoryError, torch.OutOfMemoryError])
def test_an_interruption_saves_the_last_epoch_that_was_completed(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended_by: type[BaseException],
) -> None:
    whole, learner, resumed = (Learner(data, settings) for _ in range(3))
    expected = list(run_epochs(whole, attempt(settings, tmp_path / "whole", 1)))

    def interrupted() -> dict[str, float]:
        if learner.epoch == 3:
            learner.train_epoch()  # Its weights are those of the fourth epoch by now.
            raise ended_by
        return Learner.run_epoch(learner)

    monkeypatch.setattr(learner, "run_epoch", interrupted)
    with pytest.raises(ended_by):
        list(run_epochs(learner, attempt(settings, tmp_path, 1), Pace(share=1e-9)))
    assert saved(tmp_path) == ["attempt-001/epoch-0001", "attempt-001/epoch-0003"]
    assert list(resume(resumed, str(tmp_path))) == ["resuming after epoch 3"]
    assert list(run_epochs(resumed, attempt(settings, tmp_path, 2))) == expected[3:]


@pytest.mark.usefixtures("one_thread")
def test_the_epochs_before_a_failure_are_told_of_and_saved(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = Learner(data, settings)

    def failing() -> dict[str, float]:
        if learner.epoch == 3:
            raise IrmasError("the loss became nan")
        return Learner.run_epoch(learner)

    monkeypatch.setattr(learner, "run_epoch", failing)
    told: list[float] = []

    def run() -> None:
        for metrics in run_epochs(learner, attempt(settings, tmp_path, 1), Pace(share=1e-9)):
            told.append(metrics["epoch"])  # noqa: PERF401 - it ends by an error

    with pytest.raises(IrmasError, match="became nan"):
        run()
    assert told == [1, 2, 3]
    assert saved(tmp_path) == ["attempt-001/epoch-0001", "attempt-001/epoch-0003"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (IrmasError("the loss became nan"), "the loss became nan"),
        (torch.OutOfMemoryError("too large\nmore"), "OutOfMemoryError: too large"),
        (KeyError("x"), "KeyError: 'x'"),
        (
            RuntimeError("Found no NVIDIA driver on your system."),
            "RuntimeError: Found no NVIDIA driver on your system.; --no-gpu trains on CPUs",
        ),
    ],
)
def test_a_failure_is_one_line(error: Exception, line: str) -> None:
    assert str(as_failure(error)) == f"training failed: {line}"
