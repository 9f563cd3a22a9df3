"""A sweep is reviewed in optuna-dashboard; its offline runs are uploaded to W&B."""

import threading
import urllib.request
from pathlib import Path

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.search import review, sweep_directory
from tests.browser import dom, needs_chromium
from tests.search.conftest import write_sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("review") / "swept")


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


def test_errors_of_a_review_are_reported_in_one_line(
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
    with pytest.raises(IrmasError, match="W&B needs an API key"):
        review.sync(swept)
