"""Several stores are learnt together; validation and normalisation come from the first alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from irmas_dist import storage
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import FurtherStore, IngestSettings, WorkerSettings
from irmas_dist.corpus.groups import source_of
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.metrics import decision_metrics
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.features.clips import Clips, StreamedClips
from irmas_dist.features.store import read_info
from irmas_dist.instruments import Vocabulary, hard_labels
from irmas_dist.storage.results import BEGUN_FILE
from irmas_dist.training.data import TrainingData
from irmas_dist.training.describe import describe
from irmas_dist.training.held_out import HeldOut
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.records import FurtherRecord, ValidationRecord
from irmas_dist.training.train import train
from tests.training.conftest import VOCABULARY, synthetic_clips, write_store


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of 48 clips."""
    return write_store(tmp_path_factory.mktemp("first"), synthetic_clips(48, seed=0), "first")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of 30 clips of the same identities and other content."""
    return write_store(tmp_path_factory.mktemp("second"), synthetic_clips(30, seed=1), "second")


def open_both(first: str, second: str, settings: Recipe, mode: str = "resident") -> TrainingData:
    recipe = settings.model_copy(update={"ingest": IngestSettings.model_validate({"mode": mode})})
    return open_training_data(first, recipe, [FurtherStore(location=second, weight=0.5)])


def resident(data: TrainingData) -> Clips:
    assert isinstance(data.training, Clips)
    return data.training


def test_validation_and_normalisation_are_those_of_the_first_store(
    first: str, second: str, settings: Recipe
) -> None:
    alone, both = open_training_data(first, settings), open_both(first, second, settings)
    assert both.store == alone.store
    np.testing.assert_array_equal(both.validation.frames, alone.validation.frames)
    assert both.to_mix is not None
    assert len(both.to_mix.frames) < len(resident(alone).frames) / 2
    np.testing.assert_array_equal(both.threshold_clips().frames, alone.threshold_clips().frames)
    ours, whole = resident(alone), resident(both)
    assert both.stores.counts == (len(ours), 30)
    assert both.stores.weights == (1.0, 0.5)
    np.testing.assert_array_equal(whole.labels[: len(ours)], ours.labels)
    theirs = synthetic_clips(30, seed=1)
    for index, length in enumerate(theirs.lengths):
        at = whole.starts[len(ours) + index]
        np.testing.assert_array_equal(
            whole.frames[at : at + length], theirs.frames[theirs.starts[index] :][:length]
        )


def test_what_shares_a_group_or_the_audio_with_validation_is_left_out(
    first: str, settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a copy under other names of groups only the audio tells it, and the other way round."""
    held_out = 48 - len(open_training_data(first, settings).training)
    assert held_out > 0
    clips = synthetic_clips(48, seed=0)
    for groups, audio, span in (
        ("first", "other", ""), ("other", "first", ""), ("spans", "first", "#t=0.0,6.0"),
    ):  # fmt: skip
        place = write_store(tmp_path / groups, clips, groups, audio=audio, span=span)
        data = open_both(first, place, settings)
        assert data.further[0].left_out == held_out
        assert data.stores.counts == (48 - held_out, 48 - held_out)
        said = " ".join(capsys.readouterr().err.split())
        assert f"{held_out} of 48 training clips of {place} share a group, the audio or" in said


