"""The record of a sweep keeps what it takes to resume it, and no password."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space
from irmas_dist.search.sweep_directory import (
    holds_same,
    make_record,
    read_record,
    study_location,
    trials_root,
    write_record,
)
from irmas_dist.storage.results import SWEEP_FILE
from irmas_dist.training.records import FurtherRecord, StartRecord, ValidationRecord
from tests.records import DATA

JUDGE = ValidationRecord(manifest="1", features="2", store="3", part="testing", clips=9)
FURTHER = FurtherRecord(
    manifest="1", features="2", store="3", weight=1, training_clips=9, left_out=0
)


def test_passwords_of_databases_are_used_and_not_written(space: Space, tmp_path: Path) -> None:
    with_password = "postgresql://ada:geheim@db/x"
    settings = SweepSettings(study=with_password, warm_start=f"{with_password}#first")
    record = make_record(tmp_path, Recipe(), space, settings, DATA)
    assert study_location(tmp_path, record) == with_password
    write_record(tmp_path, record)
    assert "geheim" not in (tmp_path / "sweep.json").read_text()
    read = read_record(tmp_path).settings
    assert (read.study, read.warm_start) == (
        "postgresql://ada@db/x",
        "postgresql://ada@db/x#first",
    )
    assert holds_same(tmp_path, Recipe(), space, settings)


def test_the_directory_of_runs_is_found_from_anywhere(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = make_record(tmp_path, Recipe(), space, SweepSettings(), DATA)
    assert record.tracking.directory == str(tmp_path / "runs")
    write_record(tmp_path, record)
    monkeypatch.chdir("/")
    recipe, _ = read_record(tmp_path).load("the test")
    again = make_record(tmp_path, recipe, space, SweepSettings(), DATA, resume=True)
    assert again.tracking.directory == str(tmp_path / "runs")


def test_the_same_sweep_may_be_logged_in_another_way_and_from_another_directory(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path, make_record(tmp_path, Recipe(), space, SweepSettings(), DATA))
    monkeypatch.chdir("/")
    offline = build_recipe(Recipe().model_dump(), {"tracking.mode": "offline"}, "the test")
    assert holds_same(tmp_path, offline, space, SweepSettings())
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    began = SweepSettings(warm_start="study.db#first")
    write_record(other, make_record(other, Recipe(), space, began, DATA))
    monkeypatch.chdir(other)
    assert holds_same(other, Recipe(), space, SweepSettings(warm_start="../study.db#first"))
    again = make_record(tmp_path, offline, space, SweepSettings(), DATA, resume=True)
    assert (again.tracking.mode, again.tracking.directory) == ("offline", str(tmp_path / "runs"))


def test_a_copy_of_a_sweep_is_not_resumed_beside_it(space: Space, tmp_path: Path) -> None:
    first, copy, moved = (tmp_path / name for name in ("first", "copy", "moved"))
    first.mkdir()
    settings = SweepSettings()
    write_record(first, make_record(first, Recipe(), space, settings, DATA))
    shutil.copytree(first, copy)
    (tmp_path / "link").symlink_to(first)
    for out in (first, tmp_path / "link"):
        make_record(out, Recipe(), space, settings, DATA, resume=True)
    with pytest.raises(IrmasError, match=f"{copy} is a copy of the sweep {first}, and new trials"):
        make_record(copy, Recipe(), space, settings, DATA, resume=True)
    first.rename(moved)
    write_record(moved, make_record(moved, Recipe(), space, settings, DATA, resume=True))
    assert read_record(moved).place == str(moved)


def test_a_resumed_sweep_still_says_what_it_began_with(space: Space, tmp_path: Path) -> None:
    warm = SweepSettings(warm_start="earlier.db")
    write_record(tmp_path, make_record(tmp_path, Recipe(), space, warm, DATA))
    again = make_record(tmp_path, Recipe(), space, SweepSettings(), DATA, resume=True)
    write_record(tmp_path, again)
    assert holds_same(tmp_path, Recipe(), space, warm)


def test_studies_and_checkpoints_are_found_from_anywhere(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for study in ("own.db", "own.log", "sqlite:///own.db", "postgresql://host/own"):
        settings = SweepSettings(study=study, storage="trials")
        record = make_record(tmp_path / "swept", Recipe(), space, settings, DATA)
        path = study if "host" in study else study.replace("own", f"{tmp_path}/own")
        assert study_location(tmp_path / "swept", record) == path
        assert trials_root(tmp_path / "swept", record).startswith(f"{tmp_path}/trials/")


def test_sweeps_with_one_storage_have_checkpoints_of_their_own(
    space: Space, tmp_path: Path
) -> None:
    """Both count their trials from 0."""
    settings = SweepSettings(storage="s3://bucket/trials")
    roots = [
        trials_root(tmp_path / name, make_record(tmp_path / name, Recipe(), space, settings, DATA))
        for name in ("first", "second")
    ]
    assert len(set(roots)) == 2
    assert all(root.startswith("s3://bucket/trials/") for root in roots)


def test_a_record_that_was_edited_is_refused_or_has_defaults(space: Space, tmp_path: Path) -> None:
    record = make_record(tmp_path, Recipe(), space, SweepSettings(), DATA)
    write_record(tmp_path, record)
    content = json.loads((tmp_path / SWEEP_FILE).read_text())
    del content["recipe"]["tracking"]
    (tmp_path / SWEEP_FILE).write_text(json.dumps(content))
    assert read_record(tmp_path).tracking == TrackingSettings()
    make_record(tmp_path, Recipe(), space, SweepSettings(), DATA, resume=True)
    (tmp_path / SWEEP_FILE).write_text(json.dumps(content | {"identity": "zz"}))
    with pytest.raises(IrmasError, match="identity: string should match"):
        read_record(tmp_path)


@pytest.mark.parametrize("out", [".", "../swept", "swept/.."])
def test_a_sweep_is_named_like_its_directory_however_that_is_written(
    out: str, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swept" / "swept").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "swept")
    record = make_record(Path(out), Recipe(), space, SweepSettings(), DATA)
    assert record.name == record.group == "swept"


@pytest.mark.parametrize(("given", "group"), [(None, "swept"), ("mine", "mine")])
def test_runs_are_grouped_by_the_sweep_s_name_unless_told(
    given: str | None, group: str, space: Space, tmp_path: Path
) -> None:
    recipe = build_recipe(Recipe().model_dump(), {"tracking.group": given}, "the test")
    record = make_record(tmp_path / "swept", recipe, space, SweepSettings(), DATA)
    assert record.group == group


@pytest.mark.parametrize(
    ("earlier", "now", "message"),
    [
        (
            {"validated_on": (JUDGE,), "validation_clips": 9},
            {"validation_mixtures": 40},
            "a sweep with --validate-on: resume it with the same",
        ),
        (
            {},
            {"also": (FURTHER,), "training_clips": 69},
            "a sweep without --also: resume it with the same",
        ),
        (
            {"init": StartRecord(weights="a", data=DATA)},
            {"init": StartRecord(weights="b", data=DATA)},
            "a sweep with other --init: resume it with the same",
        ),
        (
            {"store": "a"},
            {"store": "b", "also": (FURTHER,)},
            "a sweep of other features; choose another",
        ),
    ],
)
def test_a_sweep_is_resumed_with_the_data_that_it_has(
    earlier: dict[str, Any], now: dict[str, Any], message: str, space: Space, tmp_path: Path
) -> None:
    had, has = (DATA.model_copy(update=changes) for changes in (earlier, now))
    write_record(tmp_path, make_record(tmp_path, Recipe(), space, SweepSettings(), had))
    with pytest.raises(IrmasError, match=message):
        make_record(tmp_path, Recipe(), space, SweepSettings(), has, resume=True)
    make_record(tmp_path, Recipe(), space, SweepSettings(), had, resume=True)
