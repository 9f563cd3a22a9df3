"""No stage writes into the directory of another's result."""

from pathlib import Path

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.storage.results import (
    BEGUN_FILE,
    FILES,
    RESULTS,
    SCORES_FILE,
    STORE_FILE,
    SWEEP_FILE,
    VALIDATION_FILE,
    directory_name,
    refuse_other_results,
    refuse_result_file,
)


@pytest.mark.parametrize("there", RESULTS)
@pytest.mark.parametrize("own", RESULTS)
def test_only_a_directory_of_the_same_stage_is_written_again(
    own: str, there: str, tmp_path: Path
) -> None:
    (tmp_path / there).touch()
    if own == there:
        refuse_other_results(str(tmp_path), own)
    else:
        with pytest.raises(IrmasError, match=f"holds {RESULTS[there]}: name another directory"):
            refuse_other_results(str(tmp_path), own)


def test_the_files_are_those_that_stages_write() -> None:
    names = (STORE_FILE, store.REJECTS, VALIDATION_FILE, SCORES_FILE, BEGUN_FILE, SWEEP_FILE)
    assert set(names) < set(FILES)


@pytest.mark.parametrize("name", [pattern.replace("*", "00007") for pattern in FILES])
@pytest.mark.parametrize("stage", [*RESULTS, "begun.json"])
@pytest.mark.parametrize("relative", [False, True])
def test_no_file_is_written_that_would_be_taken_for_one_of_a_result(
    name: str, stage: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = name if relative else str(tmp_path / name)
    refuse_result_file(path)  # Nothing here says that it is more than a name.
    Path(stage).touch()
    with pytest.raises(IrmasError, match=f"{name} would be taken for a file of a.*: name another"):
        refuse_result_file(path)
    refuse_result_file("predictions.parquet")
    refuse_result_file("-")


@pytest.mark.parametrize("out", ["runs/all", "runs/all/", "runs/all/.", "s3://b/runs/all", "."])
def test_a_directory_has_its_name_however_it_is_written(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all").mkdir()
    monkeypatch.chdir(tmp_path / "all")
    assert directory_name(out) == "all"
