"""The command render: options, and what it prints."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from irmas_dist.cli import main
from irmas_dist.rendering.twin import RECORD
from tests.cli.conftest import Ended
from tests.corpus.catalogues import write_catalogue


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--twin irmas --recordings 3", "'--recordings': a twin has as many as its data set"),
        ("--songs 3 --catalogue .", "'--songs': a twin has as many as its data set"),
        ("--clips 3 --twin irmas", "'--clips': a twin has"),
        ("--twin openmic --excerpts 3", "'--excerpts': a twin has"),
        ("--twin openmic --catalogue .", "--catalogue: a twin of OpenMIC-2018 has none"),
        ("--fraction 0.1", "'--fraction': only a twin has fractions"),
        ("--twin irmas --fraction 1.1", "'--fraction': "),
    ],
)
def test_options_that_do_not_go_together(
    options: str, message: str, tmp_path: Path, irmas: Callable[..., Ended]
) -> None:
    assert message in irmas("render", "out", *options.split()).refusal(2)
    assert not (tmp_path / "out").exists()


def test_a_twin_is_rendered_and_its_missing_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path / "logs"))
    pytest.importorskip("symusic")
    pytest.importorskip("pretty_midi")
    catalogue = write_catalogue(tmp_path / "catalogue")
    out = tmp_path / "out"
    command = ["render", str(out), "--catalogue", str(catalogue), "--workers", "1"]
    assert main.run([*command, "--json"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["training_files"], summary["testing_files"]) == (4, 3)
    assert json.loads((out / RECORD).read_text())["seed"] == 0

    assert main.run(command) == 0
    text = capfd.readouterr().out
    assert "existing: 7 files" in text
    assert "4 training clips and 3 test excerpts" in text
