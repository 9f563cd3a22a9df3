"""The page of a sweep says what its study says, and advises what the trials support."""

import re
import threading
import urllib.request
from itertools import islice, product
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.reports.sweep_page import write_sweep_page
from irmas_dist.search import review, sweep_directory
from irmas_dist.search.next_space import Advice, advise, narrowed
from irmas_dist.search.searcher import StudySearcher
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import importances, list_trials
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, TRIAL
from irmas_dist.training.learner import SELECTED_BY
from tests.browser import LOOKS, dom, measure, needs_chromium
from tests.search.conftest import ENTRIES, make_study


def fill(study: optuna.Study, space: Space, count: int) -> None:
    """Add trials that are good when the learning rate is near 3e-3 and the head pools."""
    searcher = StudySearcher(study, space, "a", count + 2, [])
    for number in range(count):
        drawn = searcher.suggest("t")
        value = 0.7 - abs(drawn["training.lr"] - 3e-3) * 50 - 0.2 * (drawn["model.head"] != "max")
        for epoch in (1, 2, 3):
            result = {SELECTED_BY: max(value * epoch / 3, 0.01), EPOCH: epoch, "time_total_s": 2.0}
            stopped = number % 4 == 3 and epoch == 2
            if stopped or epoch == 3:
                searcher.on_trial_complete("t", result | {FINISHED: not stopped})
                break
            searcher.on_trial_result("t", result)
    searcher.suggest("bad")
    searcher.on_trial_complete("bad", {FAILED: "the loss became <nan>", SELECTED_BY: float("nan")})
    assert searcher.suggest("cut")[TRIAL]["number"] == count + 1  # and is never told of


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = build_space(ENTRIES, Recipe(), "the test")
    out = tmp_path_factory.mktemp("report") / "swept"
    out.mkdir()
    recipe = Recipe.model_validate({"tracking": {"directory": str(out)}})
    made = sweep_directory.begin(
        out, recipe, space, SweepSettings(), {"manifest": "", "features": ""}
    )
    sweep_directory.write_record(out, made)
    fill(make_study(space, f"sqlite:///{out}/study.db", "swept", "random"), space, 24)
    return out


