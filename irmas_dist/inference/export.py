"""A model for other programs: ONNX and ``torch.export``, checked before they are written.

The exported graph takes the samples of one channel at the model's own rate, any number of them;
decoding, mixing channels down and resampling are the caller's.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import soxr
import torch

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.audio import Float32, read_audio, to_mono
from irmas_dist.inference.export_graph import Graph
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.model_directory import ModelDescription

TOLERANCE = 1e-4
"""Largest difference of a score from the predictor's."""

ONNX_NAME = "model.onnx"
PT2_NAME = "model.pt2"

CLIP_SECONDS = (0.01, 0.4, 1.7, 5.0, 19.3)
"""Lengths of the made-up clips that every export is checked on."""


@dataclass(frozen=True)
class ExportSummary:
    """What was exported, and how exactly it computes what the model does.

    Attributes:
        path: The directory.
        files: Names of the files in it.
        clips: Clips that it was checked on.
        differences: Largest difference of a score from the predictor's, by file.
    """

    path: str
    files: list[str]
    clips: int
    differences: dict[str, float]


def export(predictor: Predictor, out: str, audio: Sequence[str] = ()) -> ExportSummary:
    """Export a model to ONNX and to ``torch.export``'s format, and check both.

    Args:
        predictor: The model.
        out: Directory, a path or URL, for ``model.onnx`` and ``model.pt2``.
        audio: Files to check it on, besides made-up clips from silence to 19 s of chords.

    Raises:
        IrmasError: The packages that this takes are not installed, a file cannot be used, the
            model's FFT is too long, or scores differ by more than `TOLERANCE`; then nothing
            is written.
    """
    _require_packages()
    description = predictor.description
    clips = [*_made_up(description.features), *_decoded(audio, description.features)]
    expected = [predictor(clip, description.features.sample_rate) for clip in clips]
    program = traced(Graph(description, predictor.network))
    contents = {ONNX_NAME: _to_onnx(program, description), PT2_NAME: _to_pt2(program, description)}
    runs = {
        ONNX_NAME: _onnx_scores(contents[ONNX_NAME], clips),
        PT2_NAME: _pt2_scores(contents[PT2_NAME], clips),
    }
    differences = {}
    for name, scores in runs.items():
        gaps = [
            float(np.abs(got - np.array(list(wanted.values()))).max())
            for got, wanted in zip(scores, expected, strict=True)
        ]
        differences[name] = max(gaps)
        # Written so that a score that is not a number fails as well.
        if not all(gap <= TOLERANCE for gap in gaps):
            worst = int(np.argmax(gaps))
            raise IrmasError(
                f"{name} would not compute what the model does: on clip {worst + 1} of "
                f"{len(clips)} ({len(clips[worst]) / description.features.sample_rate:.2f} s) a "
                f"score differs by {gaps[worst]:.2g}, and {TOLERANCE:g} is allowed"
            )
    for name, content in contents.items():
        with storage.write_atomically(storage.join(out, name)) as stream:
            stream.write(content)
    return ExportSummary(out, list(contents), len(clips), differences)


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """Trace a graph for any number of samples, one or more."""
    samples = torch.export.Dim("samples", min=1, max=2**31 - 1)
    with torch.no_grad(), _unspecialised():
        program = torch.export.export(
            graph, (torch.zeros(400_000),), dynamic_shapes={"samples": {0: samples}}
        )
    for node in program.graph.nodes:
        # Where in this code it came from, by paths of this machine.
        node.meta.pop("stack_trace", None)
    return program


@contextmanager
def _unspecialised() -> Iterator[None]:
    """Have one window treated like many, as the ONNX exporter does when it traces."""
    from torch.fx.experimental import _config

    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        yield


def metadata(description: ModelDescription) -> dict[str, str]:
    """Return what whoever runs the graph must know, as the ONNX file carries it."""
    return {
        "sample_rate": str(description.features.sample_rate),
        "instruments": json.dumps(description.instruments),
        "thresholds": json.dumps(description.thresholds),
        "aggregation": description.windows.aggregation,
        "window_frames": str(description.windows.frames),
        "window_hop_frames": str(description.windows.hop_frames),
        "hop_length": str(description.features.hop_length),
    }


def _to_onnx(program: torch.export.ExportedProgram, description: ModelDescription) -> bytes:
    import onnx

    # It warns of decompositions for packages that are not installed, and that no model has.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        translated = torch.onnx.export(
            program,
            input_names=["samples"],
            output_names=["scores", "window_scores"],
            dynamo=True,
            verbose=False,
        )
    assert translated is not None
    model: Any = translated.model_proto
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "samples"
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "windows"
    # What the tracer noted of shapes in between, in terms that have just been renamed.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.helper.set_model_props(model, metadata(description))
    model.producer_name = "irmas-dist"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _to_pt2(program: torch.export.ExportedProgram, description: ModelDescription) -> bytes:
    content = BytesIO()
    extra = {"metadata.json": json.dumps(metadata(description))}
    torch.export.save(program, content, extra_files=extra)
    return content.getvalue()


def _onnx_scores(content: bytes, clips: Sequence[Float32]) -> list[Float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [session.run(["scores"], {"samples": clip})[0] for clip in clips]


def _pt2_scores(content: bytes, clips: Sequence[Float32]) -> list[Float32]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        module = torch.export.load(BytesIO(content)).module()
    with torch.inference_mode():
        return [module(torch.from_numpy(clip))[0].numpy() for clip in clips]


def _made_up(settings: LogMelSettings) -> Iterator[Float32]:
    """Yield silence, and chords over noise that come and go, of several lengths."""
    rng = np.random.default_rng(0)
    rate = settings.sample_rate
    yield np.zeros(rate, np.float32)
    for seconds in CLIP_SECONDS:
        times = np.arange(max(int(seconds * rate), 1)) / rate
        clip = 0.01 * rng.standard_normal(len(times))
        for pitch in rng.uniform(80, min(1_000, rate / 8), size=5):
            swell = np.sin(np.pi * (times * rng.uniform(0.1, 1) + rng.uniform(0, 1))) ** 2
            for harmonic in range(1, 5):
                clip += swell * np.sin(2 * np.pi * harmonic * pitch * times) / (10 * harmonic)
        yield clip.astype(np.float32)


def _decoded(audio: Sequence[str], settings: LogMelSettings) -> Iterator[Float32]:
    for path in audio:
        try:
            samples, rate = read_audio(path)
            mono = to_mono(samples, settings.downmix)
        except IrmasError as error:
            raise IrmasError(f"{path}: {error}") from error
        resampled: Float32 = soxr.resample(mono, rate, settings.sample_rate, quality="HQ")
        yield resampled


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise IrmasError(
            f"irmas export needs {error.name}: pip install 'irmas-dist[export]'"
        ) from error
