"""The evaluation of a model: its scores on labelled clips, with its own thresholds."""

import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from irmas_dist import storage
from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.corpus.audio_files import find_files
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.corpus.mixdown import SILENT
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.evaluation.evaluate import evaluate_scores
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.features.store import (
    StoreInfo,
    read_shards,
    settings_fingerprint,
    shard_names,
    write_info,
    write_shard,
)
from irmas_dist.inference.adapt_model import adapt
from irmas_dist.inference.evaluate import (
    evaluate,
    evaluate_model_scores,
    evaluate_tree,
    open_evaluated,
    read_model_scores,
)
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.training.known_audio import KnownAudio, recordings, write_known
from irmas_dist.training.model_description import (
    ModelDescription,
    read_description,
    write_description,
)
from irmas_dist.training.records import AdaptationRecord, StartRecord
from tests.inference.conftest import Irmas, MakeModel, scores_of_songs
from tests.records import DATA


@pytest.fixture
def scores() -> Scores:
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(20, 11)) < 0.4).astype(np.uint8)
    values = rng.uniform(size=(20, 11)).astype(np.float32)
    songs = [f"song {i // 2}" for i in range(20)]
    return Scores([f"clip {i}" for i in range(20)], ["testing"] * 20, songs, labels, values, IRMAS)


def test_scores_are_evaluated_with_the_thresholds_of_the_model(
    predictor: Predictor, scores: Scores
) -> None:
    evaluation = evaluate_model_scores(predictor.description, scores, "scores.parquet")
    assert evaluation.thresholds_from == predictor.description.thresholds_from
    np.testing.assert_array_equal(evaluation.thresholds, predictor.description.threshold_array())
    assert not any("learnt" in note for note in evaluation.notes)


def test_silent_clips_are_counted_and_have_no_instrument(
    predictor: Predictor, scores: Scores
) -> None:
    values = scores.scores.copy()
    values[:3] = 0
    thresholds = predictor.description.thresholds | dict.fromkeys(IRMAS.codes[:2], 0.0)
    always = predictor.description.model_copy(update={"thresholds": thresholds})
    evaluation = evaluate_model_scores(always, replace(scores, scores=values), "scores.parquet")
    assert evaluation.notes[-1] == (
        "3 of 20 clips are silent: they score 0, have no instrument by the model's thresholds, "
        "and count in every figure as such"
    )
    decisions = evaluation.results["validation"].decisions
    assert not decisions[:3].any()
    assert decisions[3:, :2].all()
    evaluation = evaluate_model_scores(predictor.description, scores, "scores.parquet")
    assert not any("silent" in note for note in evaluation.notes)


def test_scores_of_other_instruments_are_refused(predictor: Predictor, scores: Scores) -> None:
    other = replace(scores, vocabulary=Vocabulary(IRMAS.codes[::-1], IRMAS.names[::-1]))
    with pytest.raises(IrmasError, match="scores of other instruments than the model's"):
        evaluate_model_scores(predictor.description, other, "scores.parquet")


def test_a_model_directory_or_a_file_of_scores_is_opened(
    model: Path, scores: Scores, tmp_path: Path
) -> None:
    with pytest.raises(IrmasError, match=f"first run irmas evaluate {model}"):
        open_evaluated(str(model), None)
    write_scores(str(tmp_path / "scores.parquet"), scores)
    for name in (str(tmp_path), str(tmp_path / "scores.parquet")):
        opened, thresholds, settings = open_evaluated(name, None)
        np.testing.assert_array_equal(opened.scores, scores.scores)
        assert (thresholds, settings.rule) == (None, "global")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_tree_is_evaluated_with_the_features_of_the_model(
    model: Path, predictor: Predictor, excerpts: list[Path], tmp_path: Path
) -> None:
    tree, work, out = tmp_path / "tree", tmp_path / "work", str(tmp_path / "out")
    tree.mkdir()
    for number, excerpt in enumerate(excerpts):
        # macOS decomposes names of files; clip ids are Unicode NFC.
        stem = unicodedata.normalize("NFD", f"Café {number}-1")
        (tree / f"{stem}.wav").write_bytes(excerpt.read_bytes())
        (tree / f"{stem}.txt").write_bytes(excerpt.with_suffix(".txt").read_bytes())
    soundfile.write(tree / "silent-1.wav", np.zeros(66_150), 22_050)
    (tree / "silent-1.txt").write_text("pia\n")
    evaluation = evaluate_tree(str(model), tree, out, TESTING, work, None)
    files = len(excerpts) + 1
    assert any(note.startswith(f"1 of {files} clips are silent: ") for note in evaluation.notes)
    assert f"1 of {files} files, such as silent-1: {SILENT}" in evaluation.notes
    paths = {file.clip_id: file.path for file in find_files(tree)}
    scores = evaluation.scores
    named = [f"Café {number}-1" for number in range(len(excerpts))]
    assert sorted(scores.clip_ids) == [*named, "silent-1"]
    for clip, row in zip(scores.clip_ids, scores.scores, strict=True):
        assert list(predictor.file(paths[clip]).values()) == pytest.approx(row.tolist(), abs=1e-5)
    np.testing.assert_array_equal(read_scores(f"{out}/scores.parquet").scores, scores.scores)

    def written() -> dict[Path, int]:
        features = work / "evaluated-tree" / "features"
        return {path: path.stat().st_mtime_ns for path in features.glob("*.parquet")}

    before = written()
    assert before
    own = [work / "manifest.parquet", work / "features" / "features.json"]
    for file in own:
        file.parent.mkdir(exist_ok=True)
        file.write_text("of the user")
    again = evaluate_tree(str(model), tree, out, TESTING, work, None)
    np.testing.assert_array_equal(again.scores.scores, scores.scores)
    assert written() == before
    assert [file.read_text() for file in own] == ["of the user"] * 2


