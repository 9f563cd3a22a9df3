"""No stage writes into the directory of another's result."""

from pathlib import Path

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.storage.results import FILES, RESULTS, refuse_other_results, refuse_result_file


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


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("relative", [False, True])
def test_no_file_of_a_result_is_replaced_by_a_file_of_another_kind(
    name: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = name if relative else str(tmp_path / name)
    refuse_result_file(path)  # There is none.
    Path(path).touch()
    if name not in RESULTS:
        refuse_result_file(path)  # Nothing here says that it is more than a name.
    Path("model.json").touch()
    with pytest.raises(IrmasError, match=f"{name} belongs to a .*: name another file"):
        refuse_result_file(path)
    Path("notes.csv").touch()
    refuse_result_file("notes.csv")
