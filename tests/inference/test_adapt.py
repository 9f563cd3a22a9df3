"""A model follows audio without labels: what it is adapted by, what it leaves, and its limits."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.features.clips import Clips
from irmas_dist.inference.adapt import RELIABLE_CLIPS, adapt_network
from irmas_dist.inference.logit_matching import logits_of
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS
from irmas_dist.models.cnn import CNN
from irmas_dist.training.model_description import (
    ModelDescription,
    read_description,
    write_description,
)
from irmas_dist.training.model_directory import load_network
from irmas_dist.training.records import AdaptationRecord
from irmas_dist.training.windows import covering_windows
from tests.inference.conftest import Irmas, MakeModel

BANDS = 32


@pytest.fixture(scope="module")
def description(make_model: MakeModel) -> ModelDescription:
    return read_description(make_model(normalisation="batch"))


@pytest.fixture(scope="module")
def network(make_model: MakeModel, description: ModelDescription) -> CNN:
    network = CNN(description.model, BANDS, description.windows.frames, len(IRMAS))
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.3)
    # So that each instrument is the likeliest of some clips.
    logits = logits_of(Predictor(description, network.eval(), "cpu").score_clips(sounds(120)))
    last = network.layers[-1]
    scale = torch.from_numpy(1 / logits.std(axis=0)).float()
    with torch.no_grad():
        last.weight.mul_(scale[:, None])
        last.bias.sub_(torch.from_numpy(logits.mean(axis=0)).float()).mul_(scale).sub_(1.5)
    return network


def sounds(clips: int, loudness: float = 0.0, seed: int = 0) -> Clips:
    """Clips of random spectra, whose labels are unknown."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(50, 120, clips)
    spectra = np.repeat(rng.normal(loudness - 4, 3, (clips, BANDS)), lengths, axis=0)
    frames = (spectra + rng.normal(0, 1, spectra.shape)).astype(np.float16)
    names = [f"clip {clip}" for clip in range(clips)]
    return Clips(
        frames=frames,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=np.full((clips, len(IRMAS)), np.nan, np.float32),
        clip_ids=names,
        parts=["testing"] * clips,
        groups=names,
    )


