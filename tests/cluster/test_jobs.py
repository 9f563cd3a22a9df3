"""Jobs on a real cluster of one node."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from irmas_dist.cluster import follow_job, jobs, submitted_jobs
from irmas_dist.cluster.packaging import passed_environment
from irmas_dist.errors import IrmasError

PYTHON = ("python", "-c")


def submit(url: str, program: str, name: str | None = None, **options: object) -> str:
    given = {"working_dir": None, "environment": {}} | options
    return jobs.submit([program], address=url, name=name, entrypoint=PYTHON, **given)


def wait_until_started(job: str, url: str) -> None:
    while jobs.status(job, url).status == JobStatus.PENDING:
        time.sleep(0.1)


def test_a_job_runs_in_a_copy_of_the_code_without_data(url: str, tmp_path: Path) -> None:
    sent = {"pyproject.toml", "irmas_dist/cli/main.py", "configs/data/seed.yaml", ".gitignore"}
    excluded = {"data/IRMAS/a.wav", "b.wav", "runs/1/m.json", ".env", ".venv/x.py", "s/p.parquet"}
    ignored = {"large.yaml"}
    for name in sent | excluded | ignored:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("large.*\n")
    program = (
        "import json, os, pathlib;"
        "files = [str(p) for p in pathlib.Path().rglob('*') if p.is_file()];"
        "print(json.dumps([files, os.environ.get('WANDB_MODE'), os.environ.get('OTHER')]))"
    )
    environment = passed_environment({"WANDB_MODE": "offline", "OTHER": "withheld"})
    job = submit(url, program, working_dir=tmp_path, environment=environment)
    pieces: list[str] = []
    ended = follow_job.follow(job, url, pieces.append)
    assert (ended.status, ended.exit_code) == (JobStatus.SUCCEEDED, 0)
    assert ended == jobs.status(job, url)
    assert "".join(pieces) == jobs.logs(job, url)
    files, mode, other = json.loads("".join(pieces).splitlines()[-1])
    assert set(files) == sent
    assert (mode, other) == ("offline", None)
    assert ended.started < ended.ended
    assert "offline" not in repr(ended)


def test_a_job_that_fails_is_followed_to_its_exit_code(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_job, "LOG_TIMEOUT_S", 1.5)  # Shorter than the job's own silence.
    job = submit(url, "import time; print('a', flush=True); time.sleep(3); print('b'); exit(3)")
    pieces: list[str] = []
    ended = follow_job.follow(job, url, pieces.append)
    assert (ended.status, ended.exit_code) == (JobStatus.FAILED, 3)
    assert "".join(pieces) == jobs.logs(job, url)
    assert "".join(pieces).splitlines()[-2:] == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", -9, 137), ("FAILED", None, 1)],
)
def test_exit_codes(status: str, driver_exit_code: int | None, expected: int) -> None:
    job = submitted_jobs.Job("a", JobStatus(status), "true", None, None, None, driver_exit_code)
    assert job.exit_code == expected


def test_a_named_job_runs_once_at_a_time(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(url, "import time; time.sleep(300)", "long") == "long"
    assert submit(url, "import time; time.sleep(300)", "long") == "long"
    messages = capsys.readouterr().err
    assert messages.count("submitted long") == 1
    assert "job long is" in messages
    with pytest.raises(IrmasError, match=r"job long is .* already, with another command: .*300"):
        submit(url, "print('again')", "long")
    wait_until_started("long", url)
    assert jobs.stop("long", url)
    ended = jobs.status("long", url)
    assert (ended.status, ended.exit_code) == (JobStatus.STOPPED, 1)
    assert not jobs.stop("long", url)
    assert submit(url, "print('again')", "long") == "long-2"
    assert "this one is long-2" in capsys.readouterr().err
    assert [job.submission_id for job in jobs.list_jobs(url)][:2] == ["long-2", "long"]
    jobs.stop("long-2", url)


def test_a_name_must_be_a_file_name(url: str) -> None:
    with pytest.raises(IrmasError, match="'a/b' cannot name a job"):
        submit(url, "print()", "a/b")


def test_a_dropped_connection_repeats_nothing(url: str) -> None:
    program = "import time\nfor n in range(6): print('line', n, flush=True); time.sleep(0.5)"
    job = submit(url, program)
    pieces: list[str] = []
    with dropping_proxy(url, after=b"line 1") as (proxy, drops):
        assert follow_job.follow(job, proxy, pieces.append).status == JobStatus.SUCCEEDED
    assert drops == [True]
    assert "".join(pieces) == jobs.logs(job, url)
    assert [line for line in "".join(pieces).splitlines() if line.startswith("line ")] == [
        f"line {n}" for n in range(6)
    ]


def test_the_cluster_may_fail_to_answer_after_hours_of_a_log(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find, asked = follow_job.find_job, []

    def failing_once(*arguments: object) -> submitted_jobs.Job:
        asked.append(arguments)
        if len(asked) == 2:
            raise IrmasError("no Ray cluster answers")
        return find(*arguments)

    job = submit(url, "import time; time.sleep(3)")
    wait_until_started(job, url)
    monkeypatch.setattr(follow_job, "find_job", failing_once)
    assert follow_job.follow(job, url, lambda _: None, timeout_s=2).status == JobStatus.SUCCEEDED
    assert f"{url} does not answer: trying again for 2 s" in capsys.readouterr().err


def test_following_ends_when_the_cluster_has_lost_the_job(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(url, "print()")
    answers = iter([[jobs.status(job, url)]])
    monkeypatch.setattr(submitted_jobs, "jobs_of", lambda client: next(answers, []))
    line = f"no job '{job}' at .*; it has lost this one: submit the command again"
    with pytest.raises(IrmasError, match=line):
        follow_job.follow(job, url, lambda _: None)


def test_following_ends_when_the_cluster_is_lost(url: str) -> None:
    job = submit(url, "import time; time.sleep(300)")
    with (
        dropping_proxy(url, after=b"101 Switching Protocols", then_refuse=True) as (proxy, _),
        pytest.raises(IrmasError, match=f"lost contact with job {job}: no Ray cluster answers"),
    ):
        follow_job.follow(job, proxy, lambda _: None, timeout_s=0.0)
    jobs.stop(job, url)


def test_an_unknown_job_is_answered_with_the_known_ones(url: str) -> None:
    known = jobs.list_jobs(url)[0].submission_id
    for ask in (jobs.status, jobs.logs, jobs.stop):
        with pytest.raises(IrmasError, match=f"no job 'other' at {url}.*{known}"):
            ask("other", url)


def test_a_job_that_no_node_can_hold_is_refused(url: str) -> None:
    with pytest.raises(IrmasError, match=r"needs 3 CPUs and 0 GPUs .* has 2 and 0 on 1 nodes"):
        submit(url, "print()", "large", cpus=3)
    with pytest.raises(IrmasError, match=r"needs 0\.5 CPUs and 1 GPUs on one node"):
        submit(url, "print()", "large", cpus=0.5, gpus=1)
    assert "large" not in [job.submission_id for job in jobs.list_jobs(url)]


@pytest.mark.drill
def test_a_job_that_waits_for_resources_is_reported_as_pending(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_job, "PENDING_NOTICE_S", 0.0)
    first = submit(url, "import time; time.sleep(300)", cpus=2)
    wait_until_started(first, url)
    second = submit(url, "print()", cpus=2)
    threading.Timer(3.0, jobs.stop, (first, url)).start()
    assert follow_job.follow(second, url, lambda _: None).status == JobStatus.SUCCEEDED
    assert f"{second} is pending: Job has not started yet" in capsys.readouterr().err


def test_a_command_with_a_password_is_refused(url: str) -> None:
    with pytest.raises(IrmasError, match="leave it out of the URL") as refused:
        submit(url, "postgresql://irmas:secret@db/study", "leaky")
    assert "secret" not in str(refused.value)


@contextmanager
def dropping_proxy(
    url: str, after: bytes, *, then_refuse: bool = False
) -> Iterator[tuple[str, list[bool]]]:
    """Forward to ``url``, and drop the first log connection once it has carried ``after``."""
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.new_event_loop()
    drops: list[bool] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if drops and then_refuse:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection(host, int(port))
        request = await reader.readuntil(b"\r\n")
        to_server.write(request)

        async def up() -> None:
            while data := await reader.read(65536):
                to_server.write(data)

        upward = asyncio.create_task(up())
        carried = b""
        while data := await from_server.read(65536):
            writer.write(data)
            carried += data
            if b"/logs/tail" in request and after in carried and not drops:
                drops.append(True)
                await writer.drain()
                break
        upward.cancel()
        to_server.close()
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
    """Close a server, and cancel what its connections still wait for."""
    server.close()
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
