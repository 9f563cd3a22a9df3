"""A trial's epochs and its end as results, without Tune: its steps are called directly."""

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.errors import StoreError
from irmas_dist.instruments import Vocabulary
from irmas_dist.search.trial import (
    EPOCH,
    FAILED,
    FINISHED,
    INSTRUMENTS,
    SECOND,
    THIS_EPOCH,
    TRIAL,
    LearnerTrial,
    TrialLearner,
    epoch_result,
    failure,
    instrument_results,
)
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner

Start = Callable[..., LearnerTrial]


def configuration(number: int = 7, resume: bool = False, **values: object) -> dict[str, Any]:
    """Return a trial's configuration; a value's dots are written as double underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {TRIAL: {"number": number, "resume": resume}, **named}


@pytest.fixture
def start(data: TrainingData, settings: Recipe, tmp_path: Path) -> Iterator[Start]:
    """Start a trial with the arguments of `configuration`."""

    def begin(
        gpu: bool = False, latency: bool = False, cpus: float | None = None, **config: Any
    ) -> LearnerTrial:
        trial = LearnerTrial.__new__(LearnerTrial)  # Tune's part of it needs Ray
        recipe = settings.model_dump()
        trial.setup(
            configuration(**config), data, recipe, str(tmp_path), gpu, latency, cpus or threads
        )
        return trial

    threads = torch.get_num_threads()
    yield begin
    torch.set_num_threads(threads)


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "cpu_s"}


def validate_perfectly_then_badly(monkeypatch: pytest.MonkeyPatch, data: TrainingData) -> None:
    """Make the first epoch's validation scores those of a perfect network, later ones useless."""
    right = data.validation.labels.astype(np.float32)

    def score(learner: Learner) -> tuple[np.ndarray, float]:
        return (right if learner.epoch == 1 else 1 - right), 0.5

    monkeypatch.setattr(Learner, "score_validation", score)


def test_a_late_bad_epoch_does_not_spoil_a_good_trial(
    start: Start, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate_perfectly_then_badly(monkeypatch, data)
    trial = start(training__epochs=2)
    first, second = trial.step(), trial.step()
    assert first[THIS_EPOCH] == 1 > second[THIS_EPOCH]
    assert first[SELECTED_BY] == second[SELECTED_BY] == 1
    assert [row["f1"] for row in second[INSTRUMENTS]] == [1, 1, 1]


def test_a_trial_ends_with_its_last_epoch(start: Start) -> None:
    trial = start(training__epochs=2)
    results = [trial.step(), trial.step()]
    assert [result[EPOCH] for result in results] == [1, 2]
    assert [result[FINISHED] for result in results] == [False, True]
    assert [result["done"] for result in results] == [False, True]
    assert 0 < results[0]["cpu_s"] < results[1]["cpu_s"]


def test_latency_is_measured_when_it_is_asked_for(start: Start) -> None:
    latency = SECOND["latency"]
    assert start(latency=True).step()[latency] > 0
    assert latency not in start().step()


def test_another_trial_follows_a_failed_one_in_the_same_process(
    start: Start, tmp_path: Path
) -> None:
    trial = start(number=7, training__lr=-1)
    assert "training.lr=-1" in trial.step()[FAILED]
    sizes = []
    for number, width in ((8, 8), (9, 4)):
        assert trial.reset_config(configuration(number, model__width=width))
        result = trial.step()
        assert FAILED not in result
        assert result[EPOCH] == 1
        sizes.append(result["parameters"])
    assert sizes[0] > sizes[1]
    assert {path.name for path in tmp_path.iterdir()} == {"0008", "0009"}


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[TrialLearner]]]:
    """All Learners of trials; what is in a reference cycle is not freed."""
    made: list[weakref.ref[TrialLearner]] = []
    before = TrialLearner.__init__

    def init(learner: TrialLearner, *args: Any, **options: Any) -> None:
        before(learner, *args, **options)
        made.append(weakref.ref(learner))

    monkeypatch.setattr(TrialLearner, "__init__", init)
    gc.disable()
    yield made
    gc.enable()


