"""Joining a Ray cluster, and how its workers are set up."""

import os
import subprocess
import sys
import time

import pytest

from irmas_dist.cluster.runtime import ray_running
from irmas_dist.errors import IrmasError
from tests.ray_cluster import free_port


@pytest.mark.usefixtures("no_ray")
def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with (
        pytest.raises(IrmasError, match=f"no Ray cluster answers at {address}"),
        ray_running(address),
    ):
        pass
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("no_ray")
def test_without_an_address_the_one_in_ray_address_is_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(IrmasError, match=address), ray_running():
        pass


def test_an_initialised_ray_is_used_and_left_running(ray_cluster: None) -> None:
    import ray

    with ray_running():
        assert ray.is_initialized()
    assert ray.is_initialized()


REUSE = """
import ray
from irmas_dist.cluster.runtime import ray_running

@ray.remote
def page_faults():
    import resource, threading
    import torch
    counted = []

    def allocate():
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                torch.zeros(40, 1_000_000)
            counted.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    thread = threading.Thread(target=allocate)  # Ray Train trains in a thread
    thread.start()
    thread.join()
    return counted[-1]

with ray_running():
    print(ray.get(page_faults.remote()))
"""


def test_workers_keep_the_memory_of_freed_tensors_for_the_next(ray_cluster: None) -> None:
    import ray

    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run(
        [sys.executable, "-c", REUSE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # A page fault for each page of every tensor would be twenty times as many.
    assert int(done.stdout.splitlines()[-1]) < 39_063
