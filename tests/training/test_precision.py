"""How a device computes: bfloat16 where it supports it, compiled on request."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.data import TrainingData
from irmas_dist.training.describe import describe
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_directory import pack_weights, save_model
from irmas_dist.training.precision import compile_network, computes_in_bfloat16, without_tf32
from tests.training.test_learner import changed, without_dropout


def test_bfloat16_is_chosen_only_where_the_device_supports_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    assert computes_in_bfloat16(torch.device("cpu")) == native


def test_tf32_is_restored_by_the_last_of_the_threads_that_do_without() -> None:
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    assert before != "ieee"
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(without_tf32)
        second.enter_context(without_tf32)
        first.close()
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_a_program_may_have_set_the_precision_of_convolutions_itself(
    precision: str,
) -> None:
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = precision
    try:
        with without_tf32:
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == precision
    finally:
        convolutions.fp32_precision = before


@pytest.mark.drill
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_a_compiled_network_learns_the_same(data: TrainingData, settings: LearnerSettings) -> None:
    plain = without_dropout(changed(settings, "model", blocks=1, head="average", dense=0))
    losses = []
    for compiled in (False, True):
        learner = Learner(data, changed(plain, "training", compile=compiled))
        losses.append([learner.train_epoch()["train_loss"] for _ in range(2)])
        assert all(not name.startswith("_orig_mod") for name in learner.network.state_dict())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_compiling_without_a_compiler_is_refused(
    data: TrainingData, settings: LearnerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(IrmasError, match=r"training\.compile=true needs a C\+\+ compiler"):
        Learner(data, changed(settings, "training", compile=True))


def test_compiling_for_a_gpu_needs_a_compiler_of_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", {"clang": "/usr/bin/clang"}.get)
    network = nn.Linear(2, 2)
    compile_network(network, torch.device("cuda"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(IrmasError, match="needs a C compiler on a GPU and there is none"):
        compile_network(network, torch.device("cuda"))


def test_bfloat16_moves_the_loss_curve_by_less_than_two_percent(
    data: TrainingData, settings: LearnerSettings
) -> None:
    plain = without_dropout(changed(settings, "training", epochs=6))
    curves = []
    for precision in ("float32", "bfloat16"):
        learner = Learner(data, changed(plain, "training", precision=precision))
        epochs = [learner.run_epoch() for _ in range(6)]
        curves.append([epoch[name] for epoch in epochs for name in ("train_loss", "val_loss")])
    assert curves[0] != curves[1]
    assert curves[1] == pytest.approx(curves[0], rel=0.02)


def test_thresholds_are_fitted_to_what_the_trained_model_scores(
    data: TrainingData, settings: Recipe, tmp_path: Path
) -> None:
    precise = build_recipe(settings.model_dump(), {"training.precision": "bfloat16"}, "the test")
    learner = Learner(data, precise)
    learner.run_epoch()
    description, validation = describe(learner, precise.model_dump(mode="json"))
    save_model(str(tmp_path), pack_weights(learner.network), description, validation)
    model = Predictor.load(tmp_path, device="cpu")
    scores = model.score_clips(data.threshold_clips())
    np.testing.assert_allclose(validation.scores, scores, atol=1e-5)
