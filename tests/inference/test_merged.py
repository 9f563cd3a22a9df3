"""A model on clips of other instruments, and at the level of its families."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irmas_dist import storage
from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.merging import Merge
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.scores import read_scores, write_scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.features import store
from irmas_dist.features.clips import read_clips
from irmas_dist.features.logmel import log_mel
from irmas_dist.inference.evaluate import evaluate
from irmas_dist.inference.logit_matching import prevalence_weights
from irmas_dist.inference.merged import MergedStore, merged_thresholds
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS, UNKNOWN, Vocabulary
from irmas_dist.tracking.run_file import run_files
from irmas_dist.training.model_description import (
    ModelDescription,
    read_description,
    write_description,
)
from irmas_dist.training.records import AdaptationRecord
from tests.inference.conftest import Irmas, MakeModel, scores_of_songs

THEIRS = Vocabulary.of({"guitar": "guitar", "drums": "drums", "voice": "voice"})
MAPPING = {"gac": "guitar", "gel": "guitar", "voi": "voice"}


@pytest.fixture
def features(excerpts: list[Path], predictor: Predictor, tmp_path: Path) -> str:
    """A store of two clips that are labelled with other instruments than the model's."""
    settings = predictor.description.features
    rows = [
        {"clip_id": path.stem, "md5": "", "part": "testing", "group": path.stem,
         "labels": labels, "logmel": log_mel(path, settings)}
        for path, labels in zip(excerpts, ([1, 0, None], [0, 1, 1]), strict=False)
    ]  # fmt: skip
    place = str(tmp_path / "store")
    storage.make_directory(place)
    store.write_shard(place, rows, store.settings_fingerprint(settings, THEIRS))
    shards = store.read_shards(place, store.shard_names(place))
    store.write_info(place, shards, settings, THEIRS, "")
    return place


def test_a_model_is_judged_on_what_both_know(
    make_model: MakeModel, features: str, excerpts: list[Path], tmp_path: Path
) -> None:
    model = make_model()
    predictor = Predictor.load(model)
    write_scores(model / "validation.parquet", scores_of_songs())
    evaluation = evaluate(str(model), features, str(tmp_path / "out"), mapping=MAPPING)
    scores = read_scores(tmp_path / "out" / "scores.parquet")
    assert scores.vocabulary.codes == ("guitar", "voice")
    assert scores.labels.tolist() == [[1, UNKNOWN], [0, 1]]
    for clip, row in zip(scores.clip_ids, scores.scores, strict=True):
        alone = predictor.file(next(path for path in excerpts if path.stem == clip))
        assert row[0] == pytest.approx(max(alone["gac"], alone["gel"]), abs=1e-5)
        assert row[1] == pytest.approx(alone["voi"], abs=1e-5)
    assert "left out, not in the model: drums" in evaluation.notes
    (model / "validation.parquet").unlink()
    with pytest.raises(IrmasError, match="no validation scores, to which thresholds of guitar wo"):
        evaluate(str(model), features, str(tmp_path / "out"), mapping=MAPPING)
    assert any(note.startswith("left out, without labels: cel, cla") for note in evaluation.notes)


def test_only_merged_instruments_get_new_thresholds(make_model: MakeModel) -> None:
    model = make_model()
    predictor = Predictor.load(model)
    write_scores(model / "validation.parquet", scores_of_songs())
    description = predictor.description
    merge = Merge.of(description.vocabulary, {"gac": "guitar", "gel": "guitar"})
    thresholds, origin = merged_thresholds(str(model), description, merge)
    validation = merge(scores_of_songs())
    fitted = averaged_thresholds(validation.labels, validation.scores, ThresholdSettings())
    guitar = merge.vocabulary.codes.index("guitar")
    assert thresholds[guitar] == fitted[guitar]
    np.testing.assert_array_equal(np.delete(thresholds, guitar), np.float32(0.5))
    assert origin == "; of guitar: fitted to the model's scores of its validation clips"