def test_spans_of_one_file_share_its_audio_unless_groups_are_to_say_so(tmp_path: Path) -> None:
    clips = synthetic_clips(12, seed=0)
    places = [
        write_store(tmp_path / name, clips, name, audio="audio", span=span)
        for name, span in (("first", "#t=0.0,3.0"), ("second", "#t=3.0,6.0"))
    ]
    first, second = ((place, read_info(place)) for place in places)
    held = HeldOut(audio=HeldOut.of(clips, *first).audio)
    assert held.shares(clips, *second).all()
    assert not held.shares(clips, *second, of_one_file=False).any()
    assert held.shares(clips, *first, of_one_file=False).all()


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_the_audio_of_testing_clips_is_learnt_from_no_other_store(
    settings: Recipe, tmp_path: Path, mode: str
) -> None:
    clips = synthetic_clips(48, seed=0)
    parts = replace(
        clips, parts=["testing" if index % 6 == 0 else "training" for index in range(48)]
    )
    first = write_store(tmp_path / "first", parts, "first")
    second = write_store(tmp_path / "second", clips, "second", audio="first")
    alone = open_training_data(first, settings)
    both = open_both(first, second, settings, mode)
    assert both.stores.counts == (len(alone.training), len(alone.training))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("top mid low", [[0, 0, 1], [0, 1, 0], [1, 0, 0]]),
        ("low mid", [[1, 0, None], [0, 1, None], [0, 0, None]]),
        ("sax top low mid", [[0, 0, 0], [0, 0, 1], [1, 0, 0]]),
    ],
)
def test_labels_are_brought_to_the_first_vocabulary_by_code(
    first: str, settings: Recipe, tmp_path: Path, codes: str, expected: list[list[float | None]]
) -> None:
    """Instruments that a store does not know are unknown in its clips; others are dropped."""
    names = codes.split()
    clips = synthetic_clips(30, seed=1)
    labels = np.eye(len(names), dtype=np.float32)[:, : len(names)]
    padded = np.vstack([labels, np.zeros((3, len(names)), np.float32)])[:3]
    clips = replace(clips, labels=np.tile(padded, (10, 1)))
    vocabulary = Vocabulary.of({name: name for name in names})
    place = write_store(tmp_path / "store", clips, "second", vocabulary)
    data = open_both(first, place, settings)
    found = resident(data).labels[-30:]
    wanted = np.array(expected, np.float32)
    np.testing.assert_array_equal(found[:3], wanted)
    assert data.is_partial == bool(np.isnan(wanted).any())
    streamed = open_both(first, place, settings, "streaming").training
    np.testing.assert_array_equal(streamed.labels, resident(data).labels)


def refuse(first: str, place: str, settings: Recipe, why: str) -> None:
    with pytest.raises(IrmasError, match=why):
        train(settings, first, "never", WorkerSettings(), None, [FurtherStore(location=place)])


@pytest.mark.usefixtures("no_ray")
def test_stores_that_do_not_go_together_are_refused_by_name(
    first: str, second: str, settings: Recipe, tmp_path: Path
) -> None:
    clips = synthetic_clips(30, seed=1)
    other = Vocabulary.of({"low": "low", "mid": "mid", "sax": "saxophone"})
    place = write_store(tmp_path / "instruments", clips, "second", other)
    refuse(first, place, settings, r"instruments has other instruments: it lacks top, and has sax;")
    features = settings.features.model_copy(update={"hop_length": 256, "window": "blackman"})
    place = write_store(tmp_path / "settings", clips, "second", VOCABULARY, features)
    refuse(first, place, settings, r"settings than .*: hop_length=256 rather than 512")
    refuse(first, first, settings, "has the same content as")
    refuse(first, str(tmp_path / "none"), settings, "none is not a finished feature store")
    twice = [FurtherStore(location=second)] * 2
    with pytest.raises(IrmasError, match="has the same content as"):
        train(settings, first, "never", WorkerSettings(), None, twice)
    subset = write_store(tmp_path / "held out", held_out_of(first, settings), "first")
    with pytest.raises(IrmasError, match="there is nothing to learn"):
        open_both(first, subset, settings)
    assert not Path("never").exists()


def held_out_of(first: str, settings: Recipe) -> Clips:
    clips = synthetic_clips(48, seed=0)
    learnt = set(resident(open_training_data(first, settings)).clip_ids)
    return clips.select([i for i, clip in enumerate(clips.clip_ids) if clip not in learnt])


