"""Evaluating and comparing scores of any model from the command line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irmas_dist.cli.main import run
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.instruments import IRMAS

FOREST = Path(__file__).parents[1] / "evaluation" / "data" / "forest_testing.parquet"
Ended = tuple[int, str, str]


@pytest.fixture
def irmas(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ended]:
    """Run a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run_line(*arguments: object) -> Ended:
        return run([str(argument) for argument in arguments]), *capfd.readouterr()

    return run_line


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


@pytest.fixture(scope="module")
def forest() -> Scores:
    return read_scores(FOREST)


def chosen(scores: Scores, clips: Any, values: np.ndarray | None = None) -> Scores:
    values = scores.scores if values is None else values
    return Scores(
        [scores.clip_ids[i] for i in clips], [scores.parts[i] for i in clips],
        [scores.groups[i] for i in clips], scores.labels[clips],
        values[clips].astype(np.float32), IRMAS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def thinned(forest: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of every fifth clip of the forest, which are evaluated five times as fast."""
    path = tmp_path_factory.mktemp("thinned") / "thinned.parquet"
    write_scores(path, chosen(forest, range(0, len(forest.clip_ids), 5)))
    return path


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
    assert max(map(len, out.splitlines()[:40])) <= 100
    for word in ("protocol: validation", "cross-validated", "oracle", "Han et al. 2016", "0.602"):
        assert word in out
    assert "validation: thresholds chosen without any test data: 0.14, chosen beforehand" in out


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
    assert "not cross-validated" in found["notes"][0]


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
        (f"path,{','.join(IRMAS.codes)}\n", None, "scores.csv contains no scores"),
        (f"path,{','.join(IRMAS.codes)}\na,1\n", None, "line 2: not as many values as columns"),
        (b"path\xff", None, "is not CSV in UTF-8"),
        (None, "path,instruments\nPart1/song a-1.wav,kazoo\n", "has no scores for"),
        (None, "path,label\n", "labels.csv has no column 'instruments'"),
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


def test_an_unknown_instrument_among_the_labels_is_named(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores, labels = few(tmp_path)
    labels.write_text(labels.read_text().replace("gac", "kazoo"))
    code, _, err = irmas("evaluate", "--scores", scores, "--labels", labels)
    assert code == 1
    assert "labels.csv: unknown instrument 'kazoo'" in err


def test_a_part_of_irmas_does_not_pass_for_all_of_it(
    irmas: Callable[..., Ended], forest: Scores, tmp_path: Path
) -> None:
    path = forest_csv(tmp_path / "forest.csv", forest)
    path.write_text("\n".join(path.read_text().splitlines()[:100]))
    code, _, err = irmas("evaluate", "--scores", path)
    assert code == 1
    assert "has no scores for 2,775 of the 2,874 clips of IRMAS" in err


def test_models_are_compared_song_by_song(
    irmas: Callable[..., Ended], thinned: Path, tmp_path: Path
) -> None:
    scores = read_scores(thinned)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=scores.scores.shape)
    for name, size in (("worse", 0.1), ("alike", 0.001)):
        values = np.clip(scores.scores + size * noise, 0, 1)
        # The order of clips does not matter.
        shuffled = chosen(scores, rng.permutation(len(values)), values)
        write_scores(tmp_path / f"{name}.parquet", shuffled)
    code, out, err = irmas("compare", thinned, "worse.parquet", "alike.parquet", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["protocol"] == "cross-validated"
    by_pair = {
        (Path(row["first"]).stem, Path(row["second"]).stem): row
        for row in found["differences"]
        if row["metric"] == "lrap"
    }
    assert by_pair["thinned", "worse"]["real"]
    assert by_pair["thinned", "worse"]["difference"] > 0
    assert by_pair["worse", "alike"]["difference"] < 0
    assert not by_pair["thinned", "alike"]["real"]
    low, high = by_pair["thinned", "alike"]["interval"]
    assert low <= 0 <= high

    code, out, _ = irmas("compare", thinned, "worse.parquet", "--protocol", "oracle")
    assert code == 0
    assert "A less B" in out
    assert "oracle: thresholds fitted to the test itself" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.clip_ids.__setitem__(3, "another"), "other.parquet has no score for"),
        (lambda s: s.labels.__setitem__((3, 0), 1 - s.labels[3, 0]), "label "),
    ],
)
def test_models_of_other_clips_are_not_compared(
    irmas: Callable[..., Ended], tmp_path: Path, change: Callable[[Scores], Any], message: str
) -> None:
    scores = read_scores(FOREST)
    scores = chosen(scores, range(len(scores.clip_ids)))
    change(scores)
    write_scores(tmp_path / "other.parquet", scores)
    code, out, err = irmas("compare", FOREST, "other.parquet")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    code, _, err = irmas("compare", FOREST, FOREST)
    assert (code, "is named twice" in err) == (1, True)
    code, _, err = irmas("compare", FOREST, "other.parquet", "--protocol", "validation")
    assert code == 1


@pytest.fixture(scope="module")
def models(forest: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two model directories that have been evaluated; what scored is not in them."""
    from irmas_dist.config.features import LogMelSettings
    from irmas_dist.config.model import ModelSettings
    from irmas_dist.instruments import IRMAS_INSTRUMENTS
    from irmas_dist.training.model_directory import (
        ModelDescription,
        Normalisation,
        ScoringWindows,
        write_description,
    )

    root = tmp_path_factory.mktemp("models")
    for name, threshold in (("good", 0.14), ("shy", 0.4)):
        description = ModelDescription(
            instruments=IRMAS_INSTRUMENTS,
            features=LogMelSettings(),
            normalisation=Normalisation(mean=(0.0,), std=(1.0,)),
            model=ModelSettings(),
            parameters=1,
            windows=ScoringWindows(frames=43, hop_frames=21, aggregation="mean"),
            thresholds=dict.fromkeys(IRMAS.codes, threshold),
            thresholds_from="500 mixtures",
            recipe={"thresholds": {"rule": "global"}},
            data={},
            versions={},
            history=[{"epoch": 1, "val_loss": 0.5}],
            best_epoch=1,
            scores={},
        )
        write_description(root / name, description)
        write_scores(
            root / name / "scores.parquet", chosen(forest, range(0, len(forest.clip_ids), 5))
        )
    return root


def test_models_are_compared_by_the_thresholds_they_came_with(
    irmas: Callable[..., Ended], models: Path
) -> None:
    code, out, err = irmas("compare", models / "good", models / "shy", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["protocol"] == "validation"
    by_metric = {row["metric"]: row for row in found["differences"]}
    assert by_metric["micro_f1"]["real"]
    assert by_metric["lrap"]["difference"] == 0
    assert not by_metric["lrap"]["real"]


def test_a_model_that_was_not_evaluated_is_not_compared(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.json").write_bytes((models / "good" / "model.json").read_bytes())
    code, _, err = irmas("compare", models / "good", "new")
    assert code == 1
    assert "new has not been evaluated: run 'irmas evaluate new' first" in err


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
    assert "thresholds chosen without any test data (500 mixtures" in text
    assert "Loss over the epochs" in text
    assert "most frequent few" in text


def test_scores_without_a_model_have_a_report_as_well(
    irmas: Callable[..., Ended], thinned: Path
) -> None:
    code, out, err = irmas("report", "--scores", thinned, "--threshold", 0.14, "--out", "p.html")
    assert (code, out) == (0, "p.html\n"), err
    assert "0.14, chosen beforehand" in Path("p.html").read_text()
    assert irmas("report", "--scores", thinned)[0] == 2