def validation_of(description: ModelDescription, network: CNN, clips: Clips) -> Scores:
    """Scores of clips in which each instrument plays in a sixth."""
    scores = Predictor(description, network, "cpu").score_clips(clips)
    order = np.argsort(np.argsort(-scores, axis=0), axis=0)
    labels = (order < len(clips) // 6).astype(np.int8)
    return Scores(clips.clip_ids, clips.parts, clips.groups, labels, scores, IRMAS)


def test_at_home_little_changes(description: ModelDescription, network: CNN) -> None:
    clips = sounds(120)
    validation = validation_of(description, network, clips)
    adapted = adapt_network(
        description, network, validation, clips, "home",
        AdaptationSettings(share=0, match=1, prevalence=dict.fromkeys(IRMAS.codes, 1 / 6)),
    )  # fmt: skip
    scores = Predictor(adapted.description, adapted.network, "cpu").score_clips(clips)
    np.testing.assert_allclose(logits_of(scores), logits_of(validation.scores), atol=0.02)


def test_logits_of_other_music_are_brought_nearer_to_those_of_validation(
    description: ModelDescription, network: CNN
) -> None:
    validation = validation_of(description, network, sounds(120))
    clips = sounds(80, loudness=2.0, seed=1)
    gaps = []
    for match in (0.0, 0.5, 1.0):
        settings = AdaptationSettings(
            share=0, match=match, prevalence=dict.fromkeys(IRMAS.codes, 1 / 6)
        )
        adapted = adapt_network(description, network, validation, clips, "there", settings)
        scores = Predictor(adapted.description, adapted.network, "cpu").score_clips(clips)
        gap = logits_of(scores).mean(axis=0) - logits_of(validation.scores).mean(axis=0)
        gaps.append(np.abs(gap).mean())
    assert gaps[0] > 2 * gaps[2]
    assert gaps[1] == pytest.approx((gaps[0] + gaps[2]) / 2, rel=0.2)


def test_thresholds_are_those_that_matched_scores_promise_to_be_best(
    description: ModelDescription, network: CNN
) -> None:
    """Where validation is easy and the audio is not, a lower one than where both are."""
    fitting_best = ThresholdSettings(evidence=1)
    description = description.model_copy(update={"thresholds_fitted": fitting_best})
    mixed = sounds(120)
    scores = Predictor(description, network, "cpu").score_clips(mixed)
    surer = 1 / (1 + np.exp(-3 * logits_of(scores)))
    easy = replace(validation_of(description, network, mixed), scores=surer.astype(np.float32))
    everywhere = dict.fromkeys(IRMAS.codes, 1 / 6)
    before, after = (
        adapt_network(
            description, network, easy, mixed, "there",
            AdaptationSettings(share=0, match=match, prevalence=everywhere),
        ).description
        for match in (0.0, 0.05)
    )  # fmt: skip
    assert np.mean(after.threshold_array() < before.threshold_array()) > 0.5
    assert after.thresholds_from == f"{before.thresholds_from}, moved to suit 120 clips of there"


def test_statistics_are_a_mean_of_both(description: ModelDescription, network: CNN) -> None:
    validation = validation_of(description, network, sounds(120))
    clips = sounds(80, loudness=2.0, seed=1)

    def statistics(share: float) -> torch.Tensor:
        settings = AdaptationSettings(share=share, match=0)
        adapted = adapt_network(description, network, validation, clips, "there", settings)
        assert not adapted.network.training
        state = adapted.network.state_dict()
        return torch.cat([v.flatten() for k, v in state.items() if "running" in k])

    none, half, all_ = (statistics(share) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (none + all_) / 2)
    assert not torch.equal(none, all_)
    torch.testing.assert_close(
        none, torch.cat([v.flatten() for k, v in network.state_dict().items() if "running" in k])
    )


def test_scores_of_what_was_listened_to_have_the_evidence_of_validation(
    description: ModelDescription, network: CNN
) -> None:
    assert description.validation_settings.evidence < 1
    validation = validation_of(description, network, sounds(120))
    untouched, adapted = (
        adapt_network(
            description, network, validation, sounds(80), "there",
            AdaptationSettings(share=share, match=0),
        ).description
        for share in (0.0, 0.5)
    )  # fmt: skip
    assert untouched.thresholds == description.thresholds
    assert untouched.thresholds_from == description.thresholds_from
    best = averaged_thresholds(validation.labels, validation.scores, ThresholdSettings(evidence=1))
    np.testing.assert_array_equal(adapted.threshold_array(), best)
    assert adapted.validation_settings.evidence == 1  # of merged instruments, too
    assert untouched.validation_settings == description.validation_settings
    assert adapted.thresholds_from == (
        "120 mixtures of held-out training clips (per instrument, for macro F1)"
    )


def test_each_window_counts_alike(
    description: ModelDescription, network: CNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = validation_of(description, network, sounds(120))
    shape = description.windows
    clips = sounds(80, loudness=2.0, seed=1)
    windows = len(covering_windows(clips.lengths, shape.frames, shape.hop_frames).clips)

    def means(batch: int) -> torch.Tensor:
        monkeypatch.setattr("irmas_dist.inference.batch_statistics.BATCH_WINDOWS", batch)
        settings = AdaptationSettings(share=1, match=0)
        adapted = adapt_network(description, network, validation, clips, "there", settings)
        state = adapted.network.state_dict()
        return torch.cat([value for name, value in state.items() if "running_mean" in name])

    together, remainder_of_one = means(windows), means(windows - 1)
    torch.testing.assert_close(remainder_of_one, together, rtol=0.02, atol=0.02)


def test_labels_are_not_looked_at(description: ModelDescription, network: CNN) -> None:
    validation = validation_of(description, network, sounds(120))
    clips = sounds(60, seed=2)
    labelled = replace(clips, labels=np.ones_like(clips.labels))
    one, other = (
        adapt_network(description, network, validation, each, "x", AdaptationSettings())
        for each in (clips, labelled)
    )
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name], rtol=0, atol=0)


