"""Export: a model as ONNX and ``torch.export`` files, checked before they are written.

An exported graph takes the samples of one channel, any number of them, at one sample rate that is
chosen at export; it resamples them to the model's own. The caller decodes and mixes down. A file
per rate, rather than one file with a branch per rate, needs no second input and no control flow,
which many runtimes and GPU backends lack.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
import soxr
import torch
from torch.fx.experimental import _config as config

from irmas_dist import storage
from irmas_dist.corpus.audio import Float32, read_audio
from irmas_dist.corpus.mixdown import SILENCE, Downmix, mix_down
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import find_audio
from irmas_dist.inference.export_graph import Graph
from irmas_dist.inference.predictor import Predictor
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import MODEL_FILE, refuse_other_results
from irmas_dist.training.model_description import ModelDescription

EXPORTED = re.compile(r"model(-\d+hz)?\.(onnx|pt2)")
"""Names of what is exported."""

CARD = "README.md"
"""File name of the model card beside it, which model hubs show."""

OWN = b"model_sample_rate"
"""What an exported file has in its metadata."""

CLIP_SECONDS = (0.01, 0.4, 1.7, 5.0, 19.3)
"""Lengths of the synthetic clips that every export is checked on."""


def tolerance(sample_rate: int, model_rate: int) -> float:
    """Return the largest allowed difference between a score of an export and the predictor's.

    Torchaudio's resampler and soxr, the predictor's, differ near the Nyquist frequency and where
    a clip begins abruptly. Of a rate below the model's, the bands above its Nyquist frequency hold
    nothing but the resampler's residue.
    """
    if sample_rate == model_rate:
        return 1e-4
    return 0.01 if sample_rate > model_rate else 0.1


@dataclass(frozen=True)
class ExportSummary:
    """The exported files, and how far their scores are from the predictor's.

    Attributes:
        path: The directory.
        files: Names of the files in it.
        clips: Number of clips that each was checked on.
        differences: Largest difference of a score from the predictor's, by file.
        sample_rates: Sample rate of the graph's input in Hz, by file.
    """

    path: str
    files: list[str]
    clips: int
    differences: dict[str, float]
    sample_rates: dict[str, int]


def export(
    model: str, out: str, audio: Sequence[str] = (), sample_rates: Sequence[int] = ()
) -> ExportSummary:
    """Export a model to ONNX and to ``torch.export``'s format, and check both.

    Args:
        model: Model directory.
        out: Directory, a path or URL, for ``model.onnx`` and ``model.pt2``; those that take
            another sample rate than the model's are called ``model-44100hz.onnx`` and so on.
        audio: Files and folders to check the export on, besides synthetic clips.
        sample_rates: Rates to export for, in Hz; none: the model's own.

    Raises:
        IrmasError: A package is not installed, the model or a file cannot be used, ``out`` has
            such files that are no export, the FFT or a resampling kernel is too large for a graph,
            or scores differ by more than `tolerance`; then nothing is written.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise IrmasError(f"irmas export needs {package}: pip install 'irmas-dist[export]'")
    storage.resolve(out)  # Nothing can be written to a URL of an unknown store.
    refuse_other_results(out, MODEL_FILE)
    _refuse_foreign(out)
    predictor = Predictor.load(model, device="cpu")
    with lock_directory(out):
        return _export(predictor, out, audio, sample_rates)


def _refuse_foreign(out: str) -> None:
    """Refuse a directory with files that an export would replace, and that are none."""
    names = storage.list_files(out)
    exported = [name for name in names if EXPORTED.fullmatch(name)]
    foreign = [name for name in exported if OWN not in storage.read_bytes(storage.join(out, name))]
    if not exported and CARD in names:
        foreign = [CARD]
    if foreign:
        raise IrmasError(
            f"{storage.join(out, foreign[0])} would be replaced, and is of no export: name another "
            "directory with --out"
        )


