"""The cluster says how many trials and workers fit, and refuses what would wait for ever."""

import pytest

from irmas_dist.cluster.resources import require_state_api, trial_capacity, workers_on
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers"),
    [
        (1.0, 0.0, 16),
        (3.0, 0.0, 5),
        (0.1, 0.0, 160),
        (1.0, 0.1, 16),
        (0.1, 0.5, 4),
        (1.0, 0.6, 2),  # not three on two GPUs: a fraction is of a single one
        (1.0, 1.0, 2),
        (1.0, 2.0, 1),
        (17.0, 0.0, 0),
        (1.0, 3.0, 0),
    ],
)
def test_as_many_workers_fit_on_a_node_as_it_has_cpus_and_gpus_for(
    cpus: float, gpus: float, workers: int
) -> None:
    assert workers_on({"CPU": 16.0, "GPU": 2.0}, cpus, gpus) == workers


def test_a_node_without_cpus_or_gpus_takes_no_worker_that_needs_them() -> None:
    assert workers_on({"GPU": 1.0}, 1.0, 1.0) == 0
    assert workers_on({"CPU": 4.0}, 1.0, 0.5) == 0


def test_the_cluster_has_room_for_as_many_trials_as_their_workers_fit(ray_cluster: None) -> None:
    assert trial_capacity(SweepSettings()) == 2
    assert trial_capacity(SweepSettings(cpus=0.5)) == 4
    assert trial_capacity(SweepSettings(workers=2)) == 1
    for settings in (SweepSettings(cpus=3.0), SweepSettings(workers=3), SweepSettings(gpus=1.0)):
        with pytest.raises(IrmasError, match="the nodes have 2 and 0: ask for less"):
            trial_capacity(settings)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_without_its_dashboard_is_refused_before_anything_starts() -> None:
    with pytest.raises(IrmasError, match="dashboard") as caught:
        require_state_api()
    assert "\n" not in str(caught.value)