def test_music_of_one_instrument_invents_no_others(
    description: ModelDescription, network: CNN
) -> None:
    mixed = sounds(120)
    validation = validation_of(description, network, mixed)
    likeliest = validation.scores.argmax(axis=1)
    alike = np.flatnonzero(likeliest == np.bincount(likeliest).argmax())
    clips = mixed.select(np.resize(alike, 60))
    plain = Predictor(description, network, "cpu").score_clips(clips)
    adapted = adapt_network(
        description, network, validation, clips, "solo", AdaptationSettings(share=0)
    )
    scores = Predictor(adapted.description, adapted.network, "cpu").score_clips(clips)
    np.testing.assert_array_equal(scores, plain)
    assert adapted.description.adapted is not None
    assert adapted.description.adapted.match == 0
    assert adapted.description.thresholds == pytest.approx(description.thresholds)
    assert adapted.description.thresholds_from == description.thresholds_from
    assert "logits are not matched: the likeliest instruments of the clips" in adapted.notes[-1]
    # What is known of two others says nothing of the rest.
    others = [code for code in IRMAS.codes if IRMAS.codes.index(code) != likeliest[alike[0]]][:2]
    settings = AdaptationSettings(share=0, prevalence=dict.fromkeys(others, 0.1))
    adapted = adapt_network(description, network, validation, clips, "solo", settings)
    assert "logits are not matched" in adapted.notes[-1]


def test_what_is_known_not_to_play_is_never_predicted(
    description: ModelDescription, network: CNN
) -> None:
    validation = validation_of(description, network, sounds(120))
    settings = AdaptationSettings(prevalence=dict.fromkeys(IRMAS.codes, 0.2) | {"voi": 0.0})
    adapted = adapt_network(description, network, validation, sounds(60), "x", settings)
    assert adapted.description.thresholds["voi"] == pytest.approx(float(NEVER))
    record = adapted.description.adapted
    assert record is not None
    assert (record.scale["voi"], record.offset["voi"]) == (1.0, 0.0)
    assert record.scale["pia"] != 1.0


def test_few_clips_and_no_normalisation_are_said(
    description: ModelDescription, make_model: MakeModel
) -> None:
    model = make_model(normalisation="none")
    plain = read_description(model)
    network = load_network(model, plain)
    assert isinstance(network, CNN)
    validation = validation_of(plain, network, sounds(120))
    adapted = adapt_network(
        plain, network, validation, sounds(RELIABLE_CLIPS - 1), "x", AdaptationSettings()
    )
    assert "no batch normalisation" in adapted.notes[0]
    assert "few audible clips to adapt to: 49;" in adapted.notes[1]


def test_copies_of_a_clip_and_silence_have_no_deviation_to_match(
    description: ModelDescription, network: CNN
) -> None:
    validation = validation_of(description, network, sounds(120))
    copies = sounds(4).select(np.resize(np.arange(4), RELIABLE_CLIPS))
    settings = AdaptationSettings(prevalence={"pia": 0.5})
    adapted = adapt_network(description, network, validation, copies, "x", settings)
    assert adapted.description.adapted is not None
    assert set(adapted.description.adapted.scale.values()) == {1.0}
    assert "few audible clips to adapt to: 4;" in adapted.notes[0]
    assert "few different clips for a mean and a deviation: 4" in adapted.notes[1]


def test_copies_of_clips_are_no_further_evidence(
    description: ModelDescription, network: CNN
) -> None:
    validation, clips = validation_of(description, network, sounds(120)), sounds(60, seed=1)
    once, often = (
        adapt_network(
            description, network, validation, clips.select(np.tile(np.arange(60), times)), "x",
            AdaptationSettings(share=0),
        ).description
        for times in (1, 10)
    )  # fmt: skip
    assert once.adapted is not None
    assert once.adapted.match > 0
    np.testing.assert_allclose(once.threshold_array(), often.threshold_array(), atol=1e-4)


