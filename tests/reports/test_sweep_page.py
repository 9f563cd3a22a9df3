"""The page of a sweep shows the trials of its study, and needs no other file."""

import re
from pathlib import Path

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.reports import sweep_page
from irmas_dist.reports.sweep_page import write_sweep_page
from irmas_dist.search import sweep_directory
from irmas_dist.search.space import build_space
from irmas_dist.training.records import ValidationRecord
from tests.browser import LOOKS, measure, needs_chromium
from tests.records import DATA
from tests.search.conftest import ENTRIES, make_study, write_sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("report") / "swept")


def test_the_page_is_self_contained_and_names_every_failed_trial(
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


def test_the_page_says_what_trials_were_judged_by(swept: Path, tmp_path: Path) -> None:
    record = sweep_directory.read_record(swept)
    judge = ValidationRecord(**record.data.model_dump(include={"manifest", "features", "store"}),
                             part="testing", clips=9)  # fmt: skip
    judges = record.data.model_copy(update={"validated_on": (judge,)})
    settings = record.settings.model_copy(update={"against": "latency"})
    for data, told in ((record.data, "mixtures of held-out training clips"),
                       (judges, "clips of a store to validate on")):  # fmt: skip
        changed = record.model_copy(update={"data": data, "settings": settings})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sweep_page, "read_record", lambda _, found=changed: found)
            write_sweep_page(swept, tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert f"Macro F1 is that of {told}, with thresholds fitted to them." in page
        assert "<th>latency (ms)</th>" in page


def test_the_page_says_which_instruments_are_never_predicted_or_never_known(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "ap": 0.0, "threshold": float(NEVER)}
    rows = [{"name": "cello", "known": 9, **figures}, {"name": "voice", "known": 0, **figures}]
    best = {"number": 0, "value": 0.5, "seconds": 1, "values": {}, "instruments": rows}
    monkeypatch.setattr(sweep_page, "best_row", lambda _: best)
    write_sweep_page(swept, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<th>cello</th><td>0.000</td>" in page
    assert '<th>voice</th><td colspan="4">known in no clip</td>' in page
    assert page.count("<td>never predicted</td>") == 2


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


def test_a_sweep_without_results_has_a_page(tmp_path: Path) -> None:
    space = build_space(ENTRIES, Recipe(), "the test")
    made = sweep_directory.make_record(tmp_path, Recipe(), space, SweepSettings(), DATA)
    sweep_directory.write_record(tmp_path, made)
    make_study(space, f"sqlite:///{tmp_path}/study.db", made.name)
    write_sweep_page(tmp_path, tmp_path / "report.html")
    assert "No trial has a result yet" in (tmp_path / "report.html").read_text()
