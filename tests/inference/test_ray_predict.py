"""Ray actors predict what one process predicts."""

from pathlib import Path
from typing import Any

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.inference.ray_predict import _predicted, predict_with_actors
from tests.inference.conftest import Irmas, predictions, table


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("gpus", [pytest.param(0, marks=pytest.mark.drill), 1])
def test_actors_predict_what_one_process_predicts(
    irmas: Irmas, model: Path, folder: Path, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one stage, and in two as where there are GPUs; both on CPUs here."""
    monkeypatch.setattr("irmas_dist.inference.ray_predict.gpu_count", lambda: gpus)
    monkeypatch.setattr("irmas_dist.inference.ray_predict.SCORER_GPUS", 0.0)
    alone = irmas("predict", model, "music", "missing.wav", "--json", "--timeline", "t1")
    distributed = irmas(
        "predict", model, "music", "missing.wav", "--json", "--timeline", "t2", "--workers", 2
    )
    expected, found = predictions(alone, code=1), predictions(distributed, code=1)
    assert [each["path"] for each in found] == [each["path"] for each in expected]
    for one, other in zip(expected, found, strict=True):
        assert other.get("error") == one.get("error")
        assert other.get("scores", {}) == pytest.approx(one.get("scores", {}), abs=1e-5)
        assert other.get("instruments") == one.get("instruments")
    for name in ("a.wav.csv", "b/b [live].wav.csv"):
        lines, others = (table(Path(times, name).read_text()) for times in ("t1", "t2"))
        for line, other in zip(lines, others, strict=True):
            assert {k: float(v) for k, v in line.items()} == pytest.approx(
                {k: float(v) for k, v in other.items()}, abs=1e-5
            )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_accepts_what_is_asked_of_a_gpu(model: Path) -> None:
    """It checks options when a dataset is described, not when it is computed."""
    import ray.data

    files = ray.data.from_items([{"path": b"a.wav", "named": b"a.wav"}])
    scored = _predicted(files, str(model), timeline=False, size=2, gpus=1)
    assert "_Scorer" in str(scored)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_that_cannot_start_is_told_in_one_line(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where torch cannot use the GPU that Ray has found."""

    class Failing:
        def __init__(self, **_: Any) -> None:
            raise RuntimeError("no driver\nfor this GPU")

        def __call__(self, block: Any) -> Any:
            return block

    monkeypatch.setattr("irmas_dist.inference.ray_predict._PredictionActor", Failing)
    with pytest.raises(IrmasError, match=r"^an actor that predicts has died: .*for this GPU$"):
        list(predict_with_actors(str(model), [str(folder / "a.wav")], actors=1))