def test_silent_validation_clips_change_nothing(
    description: ModelDescription, network: CNN
) -> None:
    """They score 0 whatever the network is, which is no logit."""
    validation, clips = validation_of(description, network, sounds(120)), sounds(80, seed=1)
    labels = np.concatenate([validation.labels, np.zeros((6, len(IRMAS)), np.int8)])
    silence = replace(validation, labels=labels, scores=np.pad(validation.scores, ((0, 6), (0, 0))))
    settings = AdaptationSettings(share=0)
    plain, padded = (
        adapt_network(description, network, each, clips, "there", settings).description.adapted
        for each in (validation, silence)
    )
    assert plain is not None
    assert padded is not None
    assert plain.match > 0
    for name in ("scale", "offset"):
        assert getattr(padded, name) == pytest.approx(getattr(plain, name))


def test_one_threshold_for_all_heeds_no_instrument_that_never_plays(
    description: ModelDescription, network: CNN
) -> None:
    by_one = ThresholdSettings(rule="global", objective="micro_f1", evidence=1)
    description = description.model_copy(update={"thresholds_fitted": by_one})
    validation, clips = validation_of(description, network, sounds(120)), sounds(80, seed=1)
    absent = IRMAS.codes.index("voi")
    validation.labels[:, absent] = 0
    loud = validation.scores.copy()
    loud[:, absent] = 0.99
    settings = AdaptationSettings(prevalence=dict.fromkeys(IRMAS.codes, 0.2) | {"voi": 0.0})
    quiet, noisy = (
        adapt_network(description, network, each, clips, "there", settings).description
        for each in (validation, replace(validation, scores=loud))
    )
    assert noisy.thresholds == pytest.approx(quiet.thresholds)
    assert noisy.thresholds["pia"] < 1 < noisy.thresholds["voi"]


def test_what_cannot_be_adapted_is_refused(description: ModelDescription, network: CNN) -> None:
    validation = validation_of(description, network, sounds(120))
    silent = replace(sounds(5), frames=np.full((600, BANDS), -80, np.float16))
    once = description.model_copy(update={"adapted": AdaptationRecord(to="there")})
    for told, clips, prevalence, message in [
        (description, silent, {}, "nothing is audible"),
        (once, sounds(60), {}, "already adapted, to there: adapt the original"),
        (description, sounds(60), {"xyz": 0.5}, "xyz is none of cel"),
        (description, sounds(60), {"pia": 1.5}, "pia=1.5: must be from 0 to 1"),
        (description, sounds(60), dict.fromkeys(IRMAS.codes, 0.0), "no instrument plays"),
    ]:
        with pytest.raises(IrmasError, match=message):
            adapt_network(
                told, network, validation, clips, "x", AdaptationSettings(prevalence=prevalence)
            )


def test_a_prevalence_that_cannot_be_is_refused_before_anything_is_heard(
    irmas: Irmas, make_model: MakeModel, excerpts: list[Path], tmp_path: Path
) -> None:
    model, audio = make_model(normalisation="batch"), excerpts[0].parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irmas_dist.inference.adapt_model.log_mel", lambda *_: pytest.fail("heard"))
        ended = irmas("adapt", model, audio, tmp_path / "out", *["--prevalence", "xyz=0.5"])
    assert "xyz is none of cel" in ended.refusal(2)


