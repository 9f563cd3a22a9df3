"""Jobs on a real cluster of one node, which the tests of this file share."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray
from ray.job_submission import JobStatus

from irmas_dist.cluster import jobs
from irmas_dist.cluster.job_client import dashboard_url
from irmas_dist.cluster.packaging import left_behind, passed_environment, require_packable
from irmas_dist.errors import IrmasError
from tests.ray_cluster import RunningCluster, free_port, running_cluster

PYTHON = ("python", "-c")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def url(cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.environment["RAY_AUTH_TOKEN"])
    return cluster.dashboard_url


def submit(url: str, program: str, name: str | None = None, **options: object) -> str:
    given = {"working_dir": None, "environment": {}} | options
    return jobs.submit([program], address=url, name=name, entrypoint=PYTHON, **given)


def test_a_job_runs_in_a_copy_of_the_code_without_data(url: str, tmp_path: Path) -> None:
    kept = {"pyproject.toml", "irmas_dist/cli/main.py", "configs/data/seed.yaml"}
    left = {"data/IRMAS/a.wav", "b.wav", "runs/1/m.json", ".env", ".venv/x.py", "s/p.parquet"}
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    program = (
        "import json, os, pathlib;"
        "files = [str(p) for p in pathlib.Path().rglob('*') if p.is_file()];"
        "print(json.dumps([files, os.environ.get('WANDB_MODE'), os.environ.get('OTHER')]))"
    )
    environment = passed_environment({"WANDB_MODE": "offline", "OTHER": "stays"})
    job = submit(url, program, working_dir=tmp_path, environment=environment)
    pieces: list[str] = []
    assert jobs.follow(job, url, pieces.append) == JobStatus.SUCCEEDED
    assert "".join(pieces) == jobs.logs(job, url)
    files, mode, other = json.loads("".join(pieces).splitlines()[-1])
    assert set(files) == kept
    assert (mode, other) == ("offline", None)
    ended = jobs.status(job, url)
    assert jobs.exit_code(ended) == 0
    assert ended.started < ended.ended
    assert "offline" not in repr(ended)


def test_its_exit_code_is_ours(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SILENCE_S", 1.5)  # Shorter than the job's own silence.
    job = submit(url, "import time; print('a', flush=True); time.sleep(3); print('b'); exit(3)")
    pieces: list[str] = []
    assert jobs.follow(job, url, pieces.append) == JobStatus.FAILED
    assert "".join(pieces) == jobs.logs(job, url)
    assert "".join(pieces).splitlines()[-2:] == ["a", "b"]
    assert jobs.exit_code(jobs.status(job, url)) == 3


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", -9, 137), ("FAILED", None, 1)],
)
def test_exit_codes(status: str, driver_exit_code: int | None, expected: int) -> None:
    job = jobs.Job("a", JobStatus(status), "true", None, None, None, driver_exit_code)
    assert jobs.exit_code(job) == expected


def test_a_named_job_runs_once_at_a_time(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(url, "import time; time.sleep(300)", "long") == "long"
    assert submit(url, "print('again')", "long") == "long"
    told = capsys.readouterr().err
    assert told.count("submitted long") == 1
    assert "job long is" in told
    assert jobs.stop("long", url)
    assert jobs.follow("long", url, lambda _: None) == JobStatus.STOPPED
    assert jobs.exit_code(jobs.status("long", url)) == 1
    assert not jobs.stop("long", url)
    assert submit(url, "print('again')", "long") == "long-2"
    assert "this one is long-2" in capsys.readouterr().err
    assert [job.submission_id for job in jobs.list_jobs(url)][:2] == ["long-2", "long"]
    jobs.stop("long-2", url)


def test_a_name_is_a_file_name(url: str) -> None:
    with pytest.raises(IrmasError, match="'a/b' cannot name a job"):
        submit(url, "print()", "a/b")


def test_a_dropped_connection_repeats_nothing(url: str) -> None:
    program = "import time\nfor n in range(6): print('line', n, flush=True); time.sleep(0.5)"
    job = submit(url, program)
    pieces: list[str] = []
    with dropping_proxy(url, after=b"line 1") as (proxy, drops):
        assert jobs.follow(job, proxy, pieces.append) == JobStatus.SUCCEEDED
    assert drops == [True]
    assert "".join(pieces) == jobs.logs(job, url)
    assert [line for line in "".join(pieces).splitlines() if line.startswith("line ")] == [
        f"line {n}" for n in range(6)
    ]


def test_a_lost_cluster_is_given_up(url: str) -> None:
    job = submit(url, "import time; time.sleep(300)")
    with (
        dropping_proxy(url, after=b"101 Switching Protocols", then_refuse=True) as (proxy, _),
        pytest.raises(IrmasError, match=f"lost sight of job {job}: no Ray cluster answers"),
    ):
        jobs.follow(job, proxy, lambda _: None, patience_s=0.0)
    jobs.stop(job, url)


def test_an_unknown_job_is_answered_with_the_known(url: str) -> None:
    known = jobs.list_jobs(url)[0].submission_id
    for ask in (jobs.status, jobs.logs, jobs.stop):
        with pytest.raises(IrmasError, match=f"no job 'other' at {url}.*{known}"):
            ask("other", url)


def test_no_cluster_at_the_address() -> None:
    with pytest.raises(IrmasError, match=r"no Ray cluster answers at .*`ray start --head`"):
        jobs.list_jobs(f"127.0.0.1:{free_port()}")


def test_a_given_address_goes_before_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    elsewhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", elsewhere)
    jobs.list_jobs(url)
    assert os.environ["RAY_API_SERVER_ADDRESS"] == elsewhere
    with pytest.raises(IrmasError, match=elsewhere):
        jobs.list_jobs(None)


def test_tokens(url: str, tmp_path: Path) -> None:
    # Each in a process of its own, for Ray keeps the first token that a process used.
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
    with cluster_of_other_versions(versions) as old:
        assert jobs.list_jobs(old) == []
        with pytest.raises(IrmasError, match=refusal):
            submit(old, "print()")


def test_a_job_that_no_node_can_hold_is_refused(url: str) -> None:
    with pytest.raises(IrmasError, match=r"have 3 CPUs and 0 GPUs .* has 2 and 0 on 1 nodes"):
        submit(url, "print()", "large", cpus=3)
    with pytest.raises(IrmasError, match=r"have 0\.5 CPUs and 1 GPUs on one node"):
        submit(url, "print()", "large", cpus=0.5, gpus=1)
    assert "large" not in [job.submission_id for job in jobs.list_jobs(url)]


def test_a_job_that_waits_for_room_says_so(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PENDING_S", 0.0)
    first = submit(url, "import time; time.sleep(300)", cpus=2)
    while jobs.status(first, url).status == JobStatus.PENDING:
        time.sleep(0.1)
    second = submit(url, "print()", cpus=2)
    threading.Timer(3.0, jobs.stop, (first, url)).start()
    assert jobs.follow(second, url, lambda _: None) == JobStatus.SUCCEEDED
    assert f"{second} is pending: Job has not started yet" in capsys.readouterr().err


def test_a_password_does_not_go_into_the_list_of_jobs(url: str) -> None:
    with pytest.raises(IrmasError, match="leave it out of the URL") as refused:
        submit(url, "postgresql://irmas:secret@db/study", "leaky")
    assert "secret" not in str(refused.value)


def test_a_directory_too_large_to_send_is_refused_by_its_largest_files(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(b"#" * 1000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").write_bytes(b"#" * 10_000_000)
    (tmp_path / "ignored.csv").write_bytes(b"#" * 10_000_000)
    (tmp_path / ".gitignore").write_text("*.csv\n")
    require_packable(tmp_path, limit=2_000_000)
    (tmp_path / "data").rename(tmp_path / "more")
    with pytest.raises(IrmasError, match=r"10 MB of at most 2; the largest: more/big \(10 MB\)"):
        require_packable(tmp_path, limit=2_000_000)


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        ("https://ray.example.org/", {}, "https://ray.example.org"),
        ("head:9000", {"RAY_ADDRESS": "http://other:1"}, "http://head:9000"),
        ("ray://head:10001", {}, "http://head:8265"),
        (None, {"RAY_API_SERVER_ADDRESS": "a:1", "RAY_ADDRESS": "b:2"}, "http://a:1"),
        ("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}, "http://10.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "[::1]:6379"}, "http://[::1]:8265"),
        (None, {"RAY_ADDRESS": "http://head:8000"}, "http://head:8000"),
        (None, {"RAY_ADDRESS": "auto"}, "http://127.0.0.1:8265"),
        (None, {}, "http://127.0.0.1:8265"),
    ],
)
def test_addresses(address: str | None, environment: dict[str, str], expected: str) -> None:
    assert dashboard_url(address, environment) == expected


def test_only_what_a_job_needs_of_the_environment_goes_with_it() -> None:
    goes = {
        "WANDB_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "IRMAS_CACHE": "c",
        "PGPASSWORD": "p",
    }
    stays = {
        "AWS_CA_BUNDLE": "/f",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/f",
        "PGPASSFILE": "/f",
        "HOME": "/h",
    }
    assert passed_environment(goes | stays | {"WANDB_DIR": "/d"}) == goes
    assert passed_environment(goes | stays, ["HOME"]) == goes | {"HOME": "/h"}
    with pytest.raises(IrmasError, match="HF_TOKEN cannot go with the job: not set here"):
        passed_environment(goes, ["HF_TOKEN"])


def test_paths_that_a_job_would_not_see_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, packed = tmp_path / "here", tmp_path / "code"
    for name in ("features/part.parquet", "m.parquet", "x.yaml", "runs/s.yaml"):
        for place in (here / name, packed / name):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    monkeypatch.chdir(here)
    assert left_behind(["features", "model", "--config", "x.yaml"], packed) == ["features"]
    assert left_behind(["m.parquet", "--space=runs/s.yaml"], packed) == ["m.parquet", "runs/s.yaml"]
    assert left_behind(["--config=x.yaml"], None) == ["x.yaml"]
    elsewhere = [
        "s3://bucket/features",
        str(here / "features"),
        "--trials",
        "3",
        "--json",
        "a" * 300,
    ]
    assert left_behind(elsewhere, packed) == []


@contextmanager
def dropping_proxy(
    url: str, after: bytes, *, then_refuse: bool = False
) -> Iterator[tuple[str, list[bool]]]:
    """Forward to ``url``, and cut the first log connection once it has carried ``after``."""
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.new_event_loop()
    drops: list[bool] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if drops and then_refuse:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(host, int(port))

        request = await reader.readuntil(b"\r\n")
        there_writer.write(request)

        async def up() -> None:
            while data := await reader.read(65536):
                there_writer.write(data)

        upward = asyncio.create_task(up())
        carried = b""
        while data := await there_reader.read(65536):
            writer.write(data)
            carried += data
            if b"/logs/tail" in request and after in carried and not drops:
                drops.append(True)
                await writer.drain()
                break
        upward.cancel()
        there_writer.close()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", drops
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    """Close a server and everything that its connections still wait for."""
    server.close()
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@contextmanager
def cluster_of_other_versions(versions: dict[str, str]) -> Iterator[str]:
    answers = {
        "/api/version": {"version": "4", "ray_version": ray.__version__} | versions,
        "/api/v0/cluster_metadata": {"data": versions},
        "/api/jobs/": [],
    }

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
