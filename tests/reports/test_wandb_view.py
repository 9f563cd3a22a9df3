"""The saved view of a sweep in W&B shows its trials and what they tell."""

import json
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.reports.wandb_view import try_to_save
from irmas_dist.search.sweep_directory import read_record
from irmas_dist.tracking.outcome import afterwards, awaiting_uploads
from irmas_dist.tracking.start import start_run
from tests.search.conftest import ENTRIES, write_sweep
from tests.wandb_server import Fault, WandbServer


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("view") / "it's <a> = sweep!")


@pytest.fixture
def view(swept: Path, wandb_server: WandbServer) -> dict[str, Any]:
    """The view as the server has it."""
    for made in swept.glob("wandb-view.json"):
        made.unlink()
    address = try_to_save(swept)
    (saved,) = wandb_server.views
    assert address is not None
    assert address.startswith(f"{wandb_server.url}/tester/irmas-dist?nw=")
    assert not wandb_server.unknown
    return saved


def panels(view: dict[str, Any]) -> list[dict[str, Any]]:
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_it_has_parallel_coordinates_of_what_is_searched(view: dict[str, Any]) -> None:
    (panel,) = [one for one in panels(view) if one["viewType"] == "Parallel Coordinates Plot"]
    shown = {column["accessor"] for column in panel["config"]["columns"]}
    searched = {"config:{}.value.{}".format(*name.split(".", 1)) for name in ENTRIES}
    assert shown == {*searched, "summary:val_macro_f1"}


def test_it_has_importances_and_curves_of_the_top_trials(view: dict[str, Any]) -> None:
    (importance,) = [one for one in panels(view) if one["viewType"] == "Parameter Importance"]
    assert importance["config"]["targetKey"] == "val_macro_f1"
    curves = [one["config"] for one in panels(view) if one["viewType"] == "Run History Line Plot"]
    assert "val_macro_f1" in [metric for curve in curves for metric in curve["metrics"]]
    assert {(curve["xAxis"], curve["limit"]) for curve in curves} == {("epoch", 10)}


def test_its_table_has_the_sweep_s_runs_the_best_first(view: dict[str, Any], swept: Path) -> None:
    (runs,) = view["spec"]["section"]["runSets"]
    (found,) = runs["filters"]["filters"]
    assert (found["key"]["name"], found["value"]) == ("group", read_record(swept).group)
    (order,) = runs["sort"]["keys"]
    assert (order["key"]["name"], order["ascending"]) == ("val_macro_f1", False)


def test_it_is_saved_once(swept: Path, view: dict[str, Any], wandb_server: WandbServer) -> None:
    address = try_to_save(swept)
    assert len(wandb_server.views) == 1
    assert address == json.loads((swept / "wandb-view.json").read_text())["url"]


def test_a_view_that_is_refused_is_one_line(
    swept: Path, wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for made in swept.glob("wandb-view.json"):
        made.unlink()
    wandb_server.faults = [Fault(status=403, only={"UpsertView2"})]
    assert try_to_save(swept) is None
    assert capsys.readouterr().err.count("W&B: the sweep's view is not saved") == 1


def test_it_is_saved_after_the_uploads_and_shown(
    swept: Path,
    tmp_path: Path,
    wandb_server: WandbServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with awaiting_uploads(30):
        tracking = TrackingSettings(directory=str(tmp_path))
        start_run(tracking, name="x", job_type="sweep", config={}, run_id="x").close()
        afterwards.append(lambda: try_to_save(swept))
        assert not wandb_server.views
    assert "W&B: 1 run uploaded http" in capsys.readouterr().err
