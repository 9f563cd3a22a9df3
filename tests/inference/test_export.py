"""Exported files give the scores of the model, on audio of any length and several rates."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import soxr
import torch

from irmas_dist.corpus.mixdown import LOUDEST, SILENCE
from irmas_dist.errors import AudioError, IrmasError
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.evaluation.scores import write_scores
from irmas_dist.inference import export as exporting
from irmas_dist.inference.export_graph import Graph
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.ensemble import join_models
from irmas_dist.training.model_description import read_description
from irmas_dist.training.model_directory import scorer_identity
from tests.inference.conftest import Irmas, MakeModel, scores_of_songs

Exported = tuple[Predictor, Path, dict[str, int]]

KINDS = {
    "max": {"head": "max", "aggregation": "s2", "padding": 2},
    "flatten": {
        "head": "flatten",
        "aggregation": "han2017",
        "features": {"peak_normalise": False, "power": 1.0, "mel_scale": "htk", "n_fft": 513},
        "frames": 30,
        "hop_frames": 11,
        "normalisation": "batch",
        "pooling": "average",
    },
    "attention": {
        "head": "attention",
        "aggregation": "top3",
        "residual": True,
        "squeeze_excite": True,
        "normalisation": "ibn",
        "activation": "gelu",
    },
    "average": {
        "head": "average",
        "aggregation": "attention",
        "features": {"power": 1.0, "dtype": "float32", "sample_rate": 16_000, "fmax": 7_000.0},
        "normalisation": "instance",
        "activation": "silu",
        "dense": 0,
        "hop_frames": 50,
    },
}
"""Every head, rule, normalisation and kind of front end at least once."""

OTHER_RATES = {"max": 44_100, "flatten": 48_000, "attention": 16_000, "average": 96_000}
"""A sample rate besides the model's own for each."""


