"""What the server lacks of a run is sent, and takes the place of nothing that it has."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import wandb

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.outcome import awaiting_uploads
from irmas_dist.tracking.run import Run
from irmas_dist.tracking.run_file import SENT, read_records, run_files, write_records
from irmas_dist.tracking.start import start_run
from irmas_dist.tracking.unsent import unsent
from irmas_dist.tracking.uploads import Uploads, uploads
from tests.wandb_server import Fault, WandbServer


def opened(directory: Path, mode: str = "auto", **options: Any) -> Run:
    asked = {"mode": mode, "directory": str(directory), "timeout_s": 5}
    tracking = TrackingSettings.model_validate(asked)
    given = {"name": "the run", "job_type": "train", "config": {"a": {"b": 1}}, "run_id": "r1"}
    return start_run(tracking, **(given | options))


def sent(directory: Path) -> None:
    """Upload all runs of a directory."""
    uploads.begin_all(run_files(directory))
    assert all(upload.sent for upload in uploads.wait(30))


def test_a_run_that_the_server_has_nothing_of_is_sent_as_it_is(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    opened(tmp_path, "offline").close()
    (file,) = run_files(tmp_path)
    assert unsent(file) == file


def test_of_a_file_that_was_sent_in_part_the_rest_is_sent(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    run = opened(tmp_path, "offline")
    for epoch in (1.0, 2.0, 3.0):
        run.log({"epoch": epoch})
    run.close()
    (file,) = run_files(tmp_path)
    whole = list(read_records(file))
    write_records(file, [one for one in whole if one.history.step.num < 3])
    sent(tmp_path)
    file.with_suffix(SENT).write_text("1")
    write_records(file, whole)
    rest = unsent(file)
    steps = [one.history.step.num for one in read_records(rest) if one.HasField("history")]
    assert steps == [3]
    assert len(list(read_records(rest))) == len(whole) - 2 + 1  # the summary that is there


def test_what_a_file_says_last_stands(wandb_server: WandbServer, tmp_path: Path) -> None:
    for epoch in (1.0, 2.0):
        run = opened(tmp_path, "offline", resumed=epoch > 1)
        run.log({"epoch": epoch, "train_loss": epoch})
        run.configure({"a": {"b": epoch}})
        run.tag("completed")
        run.close()
        sent(tmp_path)
    stored = wandb_server.runs["r1"]
    assert (stored.summary["epoch"], stored.summary["train_loss"]) == (2, 2)
    assert (stored.values["a"], stored.tags) == ({"b": 2}, ["completed"])


def begun_elsewhere(directory: Path) -> None:
    """Log and upload two epochs of a run, and delete its files."""
    with awaiting_uploads(30):
        run = opened(directory)
        run.log({"epoch": 1.0, "val_macro_f1": 0.9})
        run.log({"epoch": 2.0, "val_macro_f1": 0.8})
        run.summarise({"parameters": 9})
        run.close()
    shutil.rmtree(directory)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_an_evaluation_elsewhere_adds_to_what_the_run_has(
    mode: str, wandb_server: WandbServer, tmp_path: Path
) -> None:
    begun_elsewhere(tmp_path)
    asked = wandb_server.calls()
    run = opened(tmp_path, mode, name=None, job_type="evaluate", resumed=True, config={"c": 2})
    run.summarise({"evaluation/macro_f1": 0.7})
    run.table("instruments", ["code"], [["cel"]])
    assert wandb_server.calls() == asked  # Nothing waits for the server.
    run.close()
    sent(tmp_path)
    run = wandb_server.runs["r1"]
    assert run.values["a"] == {"b": 1}
    assert run.values["c"] == 2
    assert run.values["command"].keys() == {"train", "evaluate"}
    names = ("val_macro_f1", "parameters", "evaluation/macro_f1")
    assert [run.summary[name] for name in names] == [0.9, 9, 0.7]
    assert [row["_step"] for row in run.history] == [1, 2, 3]
    assert "instruments" in run.history[-1]


def test_two_evaluations_elsewhere_add_to_what_the_run_has(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    begun_elsewhere(tmp_path)
    for clips in (100, 200):
        run = opened(tmp_path, "offline", name=None, job_type="evaluate", resumed=True)
        run.summarise({f"evaluation/{clips}": 0.7})
        run.close()
        sent(tmp_path)
    run = wandb_server.runs["r1"]
    names = ("val_macro_f1", "parameters", "evaluation/100", "evaluation/200")
    assert [run.summary[name] for name in names] == [0.9, 9, 0.7, 0.7]
    assert (run.job_type, run.steps()) == ("train", [1, 2])


@pytest.mark.parametrize("call", ["file_stream", "upload"])
def test_an_upload_that_was_cut_short_is_completed_and_replaces_nothing(
    call: str, wandb_server: WandbServer, tmp_path: Path
) -> None:
    begun_elsewhere(tmp_path)
    run = opened(tmp_path, "offline", name=None, job_type="evaluate", resumed=True, config={"c": 2})
    run.summarise({"evaluation/macro_f1": 0.7})
    run.table("instruments", ["code"], [["cel"]])
    run.page("report", lambda: "<b>page</b>")
    run.close()
    asked = wandb_server.calls(call)
    wandb_server.faults = [Fault(hang=True, only={call})]
    uploads.begin_all(run_files(tmp_path))
    until = time.monotonic() + 20
    while wandb_server.calls(call) == asked and time.monotonic() < until:
        time.sleep(0.02)
    cut_short = uploads.wait(1)
    wandb.teardown()
    assert all(upload.ended.wait(20) for upload in cut_short)  # No longer held, as by a process.
    vars(uploads).update(vars(Uploads()))  # of the next command
    wandb_server.faults = []
    sent(tmp_path)
    run = wandb_server.runs["r1"]
    assert (run.values["a"], run.values["c"]) == ({"b": 1}, 2)
    names = ("val_macro_f1", "parameters", "evaluation/macro_f1")
    assert [run.summary[name] for name in names] == [0.9, 9, 0.7]
    assert run.steps() == [1, 2]
    assert [row["_step"] for row in run.history] == [1, 2, 3, 4]
    assert "instruments" in run.history[-2]
    assert "report" in run.history[-1]


def test_a_training_that_is_uploaded_after_its_evaluation_replaces_nothing_of_that(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    run = opened(tmp_path / "a", "offline", tags=["t"])
    for epoch in (1.0, 2.0, 3.0):
        run.log({"epoch": epoch, "val_macro_f1": 0.5})
    run.close()
    run = opened(tmp_path / "b", "offline", name=None, job_type="evaluate", resumed=True)
    run.summarise({"evaluation/macro_f1": 0.7})
    run.table("instruments", ["code"], [["cel"]])
    run.page("report", lambda: "<b>page</b>")
    run.close()
    sent(tmp_path / "b")
    sent(tmp_path / "a")
    run = wandb_server.runs["r1"]
    assert (run.display_name, run.job_type, run.tags) == ("the run", "train", ["t"])
    assert run.values["command"].keys() == {"train", "evaluate"}
    assert (run.summary["val_macro_f1"], run.summary["evaluation/macro_f1"]) == (0.5, 0.7)
    assert {"instruments", "report"} < run.summary.keys()
    assert run.steps() == [1, 2, 3]
    assert [row["_step"] for row in run.history] == [0, 1, 2, 3, 4]


def test_an_evaluation_online_keeps_one_that_was_made_elsewhere(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    for directory, clips in (("a", 0), ("b", 100), ("a", 200)):
        new = {"name": "the run", "job_type": "train"}
        old = {"name": None, "job_type": "evaluate", "resumed": True}
        with awaiting_uploads(30):
            run = opened(tmp_path / directory, **(old if clips else new))
            run.summarise({f"evaluation/{clips}": 0.7})
            run.close()
    summary = wandb_server.runs["r1"].summary
    assert {"evaluation/0", "evaluation/100", "evaluation/200"} <= summary.keys()


def test_the_summary_of_a_sweep_that_goes_on_elsewhere_adds_to_the_earlier_one(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    for directory in ("a", "b"):
        with awaiting_uploads(30):
            run = opened(tmp_path / directory, job_type="sweep")
            run.table("leaderboard", ["trial"], [[directory]])
            run.summarise({directory: 1})
            run.close()
    run = wandb_server.runs["r1"]
    assert {"a", "b"} < run.summary.keys()
    assert [row["_step"] for row in run.history] == [0, 1]


def test_evaluations_that_were_made_at_the_same_time_are_all_there(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    run = opened(tmp_path / "0", "offline")
    run.log({"epoch": 1.0})
    run.close()
    for name in "12":  # Both know of the training only.
        shutil.copytree(tmp_path / "0", tmp_path / name)
    for name in "12":
        run = opened(tmp_path / name, "offline", name=None, job_type="evaluate", resumed=True)
        run.table(f"instruments {name}", ["code"], [["cel"]])
        run.close()
        for made in run_files(tmp_path / name)[1:]:
            made.parent.rename(tmp_path / "0" / "wandb" / f"{made.parent.name}-{name}")
    sent(tmp_path / "0")
    run = wandb_server.runs["r1"]
    assert {"instruments 1", "instruments 2"} < run.summary.keys()
    assert [row["_step"] for row in run.history] == [1, 2, 3]


def test_a_training_elsewhere_goes_on_after_the_epochs_that_the_run_has(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    begun_elsewhere(tmp_path)
    run = opened(tmp_path, resumed=True)
    for epoch, value in ((1.0, 0.9), (2.0, 0.8), (3.0, 0.7)):  # The checkpoint has them all.
        run.log({"epoch": epoch, "val_macro_f1": value})
    with awaiting_uploads(30):
        run.close()
    run = wandb_server.runs["r1"]
    assert run.steps() == [1, 2, 3]
    assert run.summary["val_macro_f1"] == 0.9
    assert run.state == "finished"


def test_a_resumed_run_that_the_server_has_nothing_of_is_sent_whole(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    with awaiting_uploads(30):
        run = opened(tmp_path, resumed=True)  # Its process was killed before it had a file.
        run.log({"epoch": 1.0})
        run.close()
    run = wandb_server.runs["r1"]
    assert (run.display_name, run.job_type) == ("the run", "train")
    assert (run.steps(), run.state) == ([1], "finished")


def test_files_of_artifacts_are_found_where_a_run_was_moved_and_else_named(
    wandb_server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path / "a", "offline")
    run.uses_features({"store": "0123456789abcdef"})
    run.table("instruments", ["code"], [["cel"]])
    run.close()
    (tmp_path / "a").rename(tmp_path / "b")
    sent(tmp_path / "b")
    collections = {one.collection for one in wandb_server.artifacts}
    assert collections == {"features-0123456789ab", "run-r1-instruments"}
    (file,) = run_files(tmp_path / "b")
    wandb_server.reset()
    file.with_suffix(SENT).unlink()
    shutil.rmtree(file.parent / "artifacts")
    sent(tmp_path / "b")
    assert not wandb_server.artifacts
    assert "instruments" in wandb_server.runs["r1"].summary
    told = capsys.readouterr().err
    assert "W&B: artifact features-0123456789ab is not uploaded: " in told
