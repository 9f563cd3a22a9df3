"""The client of a cluster's dashboard: addresses, tokens, versions, and errors in one line."""

import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray

from irmas_dist.cluster import jobs
from irmas_dist.cluster.job_client import connect, dashboard_url, one_line_errors
from irmas_dist.errors import IrmasError
from tests.ray_cluster import free_port


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        ("https://ray.example.org/", {}, "https://ray.example.org"),
        ("head:9000", {"RAY_ADDRESS": "http://other:1"}, "http://head:9000"),
        ("ray://head:10001", {}, "http://head:8265"),
        ("ray://127.0.0.1", {}, "http://127.0.0.1:8265"),
        ("127.0.0.1", {}, "http://127.0.0.1:8265"),
        ("[::1]", {}, "http://[::1]:8265"),
        ("local", {}, "http://127.0.0.1:8265"),
        ("http://head", {}, "http://head"),
        ("https://ray.example.org/team/", {}, "https://ray.example.org/team"),
        ("head:9000/team", {}, "http://head:9000/team"),
        (None, {"RAY_API_SERVER_ADDRESS": "a:1", "RAY_ADDRESS": "b:2"}, "http://a:1"),
        ("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}, "http://10.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "[::1]:6379"}, "http://[::1]:8265"),
        (None, {"RAY_ADDRESS": "http://head:8000"}, "http://head:8000"),
        (None, {"RAY_ADDRESS": "auto"}, "http://127.0.0.1:8265"),
        (None, {}, "http://127.0.0.1:8265"),
    ],
)
def test_the_dashboard_of_an_address(
    address: str | None, environment: dict[str, str], expected: str
) -> None:
    assert dashboard_url(address, environment) == expected


@pytest.mark.parametrize(
    "address",
    [
        "http://", "https://:8265", "ray://", "ray://:10001", "ftp://x:1", "http://ftp://x:1",
        ":8265", "head:port", "head:0", "head:65536", "http://head:99999", "::1", "a head",
        "http://head/#/jobs", "http://head?a=b", " ", "s3://bucket/a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["--address", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_what_cannot_be_the_address_of_a_dashboard_is_refused(address: str, source: str) -> None:
    given, environment = (address, {}) if source == "--address" else (None, {source: address})
    with pytest.raises(IrmasError, match="is not the address of a dashboard: that is http://host"):
        dashboard_url(given, environment)


@pytest.mark.parametrize("address", ["http://me:pw@head:8265", "http://pw@head", "ftp://me:pw@x"])
def test_what_an_address_gives_away_is_not_repeated(address: str) -> None:
    with pytest.raises(IrmasError, match="leave them out") as refused:
        dashboard_url(address, {})
    assert "pw" not in str(refused.value)
    assert "me" not in str(refused.value).split()


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(IrmasError, match=r"no Ray cluster answers at .*`ray start --head`"):
        jobs.list_jobs(f"127.0.0.1:{free_port()}")


def test_a_given_address_overrides_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    elsewhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", elsewhere)
    jobs.list_jobs(url)
    assert os.environ["RAY_API_SERVER_ADDRESS"] == elsewhere
    with pytest.raises(IrmasError, match=elsewhere):
        jobs.list_jobs(None)


def test_a_token_is_required_and_found(url: str, tmp_path: Path) -> None:
    # Each in a process of its own: Ray keeps the first token that a process uses.
    token = os.environ["RAY_AUTH_TOKEN"]
    bare = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    } | {"HOME": str(tmp_path)}

    def list_jobs(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "irmas_dist", "jobs", "list", "--address", url],
            env=bare | environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    wrong = list_jobs(RAY_AUTH_TOKEN="wrong" * 8)
    assert wrong.returncode == 1
    assert "refuses this token: set RAY_AUTH_TOKEN" in wrong.stderr
    missing = list_jobs()
    assert missing.returncode == 1
    assert "wants a token: set RAY_AUTH_TOKEN" in missing.stderr
    assert list_jobs(RAY_AUTH_TOKEN=token).returncode == 0
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(token + "\n")
    assert list_jobs().returncode == 0


@pytest.mark.parametrize(
    ("versions", "refusal"),
    [
        ({"ray_version": "2.40.0"}, r"runs Ray 2\.40\.0, this is Ray"),
        ({"pythonVersion": "3.8.10"}, r"runs Python 3\.8\.10, this is Python"),
    ],
)
def test_other_versions_are_refused_for_new_jobs_only(
    versions: dict[str, str], refusal: str
) -> None:
    answers = {
        "/api/version": {"version": "4", "ray_version": ray.__version__} | versions,
        "/api/v0/cluster_metadata": {
            "data": {"pythonVersion": platform.python_version()} | versions
        },
        "/api/jobs/": [],
    }
    with answering(answers) as old:
        assert jobs.list_jobs(old) == []
        with pytest.raises(IrmasError, match=refusal):
            jobs.submit(["train"], address=old, name=None, working_dir=None, environment={})


@pytest.mark.parametrize("answer", [[], {}, {"data": []}, {"data": {"pythonVersion": 3}}, 3, "a"])
def test_what_answers_otherwise_than_a_dashboard_is_refused_in_one_line(answer: object) -> None:
    with (
        answering(dict.fromkeys(("/api/v0/cluster_metadata", "/api/jobs/"), answer)) as other,
        pytest.raises(IrmasError, match=f"^what answers at {other} does not answer as a Ray") as no,
    ):
        jobs.submit(["train"], address=other, name=None, working_dir=None, environment={})
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("answer", [3, [3], [{}], [[]], {"a": 1}, "a"])
def test_what_lists_jobs_otherwise_than_a_dashboard_is_refused_in_one_line(answer: object) -> None:
    for path in ("/api/jobs/", "/api/version"):
        with answering({path: answer}) as other, pytest.raises(IrmasError) as refused:
            jobs.list_jobs(other)
        assert str(refused.value).startswith(f"what answers at {other} does not answer as a Ray")
        assert "\n" not in str(refused.value)


def test_the_nodes_of_a_cluster_and_whether_it_can_grow(url: str) -> None:
    client = connect(url)
    (node,) = client.nodes()
    assert node["CPU"] == 2.0
    assert not client.may_add_nodes()


def test_an_error_on_the_cluster_is_reported_by_its_last_line() -> None:
    trace = "Request failed with status code 500: Traceback\n  File\nValueError: too large: b.\n."
    with pytest.raises(IrmasError) as refused, one_line_errors("http://a"):
        raise RuntimeError(trace)
    assert str(refused.value) == "the Ray cluster at http://a refuses: too large: b"


@contextmanager
def answering(given: Mapping[str, object]) -> Iterator[str]:
    """Answer requests with these, and that for the version as Ray does unless it is among them."""
    answers = {"/api/version": {"version": "4", "ray_version": ray.__version__}} | given

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