def test_the_command_writes_a_model_that_says_so(
    irmas: Irmas, make_model: MakeModel, excerpts: list[Path], tmp_path: Path
) -> None:
    model = make_model(normalisation="batch")
    description = read_description(model)
    write_description(model, description.model_copy(update={"run": "0123abcd"}))
    network = load_network(model, description)
    assert isinstance(network, CNN)
    write_scores(model / "validation.parquet", validation_of(description, network, sounds(120)))
    audio, out = excerpts[0].parent, tmp_path / "adapted"
    code, _, err = irmas("adapt", model, audio, model)
    assert (code, "name another directory" in err) == (1, True)
    code, told, _ = irmas("adapt", model, audio, out, "--share", "0.25", "--prevalence", "pia=0.5",
                          "--json")  # fmt: skip
    assert code == 0
    summary = json.loads(told)
    assert summary["clips"] == len(list(audio.glob("*.wav")))
    record = read_description(out).adapted
    assert record is not None
    assert (record.share, record.prevalence) == (0.25, {"pia": 0.5})
    assert record.to == str(audio)
    assert read_description(out).run is None  # which has trained another model
    assert Predictor.load(out).file(excerpts[0]) != Predictor.load(model).file(excerpts[0])
    for arguments, message in [
        (("--prevalence", "pia"), "expected code=share, such as pia=0.9"),
        (("--prevalence", "pia=0.9", "--prevalence", "pia=0.1"), "pia is given twice"),
        (("--prevalence", "pia=nan"), "--prevalence pia=nan: must be from 0 to 1"),
        (("--share", "2"), "--share 2"),
        (("--part", "training"), "--part training is of a feature store"),
    ]:
        code, _, err = irmas("adapt", model, audio, tmp_path / "no", *arguments)
        assert (code, message in err) == (2, True)
    code, _, err = irmas("adapt", model, tmp_path / "gone", tmp_path / "no")
    assert (code, "gone: no such file or folder" in err) == (1, True)
    assert irmas("adapt", model, audio, out)[0] == 0  # again, with other settings
    others = make_model(normalisation="batch")
    other = description.data.model_copy(update={"store": "another"})
    write_description(others, description.model_copy(update={"data": other}))
    code, _, err = irmas("adapt", others, audio, tmp_path / "no")
    assert (code, "has no validation scores, by which it would be adapted" in err) == (1, True)
    write_scores(others / "validation.parquet", read_scores(model / "validation.parquet"))
    code, _, err = irmas("adapt", others, audio, out)
    assert (code, "an adaptation of another model" in err) == (1, True)
    unadapted = make_model(normalisation="batch")
    code, _, err = irmas("adapt", model, audio, unadapted)
    assert (code, "holds a model that is not adapted" in err) == (1, True)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "part-00000.parquet").touch()
    code, _, err = irmas("adapt", model, tmp_path / "begun", tmp_path / "no")
    assert (code, "begun is not a finished feature store" in err) == (1, True)
    code, _, err = irmas("adapt", out, audio, tmp_path / "twice")
    assert (code, "already adapted" in err) == (1, True)
    code, _, err = irmas("thresholds", out)
    assert (code, "fit that one's" in err) == (1, True)
    code, _, err = irmas("predict", model, excerpts[0], "--adapt-to", audio)
    assert code == 0
    assert "few audible clips" in err
    for name in ("p.csv", "p.parquet", "p.json"):
        predicted = str(tmp_path / name)
        assert irmas("predict", model, *excerpts, "--adapt-to", audio, "--out", predicted)[0] == 0
        labels = tmp_path / "labels.csv"
        with labels.open("w", newline="") as table:
            csv.writer(table).writerows([("path", "instruments"), *((x, "pia") for x in excerpts)])
        assert open_scores(predicted, str(labels)).adapted_to == str(audio)


def test_a_prevalence_that_few_validation_clips_have_is_said(
    description: ModelDescription, network: CNN
) -> None:
    """Of 120 clips, 20 have a piano, and nearly all that count."""
    validation = validation_of(description, network, sounds(120))
    told = "the stated prevalence is effectively that of 21 of the validation clips"
    for share, few in ((0.98, True), (0.2, False)):
        settings = AdaptationSettings(share=0.0, match=0.0, prevalence={"pia": share})
        notes = adapt_network(description, network, validation, sounds(60), "x", settings).notes
        assert any(note.startswith(told) for note in notes) == few
