"""Joining a Ray cluster, and how its workers are set up."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from irmas_dist.cluster.runtime import ray_running
from irmas_dist.environment import default_variables
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


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8265",
        "http://me:pw@127.0.0.1:8265",
        " ",
        "nonsense",
        "127.0.0.1",
        "head:99999",
        "a b:6379",
        "a:1:2",
        "é:x",
    ],
)
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(IrmasError) as refused, ray_running():
        pass
    shown = address.replace("pw", "***")
    assert str(refused.value).startswith(f"{shown} is not the address of a Ray cluster: ")
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "[::1]:9", "localhost:9", "a..b:9"])
def test_each_form_of_address_is_probed(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(IrmasError, match="no Ray cluster answers at"), ray_running(address):
        pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("d" * 100, "the path of the temporary directory is too long for its sockets; set RAY_TMP"),
        ("file", "file/ray: Not a directory; set RAY_TMPDIR to a directory of your own"),
    ],
)
def test_a_temporary_directory_that_ray_cannot_use_is_told_at_once(
    tmp_path: Path, folder: str, reason: str
) -> None:
    """In another process, because this one may have a Ray already."""
    (tmp_path / "file").touch()
    environment = {"RAY_TMPDIR": str(tmp_path / folder), "RAY_ADDRESS": ""}
    program = "from irmas_dist.cluster.runtime import ray_running\nwith ray_running(): pass"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    error = done.stderr.splitlines()[-1]
    assert error.startswith("irmas_dist.errors.IrmasError: cannot start Ray: ")
    assert reason in error


@pytest.mark.usefixtures("no_ray")
def test_where_no_token_can_be_kept_a_ray_of_this_process_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise Exception(os.environ.get("RAY_AUTH_TOKEN", "none"))

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        # Set first, so that what the code sets is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    for home, token in ((tmp_path, "none"), (Path("/nonexistent"), "[0-9a-f]{64}")):
        monkeypatch.setenv("HOME", str(home))
        with pytest.raises(IrmasError, match=f"cannot start Ray: {token}$"), ray_running():
            pass


@pytest.mark.usefixtures("no_ray")
def test_a_ray_that_is_too_slow_to_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_slow(**_: object) -> None:
        # As in Ray's node.py.
        raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr("ray.init", too_slow)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(IrmasError, match="not started within half a minute"), ray_running():
        pass


ON_ONE_CPU = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import ray
from irmas_dist.cluster.runtime import ray_running

with ray_running():
    print(ray.cluster_resources()["CPU"])
"""


def test_a_ray_has_no_more_cpus_than_its_process_may_use() -> None:
    """As in a job of Slurm, or in a container with a part of a host's CPUs."""
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CPU], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr


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


@pytest.mark.parametrize("place", [pytest.param("local", marks=pytest.mark.drill), "cluster"])
def test_workers_keep_the_memory_of_freed_tensors_for_the_next(
    ray_cluster: None, place: str
) -> None:
    import ray

    addresses = {"local": "local", "cluster": ray.get_runtime_context().gcs_address}
    environment = {**os.environ, "RAY_ADDRESS": addresses[place]}
    done = subprocess.run(
        [sys.executable, "-c", REUSE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Without them there is a page fault for each page of all twenty tensors; where the kernel moves
    # pages, as under load, there are some with them.
    assert int(done.stdout.splitlines()[-1]) < 390_625


BESIDE_ANOTHER = """
from irmas_dist.cluster.resources import require_state_api
from irmas_dist.cluster.runtime import ray_running

with ray_running(dashboard=True):
    require_state_api()
"""


@pytest.mark.drill
def test_its_own_dashboard_answers_also_where_another_ray_was_started() -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        # Of one that is gone, and has left its address.
        (Path(temporary) / "ray").mkdir()
        (Path(temporary) / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
        environment = {key: os.environ[key] for key in os.environ if key[:4] != "RAY_"}
        subprocess.run(
            [sys.executable, "-c", BESIDE_ANOTHER],
            env=environment | {"RAY_TMPDIR": temporary},
            check=True,
            timeout=120,
        )


def test_default_variables_are_set_where_they_are_missing_and_for_the_block_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IRMAS_SET", "before")
    monkeypatch.delenv("IRMAS_MISSING", raising=False)
    with default_variables({"IRMAS_SET": "default", "IRMAS_MISSING": "default"}):
        assert (os.environ["IRMAS_SET"], os.environ["IRMAS_MISSING"]) == ("before", "default")
    assert os.environ["IRMAS_SET"] == "before"
    assert "IRMAS_MISSING" not in os.environ


INTERRUPTED = """
import signal
import weakref
import ray
from irmas_dist.cluster.runtime import ray_running

connect = ray._private.worker.connect

class Kept: pass

def raised(_=None):
    signal.raise_signal(signal.{name})

def interrupted(*arguments, **named):
    {raised}
    print("not yet")
    {then}

ray._private.worker.connect = interrupted
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with ray_running():
        print("never")
except BaseException as error:
    print(type(error).__name__, ray._private.worker._global_node)
"""


@pytest.mark.parametrize(
    ("name", "then", "expected"),
    [
        ("SIGINT", "connect(*arguments, **named)", ["not yet", "KeyboardInterrupt None"]),
        pytest.param(
            *("SIGINT", "raise RuntimeError", ["not yet", "KeyboardInterrupt None"]),
            marks=pytest.mark.drill,
        ),
        pytest.param(
            *("SIGTERM", "connect(*arguments, **named)", ["SystemExit None"]),
            marks=pytest.mark.drill,
        ),
        pytest.param(
            *("SIGTERM in a callback", "connect(*arguments, **named)"),
            ["not yet", "SystemExit None"],
            marks=pytest.mark.drill,
        ),
        pytest.param(
            "SIGTERM in a callback, SIGINT ignored",
            "connect(*arguments, **named)",
            ["not yet", "SystemExit None"],
            marks=pytest.mark.drill,
        ),
    ],
)
def test_interrupted_while_it_starts_ray_is_ended(
    name: str, then: str, expected: list[str]
) -> None:
    """SIGINT waits until Ray is up, or has failed; on SIGTERM, Ray ends at once.

    Unless it comes while a callback runs that the interpreter calls, which drops what is raised.
    """
    name, _, callback = name.partition(" ")
    raised = "gone = weakref.ref(Kept(), raised)" if callback else "raised()"
    program = INTERRUPTED.replace("{name}", name).replace("{then}", then)
    program = program.replace("{raised}", raised)
    if "ignored" in callback:  # as in the background of a shell
        program = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{program}"
    environment = {**os.environ, "RAY_ADDRESS": ""}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert ended.stdout.splitlines() == expected, ended.stderr
