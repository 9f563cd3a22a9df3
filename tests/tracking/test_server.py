"""The mode follows the settings, the environment and the key; the server is asked in time."""

import json
from pathlib import Path

import pytest
import wandb
from wandb.errors import AuthenticationError
from wandb.sdk import wandb_setup

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking import server
from irmas_dist.tracking.outcome import awaiting_uploads
from irmas_dist.tracking.run_file import run_files
from irmas_dist.tracking.server import (
    Known,
    address,
    connection,
    default_entity,
    known_run,
    reason,
    resolve_mode,
)
from irmas_dist.tracking.start import start_run
from tests.wandb_server import Fault, WandbServer


@pytest.mark.parametrize(
    ("setting", "environment", "key", "mode"),
    [
        ("auto", None, True, "online"),
        ("auto", None, False, "offline"),
        ("auto", "offline", True, "offline"),
        ("auto", "disabled", True, "disabled"),
        ("auto", "dryrun", True, "offline"),
        ("auto", "run", True, "online"),
        ("auto", "online", True, "online"),
        ("auto", "online", False, "offline"),
        ("online", "offline", True, "online"),
        ("online", None, False, "offline"),
        ("offline", "online", True, "offline"),
        ("disabled", "online", True, "disabled"),
    ],
)
def test_the_mode_is_the_setting_s_then_the_environment_s_then_that_of_a_key(
    setting: str,
    environment: str | None,
    key: bool,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    monkeypatch.setattr(server, "connection", lambda: object() if key else None)
    assert resolve_mode(TrackingSettings.model_validate({"mode": setting})) == mode
    asked = setting == "online" or (setting, environment) == ("auto", "online")
    told = "W&B cannot be used online (there is no API key); kept in runs/wandb"
    assert (told in capsys.readouterr().err) == (asked and mode == "offline")


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_wandb_offline_and_wandb_disabled_have_written_counts(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text(f"[default]\nmode = {mode}\n")
    found = wandb_setup.singleton().settings
    monkeypatch.setattr(found, "settings_system", str(tmp_path / "settings"))
    monkeypatch.delenv("WANDB_MODE")
    assert resolve_mode(TrackingSettings()) == mode
    assert resolve_mode(TrackingSettings(mode="online")) == "online"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert resolve_mode(TrackingSettings()) == "online"


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("WANDB_MODE", "bogus", "Input should be 'online', 'offline'"),
        ("WANDB_BASE_URL", "localhost:8080", "URL scheme should be"),
        ("WANDB_BASE_URL", "ftp://user:SECRET@localhost", "URL scheme should be"),
        ("WANDB_CONSOLE", "on", "Input should be 'auto', 'off'"),
        ("WANDB_PROJECT", "a/b", "Invalid project name 'a/b'"),
    ],
)
def test_a_variable_that_wandb_cannot_read_is_one_line_and_loses_nothing(
    variable: str, value: str, why: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv(variable, value)
    wandb.teardown()  # wandb has read its settings.
    tracking = TrackingSettings(directory=str(tmp_path))
    for number in range(2):
        start_run(tracking, name="x", job_type="train", config={}, run_id=f"r{number}").close()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert len(told) == 1
    assert "SECRET" not in told[0]
    shown = value.replace("SECRET", "***")
    assert f"W&B cannot be used online ({variable}={shown}: {why}" in told[0]
    assert f"); kept in {tmp_path}" in told[0]
    assert len(run_files(tmp_path)) == 2


def test_an_empty_variable_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(server, "connection", lambda: None)
    assert resolve_mode(TrackingSettings()) == "offline"
    assert capsys.readouterr().err == ""


def test_a_run_that_others_resume_is_not_ours(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RESUME", "must")
    wandb.teardown()
    tracking = TrackingSettings(directory=str(tmp_path))
    with awaiting_uploads(30):
        start_run(tracking, name="x", job_type="train", config={}, run_id="r1").close()
    wandb.teardown()
    assert wandb_server.runs["r1"].state == "finished"


def test_a_key_that_cannot_be_one_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise AuthenticationError("API key must have 40+ characters, has 3.\nAnd more.")

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(server, "connection", refuse)
    assert resolve_mode(TrackingSettings()) == "offline"
    (line,) = capsys.readouterr().err.splitlines()
    assert "(API key must have 40+ characters, has 3.)" in line
    assert "irmas review runs --sync" in line


def test_a_connection_asks_nothing_and_ignores_the_mode(
    wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = connection()
    assert (found.mode, found.base_url) == ("online", wandb_server.url)
    assert not wandb_server.requests


def test_an_address_names_the_page(wandb_server: WandbServer) -> None:
    tracking = TrackingSettings(project="a project")
    expected = f"{wandb_server.url}/tester/a%20project/groups/a%2Fnamed%20sweep"
    assert address(tracking, "groups", "a/named sweep") == expected
    named = address(tracking.model_copy(update={"entity": "team"}), "runs", "1")
    assert named == f"{wandb_server.url}/team/a%20project/runs/1"
    assert default_entity(5) == "tester"


def test_what_is_known_of_a_run_is_its_last_step_configuration_and_summary(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    assert known_run(None, "irmas-dist", "r1", 5) == Known()
    with awaiting_uploads(30):
        run = start_run(
            TrackingSettings(directory=str(tmp_path)), name="x", job_type="train",
            config={"a": {"b": 1}}, run_id="r1",
        )  # fmt: skip
        run.log({"epoch": 7.0, "val_loss": 0.5})
        run.table("instruments", ["code"], [["cel"]])
        run.close()
    found = known_run(None, "irmas-dist", "r1", 5)
    assert (found.last_step, found.config["a"]) == (8, {"b": 1})
    assert (found.summary["epoch"], found.summary["val_loss"]) == (7, 0.5)
    table = json.loads(json.dumps(found.summary))["instruments"]
    assert (table["_type"], table["nrows"]) == ("table-file", 1)


def test_a_server_that_cannot_be_asked_says_why(wandb_server: WandbServer) -> None:
    for status, why in ((401, "it refuses the key (401)"), (500, "its server fails (500)")):
        wandb_server.faults = [Fault(status=status)]
        with pytest.raises(RuntimeError) as raised:
            known_run(None, "irmas-dist", "r1", 5)
        assert reason(str(raised.value)) == why


def test_a_server_that_refuses_raises(wandb_server: WandbServer) -> None:
    wandb_server.faults = [Fault(status=403)]
    with pytest.raises(Exception, match="403"):
        known_run("tester", "irmas-dist", "r1", 5)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ('returned error 401: {"errors":[]}', "it refuses the key (401)"),
        ("retrying: Post: dial tcp: connection refused", "its server cannot be reached"),
        ("retrying: HTTP 502 Bad Gateway", "its server fails (502)"),
        ("Post: dial tcp 1.2.3.4:443: i/o timeout", "its server does not answer"),
        ("open /runs/403/x: no", "open /runs/403/x: no"),
        ("context deadline exceeded", "its server does not answer"),
        ('Failed to read "x": error getting next record: EOF', "its file is damaged"),
        ("MailboxClosedError", "its service on this machine has ended"),
        ("something else\nand more", "something else"),
    ],
)
def test_a_problem_is_told_in_few_words(problem: str, words: str) -> None:
    assert reason(problem) == words
