"""Capacity: how many workers and trials fit on a cluster, and what never does."""

import threading

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from irmas_dist.cluster.resources import (
    cpu_count,
    most_trials,
    require_job_capacity,
    require_state_api,
    trial_capacity,
    wait_for_core,
    wait_until_free,
    workers_on,
)
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


def test_as_many_trials_fit_on_the_cluster_as_their_workers(ray_cluster: None) -> None:
    assert cpu_count() == 2
    assert trial_capacity(SweepSettings()) == 2
    assert trial_capacity(SweepSettings(cpus=0.5)) == 4
    assert trial_capacity(SweepSettings(workers=2)) == 1
    assert most_trials(SweepSettings()) == 3  # One waits, for nodes that may join.
    assert most_trials(SweepSettings(gpus=1.0)) == 1
    for settings in (SweepSettings(cpus=3.0), SweepSettings(workers=3), SweepSettings(gpus=1.0)):
        with pytest.raises(IrmasError, match="the nodes have 2 and 0: ask for less"):
            trial_capacity(settings)


def test_where_no_core_is_free_a_stage_says_so_and_waits(
    ray_cluster: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irmas_dist.cluster.resources.QUIET_WAIT_S", 0.2)
    others = placement_group([{"CPU": 1}] * 2)
    ray.get(others.ready())
    stage = threading.Thread(target=wait_for_core)
    stage.start()
    stage.join(1.5)
    assert stage.is_alive()
    assert (
        "waiting for resources: 1 CPU; the cluster has 0 of 2 CPUs free" in capsys.readouterr().err
    )
    remove_placement_group(others)
    stage.join(60.0)
    assert not stage.is_alive()


def test_where_a_core_is_free_nothing_is_said(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_for_core()
    assert not capsys.readouterr().err


class Reserving:
    """An actor that reserves what there is, and ends without releasing it."""

    def reserve(self) -> None:
        ray.get(placement_group([{"CPU": 1}] * 2).ready())


def test_what_an_actor_that_has_ended_reserved_is_released_and_nothing_else(
    ray_cluster: None,
) -> None:
    """As the controller of Ray Train ends where workers fail to start."""
    own = placement_group([{"memory": 1e6}])
    ray.get(own.ready())
    actor = ray.remote(num_cpus=0)(Reserving).remote()
    ray.get(actor.reserve.remote())
    assert not wait_until_free([{"CPU": 1}], "1 CPU", timeout_s=0.5)  # It still lives.
    ray.kill(actor)
    assert wait_until_free([{"CPU": 1}], "1 CPU", timeout_s=60)
    assert own.wait(5)
    remove_placement_group(own)


class Cluster:
    """The dashboard of a cluster of three nodes, as far as capacity is concerned."""

    def __init__(self, *, grows: bool = False) -> None:
        self.grows = grows

    def nodes(self) -> list[dict[str, float]]:
        return [{"memory": 1e9}, {"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}]

    def may_add_nodes(self) -> bool:
        return self.grows

    def get_address(self) -> str:
        return "http://head:8265"


@pytest.mark.parametrize(("cpus", "gpus"), [(0.0, 0.0), (4.0, 0.0), (2.0, 1.0)])
def test_a_job_that_fits_on_one_node_is_accepted(cpus: float, gpus: float) -> None:
    require_job_capacity(Cluster(), cpus, gpus)


def test_a_job_that_fits_on_no_single_node_waits_for_one_or_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_job_capacity(Cluster(grows=True), 4.0, 1.0)
    existing = "0 and 0 on 1 nodes, 4 and 0 on 1 nodes, 2 and 1 on 1 nodes"
    assert f"no node has 4 CPUs and 1 GPUs on one node ({existing})" in capsys.readouterr().err
    with pytest.raises(IrmasError, match=f"http://head:8265 has {existing}: ask for less"):
        require_job_capacity(Cluster(), 4.0, 1.0)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_without_its_dashboard_is_refused_before_anything_starts() -> None:
    with pytest.raises(IrmasError, match="dashboard") as caught:
        require_state_api()
    assert "\n" not in str(caught.value)
