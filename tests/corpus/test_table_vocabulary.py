"""The instruments that a table of clips names make a recipe."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from irmas_dist.cli.main import run
from irmas_dist.config.recipe import load_recipe
from irmas_dist.corpus.manifest import read_manifest
from irmas_dist.corpus.table_vocabulary import table_vocabulary
from irmas_dist.errors import IrmasError


def table(folder: Path, text: str) -> str:
    (folder / "clips.csv").write_text(text)
    return str(folder / "clips.csv")


def test_the_columns_that_hold_labels_are_instruments(tmp_path: Path) -> None:
    found = table_vocabulary(
        table(tmp_path, "file,oud,part,ney,take,start,rating,empty\n"
              "a.wav,1,training,?,a,0,5,\nb.wav,0,testing,0.5,b,1,1,?\n"),
        {"path": "file", "nay": "ney"},
        soft=True,
    )  # fmt: skip
    assert found.vocabulary.codes == ("oud", "nay")
    assert found.others == {
        "take": f"{tmp_path}/clips.csv, line 2: 'a' is no label (1, 0 or ?)",
        "rating": f"{tmp_path}/clips.csv, line 2: '5' is no label (1, 0 or ?)",
        "empty": "nothing is known of any clip",
    }


def test_shares_are_labels_where_these_may_be_soft(tmp_path: Path) -> None:
    path = table(tmp_path, "path,oud,tempo\na.wav,1,0.7\nb.wav,0,1\n")
    assert table_vocabulary(path, soft=True).vocabulary.codes == ("oud", "tempo")
    found = table_vocabulary(path)
    assert found.vocabulary.codes == ("oud",)
    assert found.others == {
        "tempo": f"{path}, line 2: '0.7' is neither 0 nor 1; --soft takes values between these"
    }


def test_a_mistake_in_a_column_of_labels_is_refused(tmp_path: Path) -> None:
    """It would leave out an instrument."""
    path = table(tmp_path, "path,kick,snare\na.wav,1,0\nb.wav,x,1\nc.wav,0,1\n")
    refusal = r"line 3: 'x' is no label .*, in the column 'kick', which has labels otherwise"
    with pytest.raises(IrmasError, match=refusal):
        table_vocabulary(path)


def test_the_codes_of_one_column_are_instruments(tmp_path: Path) -> None:
    path = table(
        tmp_path, "path,instruments,other\na.wav,oud|ney,1\nb.wav,?,0\nc.wav,ney|bağlama,1\n"
    )
    assert table_vocabulary(path).vocabulary.codes == ("bağlama", "ney", "oud")


@pytest.mark.parametrize("cell", ["kick,snare", "kick; snare"])
def test_codes_that_something_else_separates_are_refused(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path, f'path,instruments\na.wav,kick\nb.wav,"{cell}"\nc.wav,"{cell}"\n')
    with pytest.raises(IrmasError, match=rf"line 3, column 'instruments': '{cell}' .* by \|"):
        table_vocabulary(path)


def test_a_table_without_instruments_is_refused_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match=r"names no instrument; take: .*line 2: 'a' is no label"):
        table_vocabulary(table(tmp_path, "path,take\na.wav,a\n"))


def test_index_writes_the_recipe_and_uses_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000)
    path = table(tmp_path, "path,oud,ney,take\na.wav,0.8,?,x\nb.wav,0,1,y\n")
    recipe, out = tmp_path / "mine.yaml", tmp_path / "m.parquet"
    assert run(["index", "--table", path, "--vocabulary-from-table", str(recipe), "--soft", "--out",
                str(out)]) == 0  # fmt: skip
    said = capfd.readouterr().err
    assert "column 'take'" in said
    assert said.endswith("oud, ney\n")
    assert load_recipe(recipe).corpus.instruments == {"oud": "oud", "ney": "ney"}
    row = read_manifest(out).to_pylist()[0]
    assert (row["instruments"], row["unknown"]) == (["oud"], ["ney"])
    again = ["index", "--table", path, "--vocabulary-from-table", str(recipe), "--soft"]
    assert run([*again, "--out", str(out)]) == 0
    recipe.write_text(recipe.read_text() + "validation: {mixed: false}\n")
    assert run([*again, "--out", str(out)]) == 1
    assert recipe.read_text().endswith("validation: {mixed: false}\n")
    both = ["--vocabulary-from-table", str(recipe), "--config", str(recipe)]
    assert run(["index", "--table", path, *both]) == 2


@pytest.mark.parametrize(
    ("recipe", "why"),
    [("", "is a directory: name a file"), ("a.wav/mine.yaml", "cannot be written")],
)
def test_a_recipe_that_cannot_be_written_is_refused_before_the_audio_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recipe: str, why: str
) -> None:
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000)
    path, out = table(tmp_path, "path,oud\na.wav,1\n"), tmp_path / "m.parquet"
    given = ["--vocabulary-from-table", str(tmp_path / recipe), "--out", str(out)]
    assert run(["index", "--table", path, *given]) == 1
    said = capfd.readouterr().err
    assert why in said
    assert "index:" not in said
    assert not out.exists()


def test_what_no_table_could_have_is_no_code(tmp_path: Path) -> None:
    listed = table(tmp_path, "path,instruments\na.wav,kick|?\n")
    with pytest.raises(IrmasError, match=r"column 'instruments': '\?' cannot be the code"):
        table_vocabulary(listed)
    pq.write_table(
        pa.table({"path": ["a"], "kick": [1], " bell": [1], "a|b": [0]}), tmp_path / "t.pq"
    )
    found = table_vocabulary(str(tmp_path / "t.pq"))
    assert found.vocabulary.codes == ("kick",)
    assert set(found.others) == {" bell", "a|b"}


def test_a_column_in_whose_place_another_is_taken_is_no_instrument(tmp_path: Path) -> None:
    found = table_vocabulary(table(tmp_path, "path,kick,x\na.wav,1,0\n"), {"kick": "x"})
    assert found.vocabulary.codes == ("kick",)
    assert found.others == {"kick": "--column kick=x takes another for it"}


def test_codes_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    codes = "path,instruments\na.wav,Piano|violin\nb.wav,piano\n"
    columns = "path,Piano,violin,piano\na.wav,1,0,0\nb.wav,0,0,1\n"
    for text in (codes, columns):
        with pytest.raises(IrmasError, match="'Piano' and 'piano' differ in case alone"):
            table_vocabulary(table(tmp_path, text))
