"""Seconds become frames, and a number of workers becomes what they need."""

from pathlib import Path

import pytest

from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.recipe import load_recipe
from irmas_dist.config.training import FurtherStore, WindowSettings, WorkerSettings
from irmas_dist.errors import IrmasError

FOUR_FRAMES_A_SECOND = LogMelSettings(sample_rate=4_000, hop_length=1_000, fmax=2_000.0)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(1.0, 4), (1.5, 6), (1.74, 6), (1.75, 7), (0.25, 1), (0.01, 1)]
)
def test_a_window_has_the_frames_that_fit_whole_and_at_least_one(
    seconds: float, frames: int
) -> None:
    assert WindowSettings(seconds=seconds).frames(FOUR_FRAMES_A_SECOND) == frames
    assert WindowSettings(hop_seconds=seconds).hop_frames(FOUR_FRAMES_A_SECOND) == frames


@pytest.mark.parametrize("hundredths", [58, 230, 290, 299])
def test_no_frame_of_a_window_is_lost_to_rounding(hundredths: int) -> None:
    features = LogMelSettings(sample_rate=16_000, hop_length=160, fmax=8_000.0)
    window = WindowSettings(seconds=hundredths / 100, hop_seconds=hundredths / 100)
    assert window.frames(features) == window.hop_frames(features) == hundredths


@pytest.mark.parametrize(
    ("recipe", "frames"),
    [
        ("demo", (64, 32)),
        ("han2016", (43, 21)),
        ("irmas", (32, 16)),
        ("irmas-gpu", (32, 16)),
        ("openmic", (107, 53)),
        ("seed", (43, 21)),
    ],
)
def test_the_windows_of_the_shipped_recipes(recipe: str, frames: tuple[int, int]) -> None:
    settings = load_recipe(recipe)
    window, features = settings.window, settings.features
    assert (window.frames(features), window.hop_frames(features)) == frames


def test_windows_and_their_distance_are_independent() -> None:
    window = WindowSettings(seconds=2.0, hop_seconds=0.5)
    assert window.frames(FOUR_FRAMES_A_SECOND) == 8
    assert window.hop_frames(FOUR_FRAMES_A_SECOND) == 2


def test_the_default_window_is_one_and_a_half_seconds_in_steps_of_half_of_it() -> None:
    assert WindowSettings().frames(LogMelSettings()) == 32
    assert WindowSettings().hop_frames(LogMelSettings()) == 16


def test_training_needs_all_workers_unless_fewer_may_start() -> None:
    assert WorkerSettings(count=4).needed == 4
    assert WorkerSettings(count=4, min_workers=2).needed == 2


def test_a_worker_takes_its_cpus_and_a_whole_gpu_if_any() -> None:
    assert WorkerSettings(count=4, cpus=2.5).resources == {"CPU": 2.5}
    assert WorkerSettings(count=4, cpus=2.5, gpu=True).resources == {"CPU": 2.5, "GPU": 1.0}


@pytest.mark.parametrize(
    ("text", "location", "weight"),
    [
        ("store", "store", 1.0),
        ("store:0.5", "store", 0.5),
        ("s3://bucket/store", "s3://bucket/store", 1.0),
        ("s3://bucket/store:2", "s3://bucket/store", 2.0),
        ("a:b", "a:b", 1.0),
        ("a:2:1", "a:2", 1.0),
    ],
)
def test_a_further_store_may_have_a_weight(text: str, location: str, weight: float) -> None:
    assert FurtherStore.parse(text) == FurtherStore(location=location, weight=weight)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("store:0", "weight should be greater than 0"),
        ("store:-1", "weight should be greater than 0"),
        ("store:nan", "weight should be a finite number"),
        ("store:1e9", "weight should be less than or equal to 1000"),
        (":2", "location string should have at least 1 character"),
    ],
)
def test_a_weight_that_cannot_be_is_refused(text: str, why: str) -> None:
    with pytest.raises(IrmasError) as refused:
        FurtherStore.parse(text)
    assert str(refused.value) == f"--also {text}: {why}"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"blocks": 2}, "training.freeze: blocks is 2 and epochs is 0; give both, or neither"),
        ({"epochs": 3}, "training.freeze: blocks is 0 and epochs is 3; give both, or neither"),
        ({"blocks": 5, "epochs": 1}, "training.freeze.blocks=5 is more than model.blocks=4"),
        ({"blocks": -1, "epochs": 1}, "training.freeze.blocks=-1: should be greater than or equal"),
    ],
)
def test_blocks_are_frozen_for_some_epochs(values: dict[str, int], why: str) -> None:
    overrides = [f"training.freeze.{name}={value}" for name, value in values.items()]
    with pytest.raises(IrmasError, match=f"--set: {why}"):
        load_recipe(None, overrides)


def test_a_store_whose_name_ends_like_a_weight_is_not_mistaken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "st:2").mkdir()
    assert FurtherStore.parse("st:2:1").location == "st:2"
    (tmp_path / "st").mkdir()
    with pytest.raises(IrmasError, match=r"both exist: write st:2:1 for st:2, or st/:2 for st"):
        FurtherStore.parse("st:2")
    assert FurtherStore.parse("st:2:1") == FurtherStore(location="st:2")
    assert FurtherStore.parse("st/:2") == FurtherStore(location="st/", weight=2.0)
