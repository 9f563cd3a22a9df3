"""Evaluating scores of any model, and reports on them, from the command line."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.instruments import IRMAS, UNKNOWN, Vocabulary
from tests.cli.conftest import Ended


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def forest_csv(path: Path, scores: Scores, values: np.ndarray | None = None) -> Path:
    values = scores.scores if values is None else values
    rows = [
        [f"{clip}.wav", *row] for clip, row in zip(scores.clip_ids, values.tolist(), strict=True)
    ]
    return write_csv(path, ["path", *IRMAS.codes], rows)


def few(tmp_path: Path, scores: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """Scores and labels of six excerpts of three songs."""
    paths = [f"Part1/song {song}-{excerpt}.wav" for song in "abc" for excerpt in (1, 2)]
    values = {"path": paths} | {code: [0.5] * 6 for code in IRMAS.codes} | (scores or {})
    rows = [list(row) for row in zip(*values.values(), strict=True)]
    labels = [[path, "pia|voi" if "1." in path else "gac"] for path in paths]
    return (
        write_csv(tmp_path / "scores.csv", list(values), rows),
        write_csv(tmp_path / "labels.csv", ["path", "instruments"], labels),
    )


def test_scores_of_irmas_stand_beside_baselines_and_published_results(
    irmas: Callable[..., Ended], forest: Scores, tmp_path: Path
) -> None:
    # Composed and decomposed names, and any order: all the same clips.
    path = forest_csv(tmp_path / "forest.csv", forest)
    code, out, err = irmas("evaluate", "--scores", path, "--threshold", 0.14, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["protocol"] == "validation"
    assert list(found["protocols"]) == ["validation", "cross-validated", "oracle"]
    assert (found["clips"], found["songs"]) == (2874, 208)
    assert found["metrics"]["micro_f1"] == pytest.approx(0.4607, abs=5e-5)
    low, high = found["intervals"]["micro_f1"]
    assert 0.41 < low < 0.44 < 0.48 < high < 0.51
    assert found["baselines"]["every instrument"] == pytest.approx(
        {"protocol": "validation", "micro_f1": 0.2692, "macro_f1": 0.2502}, abs=5e-5
    )
    assert found["baselines"]["most frequent one"]["micro_f1"] == pytest.approx(0.268, abs=5e-4)
    assert found["baselines"]["one right per clip"]["micro_f1"] == pytest.approx(0.738, abs=5e-4)
    swept = [work for work in found["published"] if work["protocol"] == "oracle"]
    assert [work["micro_f1"] for work in swept] == [0.674]
    oracle, honest = (found["protocols"][name]["metrics"] for name in ("oracle", "cross-validated"))
    assert oracle["macro_f1"] >= honest["macro_f1"]

    code, out, _ = irmas("evaluate", "--scores", path, "--threshold", 0.14)
    assert code == 0
    lines = out.splitlines()[:40]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    intervals = re.findall(r"(?<=│ )\.\d{3}-\.\d{3}(?= │)", out)
    assert len(intervals) == 3 * 3  # of three protocols and metrics
    for word in ("protocol: validation", "cross-validated", "oracle", "Han et al. 2016", "0.602"):
        assert word in out
    assert "validation: thresholds chosen before the test: 0.14, chosen beforehand" in out


def openmic_scores(path: Path) -> Scores:
    """Scores of 400 clips of 80 artists, in each of which two instruments are known."""
    rng = np.random.default_rng(0)
    labels = np.full((400, 20), UNKNOWN, np.int8)
    for clip in labels:
        clip[rng.choice(20, 2, replace=False)] = rng.integers(0, 2, 2)
    values = (0.3 * (labels == 1) + 0.7 * rng.random(labels.shape)).astype(np.float32)
    names = [f"audio/000/{number:06d}_0" for number in range(400)]
    groups = [f"artist {number // 5}" for number in range(400)]
    scores = Scores(names, ["testing"] * 400, groups, labels, values, OPENMIC)
    write_scores(path, scores)
    return scores


def test_scores_of_openmic_stand_beside_its_published_results_by_its_protocol(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores = openmic_scores(tmp_path / "scores.parquet")
    code, out, err = irmas("evaluate", "--scores", "scores.parquet", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found["protocols"]) == ["fixed", "cross-validated", "oracle"]
    expected = {"f1": [], "ap": []}
    for column in range(20):
        known = scores.labels[:, column] != UNKNOWN
        label, score = scores.labels[known, column], scores.scores[known, column]
        expected["f1"].append(f1_score(label, score >= 0.5))
        expected["ap"].append(average_precision_score(label, score))
    assert found["metrics"]["macro_f1"] == pytest.approx(np.mean(expected["f1"]))
    assert found["metrics"]["map"] == pytest.approx(np.mean(expected["ap"]))
    assert {row["threshold"] for row in found["per_instrument"]} == {0.5}
    works = {work["work"]: work for work in found["published"]}
    assert works["Koutini et al. 2022"]["map"] == 0.843
    assert works["Chong et al. 2022"]["source"] == "arXiv:2204.12768"

    code, out, _ = irmas("evaluate", "--scores", "scores.parquet")
    assert code == 0
    for text in ("mAP", "0.843", "fixed: 0.5 for every instrument", "400 clips of 80 artists"):
        assert text in out
    assert "published: on OpenMIC-2018's 5,085 test clips; not comparable on others" in out
    assert "Han et al." not in out


def test_scores_of_other_instruments_stand_beside_no_published_results(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    names = [f"audio/{number}" for number in range(40)]
    labels = np.arange(80).reshape(40, 2).astype(np.int8) // 2 % 2
    kicks = Vocabulary.of({"kick": "kick drum", "snare": "snare drum"})
    values = labels * np.float32(0.9)
    write_scores(
        tmp_path / "drums.parquet", Scores(names, ["testing"] * 40, names, labels, values, kicks)
    )
    code, out, _ = irmas("evaluate", "--scores", "drums.parquet")
    assert code == 0
    assert "published" not in out
    assert "40 clips of 40 songs" in out


def test_without_thresholds_of_their_own_scores_are_cross_validated(
    irmas: Callable[..., Ended], thinned: Path
) -> None:
    code, out, _ = irmas("evaluate", "--scores", thinned, "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found["protocols"]) == ["cross-validated", "oracle"]
    assert {row["threshold"] for row in found["per_instrument"]} == {None}


def test_thresholds_are_fitted_to_mixtures_of_single_label_scores(
    irmas: Callable[..., Ended], thinned: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(11, dtype=np.uint8).repeat(30, axis=0)
    values = (labels * 0.5 + 0.5 * rng.random(labels.shape)).astype(np.float32)
    names = [f"IRMAS-TrainingData/{number}" for number in range(330)]
    held_out = Scores(names, ["training"] * 330, names, labels, values, IRMAS)
    write_scores(tmp_path / "held-out.parquet", held_out)
    code, out, err = irmas(
        "evaluate", "--scores", thinned, "--fit-on", "held-out.parquet", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["protocol"] == "validation"
    assert found["thresholds_from"] == "mixed scores of the 330 clips of held-out.parquet"
    # At the single-label clips everything from 0.5 up is right; halves of mixtures are lower.
    assert found["per_instrument"][0]["threshold"] < 0.5


def test_few_songs_are_evaluated_without_cross_validation_with_a_note(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores, labels = few(tmp_path)
    code, out, _ = irmas("evaluate", "--scores", scores, "--labels", labels, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["protocol"], found["clips"], found["songs"]) == ("oracle", 6, 3)
    assert "cannot be cross-validated" in found["notes"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pia": [0.5] * 5 + ["nan"]}, "line 7: the score of pia is 'nan'"),
        ({"pia": [1.5] + [0.5] * 5}, "line 2: the score of pia is '1.5'"),
        ({"pia": [""] + [0.5] * 5}, "line 2: the score of pia is ''"),
        ({"kazoo": [0.5] * 6}, "column 'kazoo' is no instrument; these are cel, "),
        ({"path": ["Part1/song a-1.wav"] * 6}, "line 3: 'Part1/song a-1' is listed twice"),
        ({"path": [f"{n}.wav" for n in range(6)]}, "'0' is not in "),
    ],
)
def test_scores_that_cannot_be_used(
    irmas: Callable[..., Ended], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    scores, labels = few(tmp_path, change)
    code, out, err = irmas("evaluate", "--scores", scores, "--labels", labels)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ("", None, "scores.csv has no column 'path'"),
        ("path,cel\n", None, "scores.csv has no column 'cla'"),
        ("path,flute\n", None, "vio, voi; name the recipe of other instruments with --config"),
        (f"path,{','.join(IRMAS.codes)}\n", None, "scores.csv contains no scores"),
        (f"path,{','.join(IRMAS.codes)}\na,1\n", None, "line 2: not as many values as columns"),
        (b"path\xff", None, "is not CSV in UTF-8"),
        (None, "path,instruments\nPart1/song a-1.wav,pia\n", "has no scores for"),
        (None, "path,label\n", "labels.csv has neither a column 'instruments' nor one for cel"),
        (None, "path,instruments\na,pia\na.wav,pia\n", "labels.csv, line 3: 'a' is listed twice"),
    ],
)
def test_files_that_cannot_be_used(
    irmas: Callable[..., Ended],
    tmp_path: Path,
    scores: str | bytes | None,
    labels: str | None,
    message: str,
) -> None:
    files = few(tmp_path)
    for path, content in zip(files, (scores, labels), strict=True):
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = irmas("evaluate", "--scores", files[0], "--labels", files[1])
    assert (code, out, err.count("\n")) == (1, "", 1)
    if "has no scores for" in message:  # the labels lack the other five, which is reported first
        message = "is not in "
    assert message in err


def test_settings_without_an_effect_on_scores_are_refused(
    irmas: Callable[..., Ended], thinned: Path
) -> None:
    given = ("evaluate", "--scores", thinned)
    refusal = irmas(*given, "--config", "openmic").refusal(2)
    assert f"{thinned}: its instruments are cel, " in refusal
    assert "those of the recipe accordion, " in refusal
    families = ("--set", "corpus.families={guitar: [gac, gel]}")
    assert "families count with --at family alone" in irmas(*given, *families).refusal(2)
    for applicable in ((*families, "--at", "family"), ("--set", "thresholds.rule=global")):
        assert irmas(*given, *applicable).code == 0


def test_an_unknown_instrument_among_the_labels_is_named(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores, labels = few(tmp_path)
    labels.write_text(labels.read_text().replace("gac", "kazoo"))
    code, _, err = irmas("evaluate", "--scores", scores, "--labels", labels)
    assert code == 1
    assert "labels.csv, line 3, column 'instruments': 'kazoo' is no instrument of cel" in err


def test_a_part_of_irmas_does_not_pass_for_all_of_it(
    irmas: Callable[..., Ended], forest: Scores, tmp_path: Path
) -> None:
    path = forest_csv(tmp_path / "forest.csv", forest)
    path.write_text("\n".join(path.read_text().splitlines()[:100]))
    code, _, err = irmas("evaluate", "--scores", path)
    assert code == 1
    assert "has no scores for 2,775 of the 2,874 clips of IRMAS" in err


def test_the_report_of_a_model_has_players_for_what_lies_in_the_tree(
    irmas: Callable[..., Ended], models: Path, forest: Scores, tmp_path: Path
) -> None:
    import soundfile

    for clip_id in forest.clip_ids[::5]:
        path = tmp_path / "tree" / f"{clip_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(800), 8_000)
    page = tmp_path / "page.html"
    code, _, err = irmas("report", models / "good", "--tree", tmp_path / "tree", "--out", page)
    assert code == 0, err
    text = page.read_text()
    assert text.count("<audio controls") == 10
    assert "thresholds chosen before the test (500 mixtures" in text
    assert "Loss over the epochs" in text
    assert "most frequent instruments" in text


def test_scores_without_a_model_have_a_report_as_well(
    irmas: Callable[..., Ended], thinned: Path
) -> None:
    code, out, err = irmas("report", "--scores", thinned, "--threshold", 0.14, "--out", "p.html")
    assert (code, out) == (0, "p.html\n"), err
    assert "0.14, chosen beforehand" in Path("p.html").read_text()
    assert irmas("report", "--scores", thinned)[0] == 2


OWN = "corpus: {instruments: {kick: kick drum, snare: snare drum}}\n"


def own_scores(tmp_path: Path) -> None:
    """Scores, labels and a recipe of one's own instruments."""
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "labels.csv").write_text("path,instruments\na-1,kick\nb-1,snare\nc-1,kick|snare\n")
    for name in ("one", "two"):
        rows = "a-1,0.9,0\nb-1,0,0.9\nc-1,0.9,0.9\n"
        (tmp_path / f"{name}.csv").write_text(f"path,kick,snare\n{rows}")


def test_scores_of_own_instruments_have_a_report(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    own_scores(tmp_path)
    files = ("--scores", "one.csv", "--labels", "labels.csv", "--out", "p.html")
    assert "has no column 'cel'" in irmas("report", *files).refusal()
    assert irmas("report", *files, "--config", "own.yaml").code == 0
    assert "snare drum" in Path("p.html").read_text()
    ended = irmas("report", "model", "--config", "own.yaml")
    assert (ended.code, "leave out --config and --set" in ended.err) == (2, True)
