"""Comparing models and scores from the command line."""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.instruments import UNKNOWN
from tests.cli.conftest import FOREST, Ended, chosen
from tests.cli.test_scores import own_scores


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
    assert {one["protocol"] for one in found["models"].values()} == {"cross-validated"}
    by_pair = {
        (Path(row["first"]).stem, Path(row["second"]).stem): row
        for row in found["differences"]
        if row["metric"] == "lrap"
    }
    assert by_pair["thinned", "worse"]["significant"]
    assert by_pair["thinned", "worse"]["difference"] > 0
    assert by_pair["worse", "alike"]["difference"] < 0
    assert not by_pair["thinned", "alike"]["significant"]
    low, high = by_pair["thinned", "alike"]["interval"]
    assert low <= 0 <= high

    code, out, _ = irmas("compare", thinned, "worse.parquet", "--protocol", "oracle")
    assert code == 0
    assert "A - B" in out
    assert "oracle: thresholds fitted to the test itself" in out


def test_of_one_song_there_is_no_interval_and_no_p_value(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores = read_scores(FOREST)
    one = replace(chosen(scores, range(6)), groups=["a song"] * 6)
    write_scores(tmp_path / "one.parquet", one)
    write_scores(tmp_path / "other.parquet", replace(one, scores=1 - one.scores))
    found = json.loads(
        irmas("compare", "one.parquet", "other.parquet", "--protocol=fixed", "--json").out
    )
    rows = {(row["interval"], row["p"], row["significant"]) for row in found["differences"]}
    assert rows == {(None, None, False)}
    out = irmas("compare", "one.parquet", "other.parquet", "--protocol=fixed").out
    assert "6 clips of 1 song; no intervals; no p: of so few songs, none could be below 0.05" in out
    assert "p <" not in out

    found = json.loads(irmas("evaluate", "--scores", "one.parquet", "--json").out)
    assert found["intervals"] == {}
    assert {row["f1_low"] for row in found["per_instrument"]} == {None}
    assert "all clips are of one song: figures have no intervals" in found["notes"]
    out = irmas("evaluate", "--scores", "one.parquet").out
    assert "95 % intervals" not in out


def test_more_models_than_letters_are_told_apart(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    scores = read_scores(FOREST)
    few = chosen(scores, np.arange(20), scores.scores)
    names = [f"{number}.parquet" for number in range(28)]
    for name in names:
        write_scores(tmp_path / name, few)
    code, out, err = irmas("compare", *names, "--protocol", "fixed")
    assert (code, err) == (0, "")
    assert "Z: 25.parquet\nAA: 26.parquet\nAB: 27.parquet\n" in out
    assert "AA - AB" in out


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
    for again in (FOREST, f"{FOREST.parent}/./{FOREST.name}"):
        code, _, err = irmas("compare", "other.parquet", FOREST, again)
        assert (code, f"{FOREST} is named twice" in err) == (2, True)
    code, _, err = irmas("compare", FOREST, "other.parquet", "--protocol", "validation")
    assert code == 1


@pytest.mark.parametrize("recipe", [[], ["--set", "thresholds.rule=per_instrument"]])
def test_thresholds_are_fitted_as_evaluate_fits_them(
    irmas: Callable[..., Ended], tmp_path: Path, recipe: list[str]
) -> None:
    scores = read_scores(FOREST)
    few = chosen(scores, range(0, len(scores.clip_ids), 50))
    write_scores(tmp_path / "few.parquet", few)
    write_scores(tmp_path / "other.parquet", few)
    alone = json.loads(irmas("evaluate", "--scores", "few.parquet", "--json", *recipe).out)
    options = ("few.parquet", "other.parquet", "--protocol=oracle", *recipe)
    found = json.loads(irmas("compare", *options, "--json").out)
    assert found["fitted"] == alone["fitted"]
    assert found["models"]["few.parquet"]["metrics"] == alone["protocols"]["oracle"]["metrics"]
    words = "per instrument" if recipe else "global"
    meant = f"oracle: thresholds fitted to the test itself ({words}, for macro F1)"
    for command in (("compare", *options), ("evaluate", "--scores", "few.parquet", *recipe)):
        assert meant in irmas(*command).out


def test_models_are_compared_by_thresholds_fitted_as_their_recipe_says(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path
) -> None:
    options = ("--protocol=oracle", "--json")
    # How far thresholds trust validation is no rule of fitting to other clips.
    for name, evidence in (("good", 0.5), ("shy", 0.9)):
        recipe = {"thresholds": {"rule": "per_instrument", "evidence": evidence}}
        alter(shutil.copytree(models / name, tmp_path / name), recipe=recipe)
    found = json.loads(irmas("compare", "good", "shy", *options).out)
    assert found["fitted"] == "per instrument, for macro F1"
    # Where they differ, as for scores.
    found = json.loads(irmas("compare", "good", models / "shy", *options).out)
    assert found["fitted"] == "global, for macro F1"


def test_models_are_compared_by_the_thresholds_they_came_with(
    irmas: Callable[..., Ended], models: Path
) -> None:
    code, out, err = irmas("compare", models / "good", models / "shy", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {one["protocol"] for one in found["models"].values()} == {"validation"}
    by_metric = {row["metric"]: row for row in found["differences"]}
    assert by_metric["micro_f1"]["significant"]
    assert by_metric["lrap"]["difference"] == 0
    assert not by_metric["lrap"]["significant"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--labels labels.csv", "all of these have labels of their own"),
        ("--set thresholds.rule=global", "thresholds.rule=global: no thresholds are fitted by the"),
        ("--config irmas", "--config irmas: no thresholds are fitted by the protocol val"),
        (
            "--set 'corpus.families={guitar: [gac, gel]}' --protocol oracle",
            "all of these have instruments of their own",
        ),
        ("--set thresholds.rule=global --protocol fixed", "are fitted by the protocol fixed"),
        ("--config openmic --protocol oracle", "and those of the recipe accordion, "),
    ],
)
def test_an_option_without_an_effect_on_a_comparison_is_refused(
    irmas: Callable[..., Ended], models: Path, options: str, reason: str
) -> None:
    ended = irmas("compare", models / "good", models / "shy", *shlex.split(options))
    assert reason in ended.refusal(2)


def test_a_model_that_was_not_evaluated_is_not_compared(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.json").write_bytes((models / "good" / "model.json").read_bytes())
    code, _, err = irmas("compare", models / "good", "new")
    assert code == 1
    assert "new has not been evaluated: first run irmas evaluate new" in err


def test_models_are_compared_by_the_figures_of_their_data_set(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, UNKNOWN], (60, 20), p=[0.3, 0.2, 0.5])
    few = chosen(read_scores(FOREST), range(60))
    for name in ("a", "b"):
        values = rng.random(labels.shape).astype(np.float32)
        scores = replace(few, vocabulary=OPENMIC, labels=labels.astype(np.int8), scores=values)
        write_scores(tmp_path / f"{name}.parquet", scores)
    ended = irmas("compare", "a.parquet", "b.parquet", "--protocol", "fixed")
    assert "LRAP" not in ended.out
    assert "permutation test over artists" in ended.out


def test_scores_of_own_instruments_are_compared(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    own_scores(tmp_path)
    options = ("--labels", "labels.csv", "--protocol", "oracle", "--json")
    assert "has no column 'cel'" in irmas("compare", "one.csv", "two.csv", *options).refusal()
    ended = irmas("compare", "one.csv", "two.csv", *options, "--config", "own.yaml")
    assert json.loads(ended.out)["clips"] == 3, ended.err


def alter(model: Path, **values: Any) -> None:
    """Change values in a model.json."""
    path = model / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_scores_of_an_earlier_state_of_a_model_are_not_compared(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path
) -> None:
    """Thresholds that are fitted again need no new scores; another aggregation does."""
    other = shutil.copytree(models / "good", tmp_path / "other")
    content = json.loads((other / "model.json").read_text())
    alter(other, thresholds=content["thresholds"] | {"cel": 0.5})
    assert irmas("compare", models / "good", "other")[0] == 0
    alter(other, windows=content["windows"] | {"aggregation": "max"})
    for command in (("compare", models / "good", "other"), ("report", "other")):
        code, _, err = irmas(*command)
        assert code == 1
        assert (
            "other windows or aggregation: run irmas evaluate other --features FEATURES again"
            in err
        )


@pytest.mark.parametrize("protocol", ["", "--protocol=validation", "--protocol=adapted"])
def test_adapted_models_are_named_beside_others(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path, protocol: str
) -> None:
    listened = shutil.copytree(models / "shy", tmp_path / "listened")
    alter(listened, adapted={"to": "audio", "clips": 60})
    scores = replace(read_scores(listened / "scores.parquet"), adapted_to="audio")
    write_scores(listened / "scores.parquet", scores)
    options = [protocol] if protocol else []
    _, out, _ = irmas("compare", models / "good", "listened", *options)
    out = " ".join(out.split())  # Lines wrap where the folder's name is long.
    assert "A: validation: thresholds chosen before the test" in out
    assert "B: listened, adapted to audio" in out
    assert "B: adapted: thresholds chosen without test labels" in out


def test_scores_of_an_adapted_model_say_so_without_it(
    irmas: Callable[..., Ended], models: Path, tmp_path: Path
) -> None:
    scores = read_scores(models / "good" / "scores.parquet")
    found = tmp_path / "found.parquet"
    write_scores(found, replace(scores, adapted_to="audio", scored_by="0123"))
    _, out, _ = irmas("compare", models / "good", found)
    assert "B: found.parquet, adapted to audio" in " ".join(out.split()).replace(f"{tmp_path}/", "")
    _, out, _ = irmas("evaluate", "--scores", found)
    assert "the scores are of a model that was adapted to audio" in " ".join(out.split())
    code, _, err = irmas("report", models / "good", "--scores", found)
    assert code == 1
    assert "holds scores of another model" in " ".join(err.split())