def test_a_trial_leaves_no_learner_to_the_next(
    start: Start, learners: list[weakref.ref[TrialLearner]]
) -> None:
    """Its memory on the GPU would be missing."""
    trial = start(number=1, training__epochs=2)
    for number in (2, 3):
        while not trial.step()["done"]:
            pass
        trial.reset_config(configuration(number, training__epochs=2))
        assert [learner() is not None for learner in learners] == [False] * (number - 1) + [True]


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (3.0, 3)])
def test_a_trial_has_as_many_threads_as_cpus(start: Start, cpus: float, threads: int) -> None:
    """Whatever OMP_NUM_THREADS says, which Ray leaves as it is."""
    start(cpus=cpus)
    assert torch.get_num_threads() == threads


def test_too_little_memory_ends_a_trial_with_the_reason(
    start: Start, learners: list[weakref.ref[TrialLearner]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_epoch(learner: Learner) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB\nand more")

    monkeypatch.setattr(TrialLearner, "run_epoch", run_epoch)
    result = start().step()
    assert result[FAILED] == "out of memory: tried to allocate 2 GiB"
    assert result["done"]
    assert [learner() for learner in learners] == [None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA GPU")
def test_a_gpu_that_torch_cannot_use_ends_a_trial_with_the_reason(start: Start) -> None:
    assert start(gpu=True).step()[FAILED].startswith("torch cannot use the GPU; --gpus 0")


def test_an_error_of_the_program_is_no_result(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_epoch(learner: Learner) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(TrialLearner, "run_epoch", run_epoch)
    with pytest.raises(RuntimeError, match="shapes differ"):
        start().step()


def test_a_resumed_trial_reports_the_last_saved_epoch_again_and_continues(start: Start) -> None:
    uninterrupted = start(number=1)
    expected = [without_time(uninterrupted.step()) for _ in range(2)]
    start(number=2).step()
    resumed = start(number=2, resume=True)
    assert [without_time(resumed.step()) for _ in range(2)] == expected


def test_a_new_trial_disregards_checkpoints_and_a_resumed_one_needs_none(start: Start) -> None:
    trial = start(number=1)
    trial.step()
    trial.step()
    assert start(number=1, resume=False).step()[EPOCH] == 1
    assert start(number=2, resume=True).step()[EPOCH] == 1


def test_a_trial_with_a_damaged_checkpoint_is_trained_again(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = start(number=1)
    trial.step()
    saved = Path(trial._directory) / CHECKPOINT_FILE
    saved.write_bytes(saved.read_bytes()[:-1])
    assert start(number=1, resume=True).step()[EPOCH] == 1
    assert "is damaged: " in capsys.readouterr().err


def test_a_store_that_fails_to_read_a_checkpoint_is_no_failure_of_the_trial(
    start: Start, tmp_path: Path
) -> None:
    """It ends the sweep, which is resumed once the store answers."""
    (tmp_path / "0001" / CHECKPOINT_FILE).mkdir(parents=True)
    trial = start(number=1, resume=True)
    with pytest.raises(StoreError, match=CHECKPOINT_FILE):
        trial.step()


def test_a_trial_that_cannot_begin_takes_no_checkpoint_over(start: Start, tmp_path: Path) -> None:
    start(number=1).save_checkpoint(str(tmp_path / "paused"))
    trial = start(training__lr=-1)
    trial.load_checkpoint(str(tmp_path / "paused"))
    assert "training.lr=-1" in trial.step()[FAILED]


def test_a_trial_takes_over_a_checkpoint_of_another_weight_decay(
    start: Start, tmp_path: Path
) -> None:
    """Population-based training may search whether weights decay at all."""
    first = start(number=1, training__weight_decay=0.0)
    first.step()
    first.save_checkpoint(str(tmp_path / "paused"))
    trial = start(number=2, training__weight_decay=0.01)
    trial.load_checkpoint(str(tmp_path / "paused"))
    assert trial.step()[EPOCH] == 2


def test_a_checkpoint_that_does_not_fit_ends_the_trial_alone(start: Start, tmp_path: Path) -> None:
    start(number=1, model__width=4).save_checkpoint(str(tmp_path / "paused"))
    trial = start(number=2, model__width=8)
    trial.load_checkpoint(str(tmp_path / "paused"))
    assert "checkpoint" in trial.step()[FAILED]


def test_too_little_memory_for_a_checkpoint_ends_a_trial_with_the_reason(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trial = start(number=1)
    monkeypatch.setattr("irmas_dist.search.trial.load_checkpoint", load)
    trial.load_checkpoint("paused")
    assert trial.step()[FAILED] == "out of memory: CUDA out of memory"


def test_the_instruments_of_a_best_epoch_before_an_interruption_are_computed_again(
    data: TrainingData, settings: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = TrialLearner(data, settings)
    learner.run_epoch()
    expected = learner.evaluate_instruments()
    with monkeypatch.context() as patched:
        validate_perfectly_then_badly(patched, data)
        learner.history[0][SELECTED_BY] = 1.0  # so that the second epoch is not the best
        learner.run_epoch()
    other = build_recipe(settings.model_dump(), {"seed": settings.seed + 1}, "the test")
    resumed = TrialLearner(data, other)
    resumed.run_epoch()
    resumed.evaluate_instruments()  # Those of this epoch are not those of the state that follows.
    resumed.load_state_dict(learner.state_dict())
    assert resumed.evaluate_instruments() == expected
    for name, value in learner.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name


class Clock:
    """Stands in for the module time: an epoch takes 10 s, saving a checkpoint 1 s."""

    now = 0.0
    process_time = staticmethod(lambda: 0.0)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs that are saved in the trial's directory, on a `Clock`."""
    clock, epochs, run_epoch = Clock(), [], TrialLearner.run_epoch

    def slow_epoch(learner: TrialLearner) -> dict[str, float]:
        clock.now += 10
        return run_epoch(learner)

    def save(directory: str, learner: Learner) -> None:
        clock.now += 1
        epochs.append(learner.epoch)

    monkeypatch.setattr("irmas_dist.training.checkpoint.time", clock)
    monkeypatch.setattr("irmas_dist.search.trial.save_checkpoint", save)
    monkeypatch.setattr(TrialLearner, "run_epoch", slow_epoch)
    return epochs


def test_saving_takes_a_fiftieth_of_the_time_and_the_last_epoch_is_always_saved(
    start: Start, saved: list[int]
) -> None:
    trial = start(training__epochs=10, training__patience=10)
    while not trial.step()[FINISHED]:
        pass
    assert saved == [1, 6, 10]


def test_weights_taken_over_from_another_trial_are_saved_at_once(
    start: Start, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(training__epochs=10, training__patience=10)
    trial.step()
    monkeypatch.setattr("irmas_dist.search.trial.load_checkpoint", lambda *arguments: None)
    trial.load_checkpoint(SimpleNamespace())
    trial.step()
    assert saved == [1, 2]


def test_a_paused_trial_is_saved_where_the_scheduler_asks(start: Start, tmp_path: Path) -> None:
    ahead, behind = start(number=1), start(number=2)
    ahead.step()
    ahead.step()
    ahead.save_checkpoint(str(tmp_path / "paused"))
    assert (tmp_path / "paused" / CHECKPOINT_FILE).exists()
    behind.load_checkpoint(str(tmp_path / "paused"))
    assert behind.step()[EPOCH] == 3


def test_a_failure_has_a_reason_and_no_value() -> None:
    result = failure("the loss is not finite")
    assert math.isnan(result.pop(SELECTED_BY))
    assert result == {FAILED: "the loss is not finite", EPOCH: 0, "done": True}


def test_an_epoch_has_its_own_value_and_the_best_so_far() -> None:
    metrics = {"epoch": 3.0, SELECTED_BY: 0.4, "val_loss": 0.2}
    result = epoch_result(metrics, best=0.5, parameters=9)
    expected = {SELECTED_BY: 0.5, THIS_EPOCH: 0.4, "val_loss": 0.2, "parameters": 9}
    assert result == {EPOCH: 3, **expected}
    assert isinstance(result[EPOCH], int)
    assert metrics[SELECTED_BY] == 0.4


def test_each_instrument_is_decided_by_its_own_threshold() -> None:
    labels = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], np.uint8)
    scores = np.array([[0.9, 0.4], [0.6, 0.2], [0.1, 0.3], [0.1, 0.1]], np.float32)
    thresholds = np.array([0.5, 0.25], np.float32)
    first, second = instrument_results(
        labels, scores, thresholds, Vocabulary.of({"a": "A", "b": "B"})
    )
    names = ("code", "precision", "recall", "ap", "threshold")
    assert [first[name] for name in names] == ["a", 0.5, 1.0, 1.0, 0.5]
    assert [second[name] for name in names] == ["b", 0.5, 0.5, pytest.approx(5 / 6), 0.25]