@pytest.fixture(
    scope="module",
    params=[
        "attention",
        *(pytest.param(kind, marks=pytest.mark.drill) for kind in ("average", "max", "flatten")),
    ],
)
def exported(
    request: pytest.FixtureRequest, make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    model = make_model(**KINDS[request.param])
    predictor = Predictor.load(model)
    out = tmp_path_factory.mktemp("exported")
    own, other = predictor.description.features.sample_rate, OTHER_RATES[request.param]
    summary = exporting.export(str(model), str(out), sample_rates=(own, other, own))
    assert summary.sample_rates == {
        "model.onnx": own, "model.pt2": own,
        f"model-{other}hz.onnx": other, f"model-{other}hz.pt2": other,
    }  # fmt: skip
    assert summary.files == list(summary.sample_rates) == list(summary.differences)
    return predictor, out, summary.sample_rates


def clips(predictor: Predictor, excerpts: list[Path], sample_rate: int) -> list[np.ndarray]:
    """Rendered clips at a rate, whole and truncated to many lengths."""
    settings = predictor.description.features
    found = []
    for path in excerpts:
        samples, rate = soundfile.read(path, dtype="float32")
        found.append(soxr.resample(samples.mean(axis=1), rate, sample_rate))
    music, rest = found[0][: 2 * sample_rate], np.zeros(4 * sample_rate)
    silent = SILENCE / 2 / np.abs(music).max() * music
    found += [np.concatenate([rest, music, rest]), silent, rest]
    hop, frames = settings.hop_length, predictor.description.windows.frames
    shortest = -(-2 * sample_rate // settings.sample_rate)
    for samples in (shortest, hop - 1, hop, (frames - 1) * hop, frames * hop, frames * hop + 1):
        found.append(found[0][5_000 : 5_000 + samples])
    return [clip.astype(np.float32) for clip in found]


def test_onnx_gives_the_scores_of_rendered_clips(exported: Exported, excerpts: list[Path]) -> None:
    predictor, out, rates = exported
    own = predictor.description.features.sample_rate
    for name in (name for name in rates if name.endswith(".onnx")):
        session = onnxruntime.InferenceSession(out / name)
        for clip in clips(predictor, excerpts, rates[name]):
            scores, windows = session.run(["scores", "window_scores"], {"samples": clip})
            expected = list(predictor(clip, rates[name]).values())
            allowed = exporting.tolerance(rates[name], own)
            assert scores.tolist() == pytest.approx(expected, abs=allowed)
            bounds = np.array([0, len(windows)])
            whole = aggregate(windows, bounds, predictor.description.windows.aggregation)[0]
            np.testing.assert_allclose(scores, whole, atol=1e-5)
            assert np.ptp(scores) > 0.1 or (np.abs(clip).max() < SILENCE and not scores.any())


def test_torch_export_gives_the_scores_of_rendered_clips(
    exported: Exported, excerpts: list[Path]
) -> None:
    predictor, out, rates = exported
    own = predictor.description.features.sample_rate
    for name in (name for name in rates if name.endswith(".pt2")):
        extra = {"metadata.json": ""}
        module = torch.export.load(out / name, extra_files=extra).module()
        metadata = exporting.metadata(predictor.description, rates[name])
        assert json.loads(extra["metadata.json"]) == metadata
        for clip in clips(predictor, excerpts, rates[name]):
            scores, _ = module(torch.from_numpy(clip))
            expected = list(predictor(clip, rates[name]).values())
            allowed = exporting.tolerance(rates[name], own)
            assert scores.tolist() == pytest.approx(expected, abs=allowed)


def test_samples_that_are_refused_elsewhere_have_no_scores(
    exported: Exported, excerpts: list[Path]
) -> None:
    predictor, out, _ = exported
    rate = predictor.description.features.sample_rate
    session = onnxruntime.InferenceSession(out / "model.onnx")
    module = torch.export.load(out / "model.pt2").module()
    for wrong in (np.nan, np.inf, -np.inf, -2 * LOUDEST):
        clip = clips(predictor, excerpts[:1], rate)[0]
        clip[len(clip) // 2] = wrong
        with pytest.raises(AudioError):
            predictor(clip, rate)
        for found in (session.run(None, {"samples": clip}), module(torch.from_numpy(clip))):
            assert all(np.isnan(np.array(each.tolist())).all() for each in found)


def test_an_onnx_file_describes_its_input_and_outputs(exported: Exported) -> None:
    predictor, out, rates = exported
    for name in (name for name in rates if name.endswith(".onnx")):
        session = onnxruntime.InferenceSession(out / name)
        (samples,) = session.get_inputs()
        assert (samples.name, samples.shape) == ("samples", ["samples"])
        assert [(o.name, o.shape) for o in session.get_outputs()] == [
            ("scores", [11]), ("window_scores", ["windows", 11]),
        ]  # fmt: skip
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata["instruments"]) == predictor.description.instruments
        assert json.loads(metadata["thresholds"]) == predictor.description.thresholds
        assert int(metadata["sample_rate"]) == rates[name]
        features = predictor.description.features
        assert int(metadata["model_sample_rate"]) == features.sample_rate


def test_no_path_of_this_machine_is_exported(exported: Exported) -> None:
    _, out, rates = exported
    for name in rates:
        assert str(Path(exporting.__file__).parents[2]).encode() not in (out / name).read_bytes()
        if name.endswith(".onnx"):
            model = onnx.load(out / name)
            assert not any(node.metadata_props for node in model.graph.node)


def test_an_export_that_is_not_exact_is_not_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The graph has other weights than the model that it is checked against.
    other = Predictor.load(model, device="cpu")
    with torch.no_grad():
        other.network.layers[-1].bias += 0.01
    graph = Graph(other.description, other.network)
    monkeypatch.setattr(exporting, "Graph", lambda *_: graph)
    with pytest.raises(IrmasError, match=r"model.onnx does not reproduce the model: on "):
        exporting.export(str(model), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# The command


def test_a_model_is_exported_with_its_card(
    irmas: Irmas, make_model: MakeModel, excerpts: list[Path]
) -> None:
    model = make_model()
    identity = scorer_identity(read_description(model))
    write_scores(model / "scores.parquet", replace(scores_of_songs(), scored_by=identity))
    Path("shared").mkdir()
    for name in ("model-96000hz.onnx", "model-96000hz.pt2"):  # of an earlier export
        Path("shared", name).write_bytes(b"its model_sample_rate")
    Path("shared/notes.onnx").touch()
    code, out, err = irmas(
        "export", model, "--out", "shared", "--check-on", excerpts[0], "--check-on", excerpts[1],
        "--sample-rate", 22_050, "--sample-rate", 44_100,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "model.onnx (22050 Hz): on 11 clips, scores differ from PyTorch's by " in out
    assert sorted(path.name for path in Path("shared").iterdir()) == [
        "README.md", "model-44100hz.onnx", "model-44100hz.pt2", "model.onnx", "model.pt2",
        "notes.onnx",
    ]  # fmt: skip
    card = Path("shared/README.md").read_text()
    assert "| `model-44100hz.onnx` | ONNX | 44100 Hz |\n" in card
    assert "On 11 clips, scores of `model-44100hz.pt2` were those of PyTorch to 0.01 " in card
    assert "On 11 clips, scores of `model.onnx` were those of PyTorch to 0.0001" in card
    assert "On 40 clips of 20 songs (testing)" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("empty", "empty is not a model directory: it has no model.json"),
        ("MODEL --check-on missing.wav", "missing.wav: no such file"),
        ("MODEL --check-on empty", "empty holds no audio files"),
        ("MODEL --out other", "other/model.onnx would be replaced, and is of no export"),
        ("MODEL --out project", "project/README.md would be replaced, and is of no export"),
        ("MODEL --out store", "store holds a feature store: name another directory"),
        ("MODEL --sample-rate 44099", "44099 Hz cannot be resampled to the model's 22050 Hz in a "),
    ],
)
def test_what_cannot_be_exported(
    irmas: Irmas, model: Path, tmp_path: Path,
    arguments: str, message: str,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "features.json").touch()
    for name in ("other/model.onnx", "project/README.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    line = [str(model) if word == "MODEL" else word for word in arguments.split()]
    code, out, err = irmas("export", *line)
    assert (code, out) == (1, "")
    assert err.startswith(f"irmas: {message}")
    assert err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(
    irmas: Irmas, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, out, err = irmas("export", model)
    assert (code, out) == (1, "")
    assert err == "irmas: irmas export needs onnxscript: pip install 'irmas-dist[export]'\n"


@pytest.mark.drill
def test_an_ensemble_is_exported_as_any_model(make_model: MakeModel, tmp_path: Path) -> None:
    """An export is checked against the predictor before it is written."""
    models = [make_model(aggregation=rule, width=width) for rule, width in (("max", 4), ("s2", 6))]
    for model in models:
        write_scores(model / "validation.parquet", scores_of_songs())
    join_models([str(model) for model in models], str(tmp_path / "all"))
    summary = exporting.export(str(tmp_path / "all"), str(tmp_path / "exported"))
    assert max(summary.differences.values()) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "exported" / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["aggregation"] == "max, s2"