def test_a_tree_without_clips_of_the_part_is_refused(
    model: Path, tree: Path, tmp_path: Path
) -> None:
    training = tree / "IRMAS-TrainingData"
    with pytest.raises(IrmasError, match="has no usable clips for testing"):
        evaluate_tree(str(model), training, str(tmp_path), TESTING, tmp_path / "work", None)
    (tmp_path / "sweep.json").touch()
    with pytest.raises(IrmasError, match="holds a sweep: name another directory"):
        evaluate_tree(str(model), tree, str(tmp_path), TESTING, tmp_path / "work", None)
    assert not (tmp_path / "work").exists()


def test_a_place_that_cannot_be_written_is_refused_before_a_tree_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irmas_dist.inference.evaluate.index_tree", lambda *_: pytest.fail("read"))
    work = tmp_path / "file"
    work.touch()
    with pytest.raises(IrmasError, match="evaluated-tree cannot be written: Not a directory"):
        evaluate_tree(str(model), tmp_path, str(tmp_path), TESTING, work, None)


def write_noise(
    place: str, description: ModelDescription, clips: int, learnt: int = 0
) -> StoreInfo:
    """Write a store of clips of noise, of one instrument each, the first of which are learnt.

    Each two clips share a group.
    """
    rng = np.random.default_rng(0)
    rows = [
        {"clip_id": f"{clip}", "md5": f"{clip}", "group": f"{clip // 2}",
         "part": "training" if clip < learnt else "testing",
         "labels": np.eye(11, dtype=int)[clip % 11].tolist(),
         "logmel": rng.normal(rng.uniform(-9, 0), 1, (32, 60)).astype(np.float16)}
        for clip in range(clips)
    ]  # fmt: skip
    storage.make_directory(place)
    write_shard(place, rows, settings_fingerprint(description.features, description.vocabulary))
    shards = read_shards(place, shard_names(place))
    return write_info(place, shards, description.features, description.vocabulary, "")


