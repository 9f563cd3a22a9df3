"""Indexing OpenMIC-2018: its tables become labels, parts and groups, or one line of refusal."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.openmic import LABELS, METADATA, OPENMIC, PARTITIONS
from irmas_dist.corpus.openmic_labels import find_openmic
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from tests.corpus.trees import wav

TRAIN, TEST = PARTITIONS.values()
HEADER = "sample_key,instrument,relevance,num_responses\n"
ROWS = (
    "000046_3840,guitar,0.5,3\n"
    "000046_3840,voice,0.49995,3\n"
    "000135_483840,piano,1.0,117\n"
    "142968_0,mallet_percussion,0.0,1\n"
)


def write(root: Path, **tables: str) -> Path:
    """Write a data set of three clips, two of them of one artist; tables by their short names."""
    texts = {
        LABELS: HEADER + ROWS,
        TRAIN: "000046_3840\n000135_483840\n",
        TEST: "142968_0\n",
        METADATA: (
            "track_id,artist_id,artist_name,sample_key,start_time\n"
            '46,4,"Andrews, ""Nicky""\nand others",000046_3840,3.84\n'
            "135,4,Andrews,000135_483840,483.84\n"
            "142968,,,142968_0,0.0\n"
        ),
    }
    names = {"labels": LABELS, "train": TRAIN, "test": TEST, "metadata": METADATA}
    texts |= {names[name]: text for name, text in tables.items()}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("OpenMIC") / "openmic-2018")
    for seed, key in enumerate(("000046_3840", "000135_483840", "142968_0")):
        wav(root / "audio" / key[:3] / f"{key}.ogg", seed)
    (root / "license-cc-by.txt").write_text("Attribution 4.0\nto give voice\n")
    return root


def by_key(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["clip_id"].rpartition("/")[2]: row for row in rows}


def clips_of(root: Path, vocabulary: Vocabulary = OPENMIC) -> dict[str, dict[str, Any]]:
    found = find_openmic(root, vocabulary)
    assert found
    return by_key(list(found.clips.values()))


# What the tables say


def test_a_tree_has_labels_parts_and_groups_from_its_tables(data_set: Path) -> None:
    rows = by_key(index_tree(data_set, OPENMIC))
    assert {
        key: (row["part"], row["instruments"], row["problem"]) for key, row in rows.items()
    } == {
        "000046_3840": ("training", ["guitar"], None),
        "000135_483840": ("training", ["piano"], None),
        "142968_0": ("testing", [], None),
    }
    assert [row["group"] for row in rows.values()] == ["artist 4", "artist 4", "recording 142968"]
    assert set(rows["000046_3840"]["unknown"]) == {*OPENMIC.codes} - {"guitar", "voice"}
    assert set(rows["142968_0"]["unknown"]) == {*OPENMIC.codes} - {"mallet_percussion"}
    assert all(row["md5"] and row["duration_s"] > 0 for row in rows.values())


def test_the_folder_may_lie_below_the_tree_and_the_part_is_its_own(
    data_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = index_tree(data_set.parent, OPENMIC)
    assert {row["clip_id"] for row in rows} == {
        "openmic-2018/audio/000/000046_3840",
        "openmic-2018/audio/000/000135_483840",
        "openmic-2018/audio/142/142968_0",
    }
    assert by_key(rows)["142968_0"]["part"] == "testing"
    capfd.readouterr()
    with pytest.raises(IrmasError, match=r"is of clips with a label file: .* has none"):
        index_tree(data_set.parent, OPENMIC, part="training")
    assert "index:" not in capfd.readouterr().err
    # Nor has what nobody has labelled a part.
    shutil.copytree(data_set, tmp_path / data_set.name)
    wav(tmp_path / "notes.wav")
    with pytest.raises(IrmasError, match=r"is of clips with a label file: .* has none"):
        index_tree(tmp_path, OPENMIC, part="training")


def test_the_last_of_several_rows_counts_and_a_line_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path, labels=f"{HEADER}{ROWS}000046_3840,guitar,0.2,3\n")
    assert clips_of(root)["000046_3840"]["instruments"] == []
    assert "1 labels are stated again further down; the last counts" in capfd.readouterr().err


def test_a_vocabulary_may_have_some_of_the_instruments_and_others(tmp_path: Path) -> None:
    few = Vocabulary.of({"voice": "voice", "harp": "harp"})
    clips = clips_of(write(tmp_path), few)
    assert clips["000046_3840"]["instruments"] == []
    assert clips["000046_3840"]["unknown"] == ["harp"]
    assert clips["000135_483840"]["unknown"] == ["voice", "harp"]


def test_without_the_table_of_artists_each_recording_is_a_group(tmp_path: Path) -> None:
    (write(tmp_path) / METADATA).unlink()
    assert {clip["group"] for clip in clips_of(tmp_path).values()} == {
        *("recording 000046", "recording 000135", "recording 142968")
    }


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 999_999), st.sampled_from(OPENMIC.codes)),
        st.floats(0, 1),
        min_size=1,
        max_size=20,
    )
)
def test_every_label_is_known_as_its_relevance_says_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, known: dict[tuple[int, str], float]
) -> None:
    keys = {number: f"{number:06d}_{number % 7 * 3840}" for number, _ in known}
    rows = [f"{keys[number]},{code},{value!r},3" for (number, code), value in known.items()]
    root = write(
        tmp_path_factory.mktemp("any"),
        labels=HEADER + "\n".join(rows),
        train="\n".join(sorted(keys.values())),
        test="",
    )
    clips = clips_of(root)
    assert clips.keys() == set(keys.values())
    for key, clip in clips.items():
        of_clip = {code: value for (n, code), value in known.items() if keys[n] == key}
        assert set(clip["instruments"]) == {code for code, v in of_clip.items() if v >= 0.5}
        assert set(clip["unknown"]) == {*OPENMIC.codes} - of_clip.keys()


# Files and rows that do not go together


def test_audio_without_labels_and_labels_without_audio_have_a_row(
    data_set: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(data_set, root)
    (root / "audio" / "142" / "142968_0.ogg").rename(root / "audio" / "142" / "142969_0.ogg")
    (root / TRAIN).write_text("000046_3840\n000099_1\n")
    rows = by_key(index_tree(root, OPENMIC))
    assert {key: row["problem"] for key, row in rows.items()} == {
        "000046_3840": None,
        "000099_1": f"no row in {LABELS}",
        "000135_483840": f"in none of {TRAIN}, {TEST}",
        "142968_0": "labels without audio",
        "142969_0": f"no row in {LABELS}",
    }
    assert rows["142968_0"]["path"] == str(root / "audio" / "142" / "142968_0.ogg")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"labels": f"{HEADER}{ROWS}000046_3840,gitar,1,3\n"},
            f"{LABELS}, line 6, column 'instrument': 'gitar' is none of accordion, banjo",
        ),
        (
            {"labels": f"{HEADER}000046_3840,guitar,1.2,3\n"},
            f"{LABELS}, line 2, column 'relevance': '1.2' is no number from 0 to 1",
        ),
        (
            {"labels": f"{HEADER}000046_3840,guitar,,3\n"},
            f"{LABELS}, line 2, column 'relevance': '' is no number from 0 to 1",
        ),
        (
            {"labels": f"{HEADER}46_3840,guitar,1,3\n"},
            f"{LABELS}, line 2, column 'sample_key': '46_3840' is no key such as 000046_3840",
        ),
        ({"labels": "sample_key,instrument\n"}, f"{LABELS} has no column 'relevance'"),
        ({"train": "sample_key\n"}, f"{TRAIN}, line 1: 'sample_key' is no key such as 000046_3840"),
        (
            {"test": "142968_0\n\n000046_3840\n"},
            f"{TEST}, line 3: '000046_3840' is in ROOT/{TRAIN}, line 1 too",
        ),
        ({"metadata": "track_id,sample_key\n"}, f"{METADATA} has no column 'artist_id'"),
    ],
)
def test_a_wrong_table_is_refused_with_line_and_column(
    tables: dict[str, str], message: str, tmp_path: Path
) -> None:
    write(tmp_path, **tables)
    with pytest.raises(IrmasError) as caught:
        find_openmic(tmp_path, OPENMIC)
    assert message.replace("ROOT", str(tmp_path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_partition_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / TEST).unlink()
    with pytest.raises(IrmasError, match="split01_test"):
        find_openmic(tmp_path, OPENMIC)


def test_a_data_set_without_its_labels_is_refused(tmp_path: Path) -> None:
    """As one that is still downloaded or rendered."""
    (write(tmp_path / "openmic-2018") / LABELS).unlink()
    for tree in (tmp_path, tmp_path / "openmic-2018"):
        with pytest.raises(IrmasError, match=f"is OpenMIC-2018, and lacks {LABELS}"):
            find_openmic(tree, OPENMIC)
    (tmp_path / "other" / "openmic-2018" / "audio").mkdir(parents=True)
    with pytest.raises(IrmasError, match=f"is OpenMIC-2018, and lacks {LABELS}"):
        find_openmic(tmp_path / "other", OPENMIC)


def test_a_vocabulary_of_other_instruments_is_refused_with_the_recipe_that_fits(
    tmp_path: Path,
) -> None:
    with pytest.raises(IrmasError, match="is OpenMIC-2018 and none of its instruments"):
        find_openmic(write(tmp_path), IRMAS)


def test_another_tree_is_not_taken_for_it(tmp_path: Path) -> None:
    assert find_openmic(tmp_path, IRMAS) is None
