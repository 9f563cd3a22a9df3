"""No stage writes into the directory of another's result."""

from pathlib import Path

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.storage.results import RESULTS, refuse_other_results


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