@pytest.mark.usefixtures("no_ray")
def test_a_model_says_what_it_has_learnt_from_and_only_the_same_data_resume_it(
    first: str, second: str, settings: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, workers = str(tmp_path / "m"), WorkerSettings()
    brief = build_recipe(settings.model_dump(), {"training.epochs": 2}, "the test")
    both = [FurtherStore(location=second, weight=0.5)]
    others: dict[str, list[FurtherStore]] = {
        "none": [], "another weight": [FurtherStore(location=second, weight=0.25)],
        "another store": [FurtherStore(location=write_store(
            tmp_path / "third", synthetic_clips(9, seed=2), "third"))],
    }  # fmt: skip

    run_epoch = Learner.run_epoch

    def interrupted(learner: Learner) -> Any:
        if learner.history:
            raise KeyboardInterrupt
        return run_epoch(learner)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(brief, first, out, workers, None, both)
    assert storage.exists(storage.join(out, BEGUN_FILE))
    for further in others.values():
        with pytest.raises(IrmasError, match="unfinished training that learns other further"):
            train(brief, first, out, workers, None, further)
    model = train(brief, first, out, workers, None, both)
    (also,) = model.data.also
    assert also == FurtherRecord(
        **read_info(second).digests, weight=0.5, training_clips=30, left_out=0
    )
    assert model.data.store == read_info(first).identity
    assert model.data.training_clips == len(open_both(first, second, brief).training)
    assert list(model.normalisation.mean) == read_info(first).mean
    assert train(brief, first, out, workers, None, both) == model
    for further in others.values():
        with pytest.raises(IrmasError, match="holds a model that learns other further stores"):
            train(brief, first, out, workers, None, further)


@pytest.mark.ray
def test_both_ways_of_ingest_give_the_same_model_bit_for_bit(
    first: str, settings: Recipe, ray_cluster: None, tmp_path: Path
) -> None:
    """Labels of streamed clips, too, are brought to the first vocabulary."""
    reversed_order = Vocabulary.of({"top": "high noise", "mid": "middle noise", "low": "low noise"})
    second = write_store(tmp_path, synthetic_clips(30, seed=1), "second", reversed_order)
    learners = [
        Learner(open_both(first, second, settings, mode), settings)
        for mode in ("resident", "streaming")
    ]
    for learner in learners:
        learner.run_epoch()
    assert learners[0].history == learners[1].history
    for ours, theirs in zip(*(one.network.parameters() for one in learners), strict=True):
        assert torch.equal(ours, theirs)
    streamed = learners[1].data.training
    assert isinstance(streamed, StreamedClips)
    assert [len(store.clip_ids) for store in streamed.stores] == [len(streamed) - 30, 30]


def test_an_epoch_takes_as_many_steps_as_the_weights_say(
    first: str, second: str, settings: Recipe
) -> None:
    learner = Learner(open_both(first, second, settings), settings)
    clips = learner.data.stores.counts[0]
    learner.train_epoch()
    assert learner._step.totals[1] == 3 * (clips + round(clips / 2))
    assert learner._optimisation._steps == -(-(clips + round(clips / 2)) // 8)


def in_part(place: Path, name: str, parts: list[str], seed: int) -> str:
    """A store whose clips are of several parts, in turn."""
    clips = synthetic_clips(12, seed)
    return write_store(place / name, replace(clips, parts=(parts * 12)[:12]), name)


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [
        (["training"], "training"),
        (["testing", "training"], "testing"),
        (["testing", "validation", "training"], "validation"),
    ],
)
@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_clips_of_a_store_of_their_own_are_validated_on_as_they_are(
    first: str, settings: Recipe, tmp_path: Path, parts: list[str], chosen: str, mode: str
) -> None:
    dev = in_part(tmp_path, "dev", parts, seed=7)
    recipe = settings.model_copy(update={"ingest": IngestSettings.model_validate({"mode": mode})})
    data = open_training_data(first, recipe, validate_on=[dev])
    assert set(data.validation.parts) == {chosen}
    assert len(data.validation) == 12 // len(parts)
    assert len(data.training) == 48  # Nothing is held out.
    assert data.record.validated_on == (
        ValidationRecord(**read_info(dev).digests, part=chosen, clips=12 // len(parts)),
    )
    ours, theirs = data.validation, synthetic_clips(12, seed=7)
    at = theirs.clip_ids.index(ours.clip_ids[0])
    np.testing.assert_array_equal(
        ours.frames[ours.starts[0] :][: ours.lengths[0]],
        theirs.frames[theirs.starts[at] :][: theirs.lengths[at]],
    )


def test_what_is_validated_on_counts_in_whether_clips_fit_in_memory(
    first: str, settings: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = in_part(tmp_path, "dev", ["testing"], seed=7)
    recipe = settings.model_copy(update={"ingest": IngestSettings(mode="auto")})
    info = read_info(first)
    own = info.frames * info.settings.bands * np.dtype(info.settings.dtype).itemsize
    monkeypatch.setattr("irmas_dist.training.load.fits_in_memory", lambda size: size <= own)
    assert isinstance(open_training_data(first, recipe).training, Clips)
    alongside = open_training_data(first, recipe, validate_on=[dev])
    assert isinstance(alongside.training, StreamedClips)


def test_several_stores_are_judged_by_the_mean_at_common_thresholds(
    first: str, second: str, settings: Recipe, tmp_path: Path
) -> None:
    stores = [in_part(tmp_path, "easy", ["testing"], 7), in_part(tmp_path, "more", ["testing"], 8)]
    data = open_training_data(first, settings, validate_on=stores)
    assert [one.clips for one in data.validated_on] == [12, 12]
    learner = Learner(data, settings)
    metrics = learner.run_epoch()
    scores, _ = learner.score_validation()
    labels = hard_labels(data.validation.labels)
    decided = decide(scores, fit_thresholds(labels, scores, settings.thresholds))
    each = [
        decision_metrics(labels[some], decided[some])["macro_f1"]
        for some in (slice(0, 12), slice(12, 24))
    ]
    assert metrics["val_macro_f1"] == pytest.approx(np.mean(each))
    assert [metrics[f"val_macro_f1_store_{n}"] for n in (1, 2)] == pytest.approx(each)
    description, validation = describe(learner, settings.model_dump(mode="json"))
    assert description.thresholds_from.startswith("24 clips of 2 stores to validate on (")
    assert len(validation.clip_ids) == 24
    assert description.data.validation_clips == 24
    decided = decide(validation.scores, description.threshold_array())
    for name in ("micro_f1", "macro_f1"):
        each = [
            decision_metrics(labels[some], decided[some])[name]
            for some in (slice(0, 12), slice(12, 24))
        ]
        assert description.scores[f"val_{name}"] == pytest.approx(np.mean(each))


def test_a_store_to_validate_on_in_which_nothing_is_known_to_play_is_refused(
    first: str, settings: Recipe, tmp_path: Path
) -> None:
    """It would add 0 to each mean."""
    good, silent = in_part(tmp_path, "good", ["testing"], 7), synthetic_clips(12, seed=8)
    silent.labels[:] = np.where(silent.labels == 1, np.nan, silent.labels)
    bad = write_store(tmp_path / "bad", replace(silent, parts=["testing"] * 12), "bad")
    with pytest.raises(IrmasError, match=f"of no validation clip of {bad} is it known"):
        open_training_data(first, settings, validate_on=[good, bad])


def test_what_is_held_out_of_a_source_is_left_out_where_its_instruments_play_on_together(
    settings: Recipe, tmp_path: Path
) -> None:
    """Solos are held out of a source whose duets are learnt."""
    clips = synthetic_clips(72, seed=0)
    kinds = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    of_clips = np.arange(72) % 4
    clips.labels[:] = kinds[of_clips]
    groups = [f"library {number // 4 % 4} / {number}" for number in range(72)]
    place = write_store(tmp_path / "own", replace(clips, groups=groups), "source")
    more = write_store(tmp_path / "more", replace(clips, groups=[f"{one}, more" for one in groups]),
                       "source", audio="more")  # fmt: skip
    recipe = build_recipe(settings.model_dump(), {"validation.by": "source"}, "the test")
    data = open_training_data(place, recipe, [FurtherStore(location=more)])
    ours, theirs = data.stores.counts
    assert ours == theirs < len(clips)


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_a_source_that_is_held_out_is_learnt_from_no_store(
    settings: Recipe, tmp_path: Path, mode: str
) -> None:
    """What a further store has of it under other groups and with other audio is left out."""
    clips = synthetic_clips(90, seed=0)
    libraries = [
        f"library {number // 3 % 3} / {group}" for number, group in enumerate(clips.groups)
    ]
    place = write_store(tmp_path / "own", replace(clips, groups=libraries), "source")
    theirs = synthetic_clips(30, seed=1)
    groups = [f"library {number // 3 % 3} / more {number}" for number in range(30)]
    more = write_store(tmp_path / "more", replace(theirs, groups=groups), "source", audio="more")
    recipe = build_recipe(
        settings.model_dump(), {"validation.by": "source", "ingest.mode": mode}, "the test"
    )
    data = open_training_data(place, recipe, [FurtherStore(location=more)])

    def sources(groups: list[str], labels: Any) -> set[tuple[str, int]]:
        of_clips = zip(groups, hard_labels(labels), strict=True)
        return {(source_of(one), int(row.argmax())) for one, row in of_clips}

    assert data.to_mix is not None
    held_out = sources(data.to_mix.groups, data.to_mix.labels)
    kept = data.stores.counts[1]
    expected = [
        index
        for index, (group, row) in enumerate(zip(groups, theirs.labels, strict=True))
        if (source_of(f"source {group}"), int(row.argmax())) not in held_out
    ]
    assert 0 < len(expected) < 30
    assert kept == len(expected)
    np.testing.assert_array_equal(data.training.labels[-kept:], theirs.labels[expected])


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_a_weight_by_which_a_store_begins_no_example_is_refused(
    first: str, second: str, settings: Recipe, mode: str
) -> None:
    """By .05 it begins two of an epoch, which has more pools than that when streamed."""
    values = {"ingest.mode": mode, "ingest.pool_clips": 10}
    recipe = build_recipe(settings.model_dump(), values, "the test")
    open_training_data(first, recipe, [FurtherStore(location=second, weight=0.05)])
    with pytest.raises(IrmasError, match=f"{second}:0.001 gives no example in an epoch of"):
        open_training_data(first, recipe, [FurtherStore(location=second, weight=0.001)])


def test_what_is_validated_on_is_learnt_from_no_store(
    first: str, second: str, settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = list(range(9))
    shared = [
        write_store(tmp_path / "a", synthetic_clips(48, seed=0).select(some), "first", audio="x"),
        write_store(tmp_path / "b", synthetic_clips(30, seed=1).select(some), "y", audio="second"),
    ]
    further = [FurtherStore(location=second)]
    data = open_training_data(first, settings, further, validate_on=shared)
    assert data.stores.counts == (48 - 9, 30 - 9)
    said = " ".join(capsys.readouterr().err.split())
    assert f"9 of 48 training clips of {first} share a group, the audio or" in said
    assert f"9 of 30 training clips of {second} share a group, the audio or" in said
    copy = write_store(tmp_path / "c", synthetic_clips(48, seed=0), "first", audio="x")
    with pytest.raises(IrmasError, match="there is nothing to learn"):
        open_training_data(first, settings, validate_on=[copy])
    with pytest.raises(IrmasError, match=r"--validate-on .* has the same content as"):
        open_training_data(first, settings, validate_on=[first])
    other = Vocabulary.of({"low": "low", "mid": "mid", "sax": "saxophone"})
    place = write_store(tmp_path / "d", synthetic_clips(30, seed=1), "d", other)
    with pytest.raises(IrmasError, match=r"--validate-on .* other instruments: it lacks top"):
        open_training_data(first, settings, validate_on=[place])


@pytest.mark.usefixtures("ray_cluster")
def test_all_clips_of_a_small_further_store_are_in_each_pool(
    first: str, settings: Recipe, tmp_path: Path
) -> None:
    few = synthetic_clips(3, seed=5)
    place = write_store(tmp_path / "few", few, "few")
    values = {"ingest.mode": "streaming", "ingest.pool_clips": 10}
    recipe = build_recipe(settings.model_dump(), values, "the test")
    learner = Learner(open_training_data(first, recipe, [FurtherStore(location=place)]), recipe)
    loader = ClipLoader(learner.data.training, 0, torch.device("cpu"), learner.data.stores)
    pools = [pool.clips for pool, _ in loader.epoch(0, learner.plan_steps, plan_ahead=False)]
    assert len(pools) > 3
    for clips in pools:
        assert sorted(clips.clip_ids[-3:]) == sorted(few.clip_ids)
        assert len(clips) <= 10 + 3
    own = [clip for clips in pools for clip in clips.clip_ids[:-3]]
    assert len(own) == len(set(own)) == learner.data.stores.counts[0]
