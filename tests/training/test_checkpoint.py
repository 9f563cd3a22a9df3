"""Checkpoints: the newest of all attempts is found, damaged files are refused by name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.training.checkpoint import (
    CHECKPOINT_FILE,
    Pace,
    epoch_directory,
    load_checkpoint,
    new_attempt,
    newest_checkpoint,
    save_checkpoint,
    saved_history,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from tests.training.test_learner import changed


def test_saving_waits_until_it_has_only_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 10.0
    monkeypatch.setattr("irmas_dist.training.checkpoint.time.monotonic", lambda: now)
    pace = Pace(share=0.25)
    assert pace.due
    with pace.spending():
        now += 1
    assert not pace.due
    now += 3.9
    assert not pace.due
    now += 0.1  # 1 s of 4 s
    assert pace.due


@pytest.fixture(scope="module")
def location(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two attempts: epochs 1 and 2, then 2 and 3."""
    location = tmp_path_factory.mktemp("progress")
    learner = Learner(data, LearnerSettings.model_validate({"model": {"blocks": 1, "width": 4}}))
    for attempt, epoch in ((1, 1), (1, 2), (2, 2), (2, 3)):
        learner.epoch = epoch
        save_checkpoint(epoch_directory(str(location), f"attempt-{attempt:03d}", epoch), learner)
    return location


def test_the_newest_epoch_of_all_attempts_is_found(location: Path, tmp_path: Path) -> None:
    assert newest_checkpoint(str(location), pytest.fail) == f"{location}/attempt-002/epoch-0003"
    assert new_attempt(str(location)) == "attempt-003"
    assert newest_checkpoint(str(tmp_path / "nothing"), pytest.fail) is None
    assert new_attempt(str(tmp_path / "nothing")) == "attempt-001"


def test_a_store_that_does_not_answer_is_no_damage(
    location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training would begin again from its first epoch."""

    def read(path: str) -> bytes:
        raise StoreError(f"{path}: HTTP status 503")

    monkeypatch.setattr("irmas_dist.storage.read_bytes", read)
    with pytest.raises(StoreError, match=f"epoch-0003/{CHECKPOINT_FILE}: HTTP status 503"):
        newest_checkpoint(str(location), pytest.fail)
    with pytest.raises(StoreError, match="503"):
        saved_history(str(location / "attempt-002" / "epoch-0003"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_a_damaged_file_is_reported_by_name_and_the_one_before_it_used(
    location: Path, draw: st.DataObject
) -> None:
    newest = location / "attempt-002" / "epoch-0003" / CHECKPOINT_FILE
    whole = newest.read_bytes()
    position = draw.draw(st.integers(0, len(whole) - 1))
    if draw.draw(st.booleans(), label="truncated"):
        newest.write_bytes(whole[:position])
    else:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << draw.draw(st.integers(0, 7))
        newest.write_bytes(flipped)
    lines: list[str] = []
    try:
        assert (
            newest_checkpoint(str(location), lines.append) == f"{location}/attempt-002/epoch-0002"
        )
    finally:
        newest.write_bytes(whole)
    assert len(lines) == 1
    assert f"{newest} is damaged" in lines[0]


def test_a_damaged_file_is_not_loaded(
    location: Path, data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    whole = (location / "attempt-001" / "epoch-0001" / CHECKPOINT_FILE).read_bytes()
    (tmp_path / CHECKPOINT_FILE).write_bytes(whole[:-1])
    with pytest.raises(IrmasError, match=rf"{CHECKPOINT_FILE} is damaged"):
        load_checkpoint(tmp_path, Learner(data, settings))


def test_a_file_of_another_network_is_refused_with_what_differs(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, Learner(data, changed(settings, "model", normalisation="none")))
    with pytest.raises(IrmasError, match=r"another network.*Unexpected key.*bias.*delete"):
        load_checkpoint(tmp_path, Learner(data, changed(settings, "model", normalisation="batch")))


def test_a_file_of_another_optimiser_is_refused_with_what_differs(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    class Earlier(Learner):
        def state_dict(self) -> dict[str, Any]:
            state = super().state_dict()
            state["optimisation"]["optimizer"] = {"state": {}, "param_groups": []}
            return state

    save_checkpoint(tmp_path, Earlier(data, settings))
    with pytest.raises(IrmasError, match=r"or optimiser.*it has other parameters.*delete"):
        load_checkpoint(tmp_path, Learner(data, settings))


def test_a_file_that_would_execute_code_is_not_loaded(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    executed = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (executed,))

    class Villain(Learner):
        def state_dict(self) -> dict[str, object]:
            return {"network": Trap()}

    save_checkpoint(tmp_path, Villain(data, settings))
    with pytest.raises(Exception, match="Weights only"):
        load_checkpoint(tmp_path, Learner(data, settings))
    assert not executed.exists()
