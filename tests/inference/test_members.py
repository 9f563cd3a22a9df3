"""An ensemble is used as any model: its scores are the means of its members' calibrated scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.platt import Platt
from irmas_dist.evaluation.scores import write_scores
from irmas_dist.inference.export_graph import Graph
from irmas_dist.inference.predict import predict
from irmas_dist.inference.predictor import Predictor
from irmas_dist.reports.model_card import model_card
from irmas_dist.training.ensemble import join_models
from irmas_dist.training.model_description import read_description, write_description
from irmas_dist.training.model_directory import load_network, pack_weights, save_model
from irmas_dist.training.records import AdaptationRecord
from tests.inference.conftest import MakeModel, scores_of_songs


@pytest.fixture(scope="module")
def members(make_model: MakeModel) -> list[Path]:
    """Models of several architectures and aggregations."""
    models = [
        make_model(aggregation="mean"),
        make_model(aggregation="max", head="max", width=6),
        make_model(aggregation="s2", head="attention", residual=True, normalisation="batch"),
    ]
    for model in models:
        write_scores(model / "validation.parquet", scores_of_songs())
    return models


@pytest.fixture(scope="module")
def ensemble(members: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ensemble") / "all"
    join_models([str(model) for model in members], str(out))
    return out


def calibrations(ensemble: Path) -> list[Platt]:
    parts = Predictor.load(ensemble).description.members
    return [Platt(**dict(part.calibration)) for part in parts if part.calibration]


def test_scores_are_the_means_of_the_members_calibrated_scores(
    members: list[Path], ensemble: Path, excerpts: list[Path]
) -> None:
    found = Predictor.load(ensemble).timeline(excerpts[0])
    clips, windows = [], []
    for model, calibrate in zip(members, calibrations(ensemble), strict=True):
        alone = Predictor.load(model).timeline(excerpts[0])
        clips.append(calibrate(np.array(list(alone.scores.values()), np.float32)))
        windows.append(calibrate(alone.windows))
    np.testing.assert_allclose(list(found.scores.values()), np.mean(clips, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.windows, np.mean(windows, axis=0), atol=1e-5)
    assert np.ptp(clips, axis=0).max() > 0.05


def test_what_its_members_listened_to_is_the_ensembles(
    make_model: MakeModel, tmp_path: Path
) -> None:
    """Thresholds of adapted members cannot be fitted again to validation, and "never" stays."""
    models = [make_model(), make_model(width=6)]
    for number, model in enumerate(models):
        write_scores(model / "validation.parquet", scores_of_songs())
        one = read_description(model)
        never = {"pia": float(NEVER)} | ({"voi": float(NEVER)} if number else {})
        changed = {"thresholds": one.thresholds | never}
        if number:
            changed["adapted"] = AdaptationRecord(to="a concert", clips=60)
        write_description(model, one.model_copy(update=changed))
    for order in (models, models[::-1]):
        out = tmp_path / order[0].parent.name
        made = join_models([str(model) for model in order], str(out))
        assert made.adapted == AdaptationRecord(to="a concert")
        assert [bool(part.adapted) for part in made.members] == [m is models[1] for m in order]
        assert made.thresholds_from.startswith("means of the calibrated thresholds of 2 models")
        assert made.thresholds["pia"] == NEVER
        assert 0 < made.thresholds["voi"] < 1


def test_the_same_validation_is_of_the_same_store(make_model: MakeModel, tmp_path: Path) -> None:
    """Names of mixtures are alike in every store."""
    models = [make_model(), make_model(width=6)]
    for number, model in enumerate(models):
        write_scores(model / "validation.parquet", scores_of_songs())
        one = read_description(model)
        changed = {"data": one.data.model_copy(update={"store": str(number)})}
        write_description(model, one.model_copy(update=changed))
    join_models([str(model) for model in models], str(tmp_path / "joint"))
    assert not (tmp_path / "joint" / "validation.parquet").exists()
    # The same settings with other weights are another model.
    one = read_description(models[1])
    network = load_network(models[1], one)
    save_model(models[1], pack_weights(network.apply(doubled)), one, scores_of_songs())
    with pytest.raises(IrmasError, match="joint holds another model"):
        join_models([str(model) for model in models], str(tmp_path / "joint"))


def doubled(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear):
        module.weight.data *= 2


def test_silence_scores_0(ensemble: Path) -> None:
    scores = Predictor.load(ensemble)(np.zeros(60_000, np.float32), 22_050)
    assert set(scores.values()) == {0.0}


def test_an_ensemble_predicts_files(ensemble: Path, excerpts: list[Path]) -> None:
    (prediction,) = predict(str(ensemble), [str(excerpts[0])])
    predictor = Predictor.load(ensemble)
    assert prediction.scores == predictor.file(excerpts[0])
    assert sorted(prediction.instruments) == sorted(predictor.decide(prediction.scores))


def test_its_graph_gives_its_scores(ensemble: Path) -> None:
    predictor = Predictor.load(ensemble, device="cpu")
    graph = Graph(predictor.description, predictor.network)
    rng = np.random.default_rng(0)
    rate = predictor.description.features.sample_rate
    for samples in (rng.uniform(-0.5, 0.5, 3 * rate), np.zeros(rate)):
        clip = samples.astype(np.float32)
        with torch.inference_mode():
            scores, windows = graph(torch.from_numpy(clip))
        np.testing.assert_allclose(scores, list(predictor(clip, rate).values()), atol=1e-4)
        assert windows.shape[1] == len(scores)


def test_its_card_says_what_it_is(ensemble: Path) -> None:
    card = model_card("all", Predictor.load(ensemble).description)
    assert "The mean of 3 convolutional networks that predicts" in card
    assert "each from those of its windows by `mean`, `max`, `s2` |" in card
    assert "- member 2: features: fingerprint `4567`" in card
    assert "surest" not in card
    assert "\n\n\n" not in card