def _export(
    predictor: Predictor, out: str, audio: Sequence[str], sample_rates: Sequence[int]
) -> ExportSummary:
    description = predictor.description
    own_rate = description.features.sample_rate
    recordings = [decode_mono(path, description.features.downmix) for path in find_audio(audio)]
    contents: dict[str, bytes] = {}
    differences: dict[str, float] = {}
    rates: dict[str, int] = {}
    for rate in dict.fromkeys(sample_rates or [own_rate]):
        clips = [*_synthetic(rate), *(soxr.resample(*each, rate, "HQ") for each in recordings)]
        expected = np.array([list(predictor(clip, rate).values()) for clip in clips])
        program = traced(Graph(description, predictor.network, rate))
        stem = "model" if rate == own_rate else f"model-{rate}hz"
        files = {
            f"{stem}.onnx": _to_onnx(program, description, rate),
            f"{stem}.pt2": _to_pt2(program, description, rate),
        }
        for name, content in files.items():
            scores = _onnx_scores if name.endswith(".onnx") else _pt2_scores
            gaps = np.abs(np.array(scores(content, clips)) - expected).max(axis=1)
            allowed = tolerance(rate, own_rate)
            # In this form, a score that is not a number fails as well.
            if not (gaps <= allowed).all():
                worst = int(np.argmax(gaps))
                raise IrmasError(
                    f"{name} does not reproduce the model: on clip {worst + 1} of "
                    f"{len(clips)} ({len(clips[worst]) / rate:.2f} s) a score differs by "
                    f"{gaps[worst]:.2g}, and {allowed:g} is allowed"
                )
            contents[name], rates[name] = content, rate
            differences[name] = float(gaps.max())
    for name, content in contents.items():
        with storage.write_atomically(storage.join(out, name)) as stream:
            stream.write(content)
    for name in storage.list_files(out):  # of other rates, perhaps of another model
        if EXPORTED.fullmatch(name) and name not in contents:
            storage.remove(storage.join(out, name))
    return ExportSummary(out, list(contents), len(clips), differences, rates)


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """Trace a graph for any number of samples, one or more."""
    samples = torch.export.Dim("samples", min=1, max=2**31 - 1)
    # Oblivious to the size of one, as the ONNX exporter is: a single window is no special case.
    oblivious = config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), oblivious:
        program = torch.export.export(
            graph, (torch.zeros(400_000),), dynamic_shapes={"samples": {0: samples}}
        )
    for node in program.graph.nodes:
        # A stack trace has paths of this machine.
        node.meta.pop("stack_trace", None)
    return program


def metadata(description: ModelDescription, sample_rate: int) -> dict[str, str]:
    """Return what is needed to run a graph that takes samples at this rate.

    Window and hop are in frames; a frame has ``hop_length`` samples at ``model_sample_rate``.
    """
    thresholds = description.threshold_array()
    return {
        "sample_rate": str(sample_rate),
        "model_sample_rate": str(description.features.sample_rate),
        "instruments": json.dumps(description.instruments),
        "thresholds": json.dumps(description.vocabulary.by_code(thresholds)),
        "aggregation": ", ".join(dict.fromkeys(part.aggregation for part in description.parts)),
        "window_frames": str(description.windows.frames),
        "window_hop_frames": str(description.windows.hop_frames),
        "hop_length": str(description.features.hop_length),
    }


def _to_onnx(
    program: torch.export.ExportedProgram, description: ModelDescription, sample_rate: int
) -> bytes:
    import onnx

    # It warns about decompositions of packages that no model uses.
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
    # Shapes of intermediate values refer to the names that have just been replaced.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.helper.set_model_props(model, metadata(description, sample_rate))
    model.producer_name = "irmas-dist"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _to_pt2(
    program: torch.export.ExportedProgram, description: ModelDescription, sample_rate: int
) -> bytes:
    content = BytesIO()
    extra = {"metadata.json": json.dumps(metadata(description, sample_rate))}
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


def _synthetic(rate: int) -> Iterator[Float32]:
    """Yield silence, noise around its level, and chords that swell and fade, of several lengths."""
    rng = np.random.default_rng(0)
    yield np.zeros(rate, np.float32)
    noise = rng.uniform(-1, 1, 2 * rate).astype(np.float32)
    noise /= np.abs(noise).max()
    for level in (0.99, 1.01):
        yield np.float32(level * SILENCE) * noise
    yield np.concatenate([0.5 * noise, np.zeros(3 * rate, np.float32), 0.1 * noise])
    for seconds in CLIP_SECONDS:
        times = np.arange(max(int(seconds * rate), 1)) / rate
        clip = 0.01 * rng.standard_normal(len(times))
        for pitch in rng.uniform(80, min(1_000, rate / 8), size=5):
            swell = np.sin(np.pi * (times * rng.uniform(0.1, 1) + rng.uniform(0, 1))) ** 2
            for harmonic in range(1, 5):
                clip += swell * np.sin(2 * np.pi * harmonic * pitch * times) / (10 * harmonic)
        yield clip.astype(np.float32)


def decode_mono(path: str, downmix: Downmix) -> tuple[Float32, int]:
    """Return an audio file as one channel, shape (samples,), and its sample rate in Hz.

    Raises:
        IrmasError: The file cannot be used.
    """
    try:
        samples, rate = read_audio(path)
        return mix_down(samples, downmix)[0], rate
    except IrmasError as error:
        raise IrmasError(f"{path}: {error}") from error
