"""Seconds become frames, and a number of workers becomes what they need."""

import pytest

from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.training import WindowSettings, WorkerSettings

FOUR_FRAMES_A_SECOND = LogMelSettings(sample_rate=4_000, hop_length=1_000, fmax=2_000.0)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(1.0, 4), (1.5, 6), (1.74, 6), (1.75, 7), (0.25, 1), (0.01, 1)]
)
def test_a_window_has_the_frames_that_fit_whole_and_at_least_one(
    seconds: float, frames: int
) -> None:
    assert WindowSettings(seconds=seconds).frames(FOUR_FRAMES_A_SECOND) == frames
    assert WindowSettings(hop_seconds=seconds).hop_frames(FOUR_FRAMES_A_SECOND) == frames


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