def test_silence_has_no_merged_instrument(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold that is fitted may be 0, and silence scores 0."""
    monkeypatch.setattr(
        "irmas_dist.inference.merged.averaged_thresholds",
        lambda labels, *_: np.zeros(labels.shape[1], np.float32),
    )
    model = make_model()
    write_scores(model / "validation.parquet", scores_of_songs())
    description = read_description(model)
    merge = Merge.of(description.vocabulary, MAPPING)
    assert merged_thresholds(str(model), description, merge)[0].min() > 0


def test_what_is_known_not_to_play_has_no_part_in_a_merge(
    make_model: MakeModel, features: str
) -> None:
    predictor = Predictor.load(make_model())

    def merged(**prevalence: float) -> tuple[np.ndarray, MergedStore, ModelDescription]:
        adapted = AdaptationRecord(to="there", prevalence=prevalence)
        description = predictor.description.model_copy(update={"adapted": adapted})
        store = MergedStore.of(description, features, MAPPING)
        return store.score(predictor, "testing").scores[:, 0], store, description

    scores = predictor.score_clips(read_clips(features, "testing"))
    acoustic, electric = (scores[:, IRMAS.codes.index(code)] for code in ("gac", "gel"))
    np.testing.assert_array_equal(merged()[0], np.maximum(acoustic, electric))
    np.testing.assert_array_equal(merged(gel=0.0)[0], acoustic)
    np.testing.assert_array_equal(merged(gac=0.0)[0], electric)
    _, neither, description = merged(gac=0.0, gel=0.0)
    thresholds, _ = merged_thresholds("no directory", description, neither.ours)
    assert thresholds[0] == NEVER


def test_what_cannot_be_judged_is_refused(
    irmas: Irmas, model: Path, features: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for arguments, code, message in [
        ((), 1, "has other instruments than the model"),
        (("--map", "gca=guitar", "--out", out), 2, "gca is none of cel"),
        (("--map", "gac=guitar"), 2, "name their place with --out"),
        (("--at", "family", "--out", out), 2, "the recipe has no families"),
        (("--map", "gac=guitar", "--out", features), 1, "holds a feature store: name another"),
        (("--at", "family", "--map", "gac=guitar", "--out", out), 2, "leave out --map"),
    ]:
        ended = irmas("evaluate", model, "--features", features, *arguments)
        assert message in ended.refusal(code)
    description = read_description(model)
    other = description.features.model_copy(update={"hop_length": 400})
    description = description.model_copy(update={"features": other})
    with pytest.raises(IrmasError, match="other feature settings"):
        MergedStore.of(description, features, MAPPING)


def test_what_cannot_be_judged_is_refused_before_anything_is_heard_or_scored(
    irmas: Irmas, make_model: MakeModel, features: str, tmp_path: Path
) -> None:
    model, there = make_model(), ("--features", features, "--out", tmp_path / "out")
    ended = irmas("evaluate", model, *there, "--map", "xyz=guitar", "--adapt-to", "nowhere")
    assert ended.refusal(2).startswith("--map xyz=guitar: xyz is none of cel")
    (model / "validation.parquet").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "score_clips", lambda *_: pytest.fail("scored"))
        ended = irmas("evaluate", model, *there, "--map", "gac=guitar,gel=guitar")
    assert "to which thresholds of guitar would be fitted" in ended.refusal(1)


def test_figures_of_other_codes_do_not_replace_those_of_the_model_in_wandb(
    irmas: Irmas, make_model: MakeModel, features: str, tmp_path: Path
) -> None:
    model = make_model()
    write_scores(model / "validation.parquet", scores_of_songs())
    write_description(model, read_description(model).model_copy(update={"run": "0123abcd"}))
    codes = ",".join(f"{old}={new}" for old, new in MAPPING.items())
    ended, _, err = irmas(
        "evaluate", model, "--features", features, "--map", codes, "--out", tmp_path / "out"
    )
    assert ended == 0, err
    (file,) = run_files(tmp_path / "runs")
    assert file.name != "run-0123abcd.wandb"


def test_scores_of_any_model_are_judged_at_the_level_of_families(
    irmas: Irmas, tmp_path: Path
) -> None:
    scores = replace(scores_of_songs())
    write_scores(tmp_path / "s.parquet", scores)
    (tmp_path / "families.yaml").write_text(
        "corpus: {families: {guitar: [gac, gel], bowed: [cel, vio]}}\n"
    )
    code, out, _ = irmas("evaluate", "--scores", tmp_path / "s.parquet", "--at", "family",
                         "--config", tmp_path / "families.yaml", "--json")  # fmt: skip
    assert code == 0
    assert '"code": "guitar"' in out
    assert '"code": "bowed"' in out
    assert '"code": "gac"' not in out


def test_merged_thresholds_are_those_of_the_prevalence_that_is_known(make_model: MakeModel) -> None:
    model, songs = make_model(), scores_of_songs()
    write_scores(model / "validation.parquet", songs)
    prevalence = {"gac": 0.5}
    description = read_description(model).model_copy(
        update={"adapted": AdaptationRecord(to="there", prevalence=prevalence)}
    )
    merge = Merge.of(description.vocabulary, MAPPING)
    found = dict(zip(merge.vocabulary.codes, merged_thresholds(str(model), description, merge)[0],
                     strict=True))  # fmt: skip
    validation = merge(songs)
    weighted, plain = (
        averaged_thresholds(
            validation.labels, validation.scores, description.validation_settings, weights
        )[merge.vocabulary.codes.index("guitar")]
        for weights in (prevalence_weights(songs, prevalence), None)
    )
    assert found["guitar"] == weighted != plain