def test_a_model_is_adapted_to_the_only_part_of_another_store(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model, tested, to = str(make_model(normalisation="batch")), tmp_path / "tested", tmp_path / "to"
    write_scores(Path(model) / "validation.parquet", scores_of_songs())
    write_noise(str(tested), read_description(model), 22)
    write_noise(str(to), read_description(model), 20, learnt=20)
    evaluation = evaluate(model, str(tested), str(tmp_path / "out"), adapt_to=str(to))
    assert evaluation.scores.adapted_to == str(to)


def test_scores_of_an_adapted_model_are_not_taken_for_those_of_the_original(
    irmas: Irmas, make_model: MakeModel, tmp_path: Path
) -> None:
    model = str(make_model(normalisation="batch"))
    write_scores(Path(model) / "validation.parquet", scores_of_songs())
    place, out = str(tmp_path / "store"), tmp_path / "out"
    write_noise(place, read_description(model), 22)
    evaluation = evaluate(model, place, str(out), adapt_to=place)
    assert evaluation.headline.protocol == "adapted"
    assert read_scores(out / "scores.parquet").adapted_to == place
    with pytest.raises(IrmasError, match="holds scores of another model"):
        read_model_scores(model, str(out / "scores.parquet"))
    for by in (("--threshold", "0.5"), ("--fit-on", f"{model}/validation.parquet")):
        code, told, _ = irmas("evaluate", "--scores", out / "scores.parquet", *by, "--json")
        assert code == 0
        found = json.loads(told)
        assert found["protocol"] == "adapted"
        assert "validation" not in found["protocols"]
        assert f"the scores are of a model that was adapted to {place}" in found["notes"]
    # Written, the adapted model is the one that gave them.
    adapt(model, place, str(tmp_path / "adapted"), AdaptationSettings())
    read_model_scores(str(tmp_path / "adapted"), str(out / "scores.parquet"))


@pytest.mark.parametrize(("training", "heard"), [(0, 22), (4, 18), (22, 22)])
def test_a_model_is_adapted_to_testing_clips_or_the_only_part_of_a_store(
    make_model: MakeModel, tmp_path: Path, training: int, heard: int
) -> None:
    model, place = str(make_model(normalisation="batch")), str(tmp_path / "store")
    write_scores(Path(model) / "validation.parquet", scores_of_songs())
    write_noise(place, read_description(model), 22, learnt=training)
    assert adapt(model, place, str(tmp_path / "out"), AdaptationSettings()).clips == heard


@pytest.mark.parametrize(
    ("learnt", "part", "audio", "groups"),
    [
        ((), "testing", 0, 0),
        # Clips 0 to 2 are of the part training, and 2 and 3 share a group.
        (("2",), "testing", 0, 1),
        (("0",), "testing", 0, 0),
        (("3", "other"), "testing", 1, 1),
        (("3", "5#t=0.0,6.0"), "testing", 2, 3),
        (("0", "2"), "training", 2, 3),
    ],
)
def test_clips_whose_audio_or_group_a_model_has_learnt_are_no_test_whatever_the_store(
    make_model: MakeModel,
    tmp_path: Path,
    learnt: tuple[str, ...],
    part: str,
    audio: int,
    groups: int,
) -> None:
    model, place = make_model(), str(tmp_path / "store")
    write_noise(place, read_description(model), 9, learnt=3)
    write_known(model, KnownAudio(learnt=recordings(learnt)))
    notes = evaluate(str(model), place, str(tmp_path), part).notes
    clips = 3 if part == "training" else 6
    for count, what in (
        (audio, "audio that the model has learnt"),
        (groups, "of groups that the model has learnt from"),
    ):
        told = [note for note in notes if f"clips are {what}" in note]
        expected = f"{count} of {clips} clips are {what}: these figures do not measure"
        assert [note[: len(expected)] for note in told] == ([expected] if count else [])


def test_a_model_that_starts_from_one_that_has_listened_says_so(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model, place = make_model(), str(tmp_path / "store")
    description = read_description(model)
    write_noise(place, description, 1)
    adapted = StartRecord(data=DATA, weights="w", adapted_to="songs")
    start = StartRecord(data=DATA.model_copy(update={"init": adapted}), weights="v")
    data = DATA.model_copy(update={"init": start})
    write_description(model, description.model_copy(update={"data": data}))
    told = "the model starts from one that was adapted to songs: "
    notes = evaluate(str(model), place, str(tmp_path)).notes
    assert sum(note.startswith(told) for note in notes) == 1


def test_a_password_of_a_url_that_a_model_is_adapted_to_is_in_no_result(
    make_model: MakeModel, tmp_path: Path, bucket: str
) -> None:
    model = str(make_model(normalisation="batch"))
    write_scores(Path(model) / "validation.parquet", scores_of_songs())
    write_noise(f"{bucket}/store", read_description(model), 22)
    to = f"{bucket}/store".replace("://", "://testing:SECRET@")
    adapt(model, to, str(tmp_path / "adapted"), AdaptationSettings())
    evaluate(model, f"{bucket}/store", str(tmp_path / "out"), adapt_to=to)
    for file in (*(tmp_path / "adapted").iterdir(), *(tmp_path / "out").iterdir()):
        assert b"SECRET" not in file.read_bytes(), file
    assert "testing:***@" in str(read_description(tmp_path / "adapted").adapted_to)


def test_clips_that_a_model_was_validated_on_are_no_test(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model()
    place = str(tmp_path / "store")
    write_noise(place, read_description(model), 4)
    write_scores(model / "validation.parquet", scores_of_songs())
    told = "2 of 4 clips are audio that the model was validated on, by which its epoch and"

    def is_said(mapping: dict[str, str] | None = None) -> bool:
        notes = evaluate(str(model), place, str(tmp_path), mapping=mapping).notes
        kept = read_scores(tmp_path / "scores.parquet").notes
        assert set(kept) <= set(notes)
        return any(note.startswith(told) for note in kept)

    assert not is_said()
    write_known(model, KnownAudio(validated=frozenset({"1", "2", "other"})))
    assert is_said()
    assert is_said(mapping={"gac": "guitar", "gel": "guitar"})
    # Wherever they are shown later.
    evaluate(str(model), place, str(model))
    evaluation = evaluate_model_scores(*read_model_scores(str(model)))
    assert told in " ".join(evaluation.notes)
    assert told in " ".join(evaluate_scores(open_scores(str(model / "scores.parquet")), "s").notes)


def test_no_evaluation_replaces_what_another_model_or_other_clips_gave(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model, other = str(make_model()), tmp_path / "other"
    shutil.copytree(model, other)
    place = str(tmp_path / "store")
    write_noise(place, read_description(model), 1)
    with pytest.raises(IrmasError, match="evaluation would be replaced by another model's"):
        evaluate(model, place, str(other))
    for options in ({"part": "training"}, {"mapping": {"gac": "g"}}, {"adapt_to": place}):
        arguments: Any = options
        with pytest.raises(IrmasError, match="replaced by other scores of that model: name anoth"):
            evaluate(model, place, model, **arguments)
    assert not list(tmp_path.glob("**/scores.parquet"))


def test_figures_of_an_adapted_model_have_a_protocol_of_their_own(
    predictor: Predictor, scores: Scores
) -> None:
    adapted = predictor.description.model_copy(update={"adapted": AdaptationRecord(to="there")})
    evaluation = evaluate_model_scores(adapted, scores, "scores.parquet")
    assert evaluation.headline.protocol == "adapted"
    assert "validation" not in evaluation.results