def test_the_page_needs_nothing_else_and_names_every_trial_that_failed(
    swept: Path, tmp_path: Path
) -> None:
    write_sweep_page(swept, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "the loss became &lt;nan&gt;" in page
    assert page.count("<polyline") >= 24  # parallel coordinates, and as many curves
    for name in ("model.head", "model.dense", "augment.mix.counts", "training.lr"):
        assert f"<figcaption>{name}</figcaption>" in page
    assert "interrupted" in page


LABELS = """({
  charts: document.querySelectorAll("svg").length,
  outside: [...document.querySelectorAll("svg text")].filter(text => {
    const mine = text.getBoundingClientRect();
    const all = text.ownerSVGElement.getBoundingClientRect();
    return mine.left < all.left - 1 || mine.right > all.right + 1 || mine.bottom > all.bottom + 1;
  }).map(text => text.textContent),
})"""


@needs_chromium
@pytest.mark.parametrize(("width", "scheme", "background"), LOOKS)
def test_the_page_in_a_browser(
    swept: Path, tmp_path: Path, width: int, scheme: str, background: str
) -> None:
    write_sweep_page(swept, tmp_path / "page.html")
    measured = measure(tmp_path / "page.html", tmp_path, width, scheme, LABELS)
    assert measured["overflow"] <= 0
    assert measured["fetched"] == []
    assert measured["background"] == background
    assert measured["charts"] == 3 + len(ENTRIES)
    assert measured["outside"] == []


def test_advice_names_the_good_part_of_a_range(space: Space) -> None:
    study = make_study(space, None, sampler="random")
    fill(study, space, 60)
    rows = list_trials(study, space)
    advice = {item.name: item for item in advise(rows, space, importances(study))}
    better = advice["training.lr"].entry
    assert better is not None
    assert 1e-4 < better["low"] < 3e-3 < better["high"] < 1e-2
    assert advise(rows[:4], space, {}) == []


NESTED = {
    "training.schedule": {"type": "categorical", "choices": ["constant", "cosine", "plateau"]},
    "training.weight_decay": {
        "type": "float", "low": 1e-5, "high": 0.1, "log": True,
        "when": {"training.schedule": ["cosine", "plateau"]},
    },
    "model.blocks": {"type": "int", "low": 2, "high": 4},
    "model.width": {
        "type": "int", "low": 8, "high": 32, "step": 8,
        "when": {"model.blocks": [2, 3], "training.schedule": "plateau"},
    },
    "model.dense": {"type": "int", "low": 32, "high": 64, "when": {"model.width": [16, 32]}},
    "augment.mix.counts": {"type": "categorical", "choices": [[1], [2, 1], [1, 1, 1]]},
    "augment.mix.level_db": {
        "type": "float", "low": 0.0, "high": 9.0,
        "when": {"augment.mix.counts": [[2, 1], [1, 1, 1]]},
    },
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_space_to_search_next_is_a_space_however_entries_were_fixed_or_narrowed(
    data: st.DataObject,
) -> None:
    space = build_space(NESTED, Recipe(), "the test")
    advice = []
    for name, entry in NESTED.items():
        choices = entry.get("choices") or [entry["low"], entry["high"]]
        what = data.draw(st.sampled_from(["as it is", "fixed", "narrowed"]))
        if what == "fixed":
            advice.append(Advice(name, "", None, data.draw(st.sampled_from(choices))))
        elif what == "narrowed" and "choices" in entry:
            kept = data.draw(st.lists(st.sampled_from(choices), min_size=2, unique_by=str))
            advice.append(Advice(name, "", {"type": "categorical", "choices": kept}, None))
        elif what == "narrowed" and name == "model.blocks":
            advice.append(Advice(name, "", {"type": "int", "low": 3, "high": 4}, None))
    fixed = {item.name: item.value for item in advice if item.entry is None}
    content = narrowed(space, advice).describe()
    assert not content.keys() & fixed.keys()
    if not content:
        return
    following = build_space(content, build_recipe(Recipe().model_dump(), fixed, "fixed"), "next")
    grid = {name: entry.samples() for name, entry in following.entries.items()}
    for values in islice(product(*grid.values()), 200):
        drawn = as_drawn(fixed | dict(zip(grid, values, strict=True)))
        for name, entry in space.entries.items():
            # Under the same values it is searched, or not, as before.
            if name in following.entries and entry.when.keys() <= drawn.keys():
                assert following.entries[name].holds(drawn) == entry.holds(drawn)


def as_drawn(values: dict[str, Any]) -> dict[str, Any]:
    """Lists as a space draws them."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def test_a_page_of_a_sweep_without_results_is_written(space: Space, tmp_path: Path) -> None:
    made = sweep_directory.begin(tmp_path, Recipe(), space, SweepSettings(), {})
    sweep_directory.write_record(tmp_path, made)
    make_study(space, f"sqlite:///{tmp_path}/study.db", made.name)
    write_sweep_page(tmp_path, tmp_path / "report.html")
    assert "No trial has come to a result yet" in (tmp_path / "report.html").read_text()


def test_the_dashboard_shows_the_study_on_this_machine_only(swept: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="install the extra 'review'")
    with review.dashboard(swept, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}/api/studies"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b'"swept"' in answer.read()


@needs_chromium
def test_the_dashboard_in_a_browser(swept: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="install the extra 'review'")
    with review.dashboard(swept, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            shown = dom(f"http://127.0.0.1:{server.server_port}/dashboard/", tmp_path)
        finally:
            server.shutdown()
    assert "swept" in shown


def test_what_cannot_be_reviewed_is_said_in_one_line(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IrmasError, match="is not a sweep"), review.dashboard(tmp_path, 0):
        pass
    identity = sweep_directory.read_record(swept).identity
    (swept / "wandb" / "offline-run-1-ofanothersweep").mkdir(parents=True)
    with pytest.raises(IrmasError, match="no offline runs in"):
        review.sync(swept)
    (swept / "wandb" / f"offline-run-1-{identity}-0001").mkdir()
    monkeypatch.setattr("wandb.login", lambda prompt: False)
    with pytest.raises(IrmasError, match="W&B wants a key"):
        review.sync(swept)


def test_only_one_driver_is_at_work_in_a_directory(tmp_path: Path) -> None:
    assert not sweep_directory.is_driven(tmp_path)
    with sweep_directory.only_driver(tmp_path):
        assert sweep_directory.is_driven(tmp_path)
        with (
            pytest.raises(IrmasError, match="another process is at work"),
            sweep_directory.only_driver(tmp_path),
        ):
            pass
    assert not sweep_directory.is_driven(tmp_path)
