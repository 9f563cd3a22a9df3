"""Predicting files on one core: irmas, and a script as one would write it by hand.

Warm: each runs in its own process on one thread, and they take turns on the same rendered excerpts
of 5 to 20 s; prints the seconds of audio predicted per second of CPU, and the ratio with its
quartiles, for the network of each recipe. Weights are random, as speed does not depend on them;
scores must agree. The larger the network, the larger the share of its convolutions, which both
compute with oneDNN. Cold: from the command to its end on one excerpt, in turns, in a new process
each time. Writes ``benchmarks/results/predict.json``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Before the import of numpy, here and in child processes.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # One core is measured, also where there is a GPU.

import numpy as np
import soundfile
from processes.arguments import parser_of
from processes.machine import machine

ROOT = Path(__file__).parents[1]
RECIPES = ("demo", "seed", "han2016")
ROUNDS = 9
COLD_ROUNDS = 7
COLD_RECIPE = "han2016"
FILES = 6


def by_hand(model: str) -> Callable[[str], list[float]]:
    import librosa
    import torch
    from safetensors.torch import load_file

    from irmas_dist.config.model import ModelSettings
    from irmas_dist.models.cnn import CNN

    description = json.loads(Path(model, "model.json").read_text())
    front, windowing = description["features"], description["windows"]
    frames, hop = windowing["frames"], windowing["hop_frames"]
    mean = torch.tensor(description["normalisation"]["mean"])[:, None]
    std = torch.tensor(description["normalisation"]["std"])[:, None]
    settings = ModelSettings(**description["model"])
    network = CNN(settings, front["bands"], frames, len(description["instruments"]))
    network.load_state_dict(load_file(Path(model, "model.safetensors")))
    network.eval()

    def score(path: str) -> list[float]:
        samples, rate = librosa.load(path, sr=front["sample_rate"])
        samples = samples / np.abs(samples).max()
        mel = librosa.feature.melspectrogram(
            y=samples, sr=rate, n_fft=front["n_fft"], hop_length=front["hop_length"],
            n_mels=front["bands"], pad_mode="constant",
        )  # fmt: skip
        mel = np.log(np.maximum(mel, front["floor"]))
        last = max(mel.shape[1] - frames, 0)
        starts = [*range(0, last, hop), last]
        windows = torch.from_numpy(np.stack([mel[:, start : start + frames] for start in starts]))
        with torch.no_grad():
            scores = network((windows - mean) / std).sigmoid().mean(dim=0)
        return scores.tolist()

    return score


def ours(model: str) -> Callable[[str], list[float]]:
    from irmas_dist.inference.predictor import Predictor

    predictor = Predictor.load(model, device="cpu")
    return lambda path: list(predictor.file(path).values())


CONTESTANTS = {"by_hand": by_hand, "ours": ours}


def contestant(name: str, model: str, files: list[str], turns: Connection) -> None:
    """Warm up, then predict all files at every request; send the CPU seconds."""
    score = CONTESTANTS[name](model)
    turns.send([score(file) for file in files])
    while turns.recv():
        began = time.process_time()
        for file in files:
            score(file)
        turns.send(time.process_time() - began)


def warm(model: str, files: list[str]) -> dict[str, list[float]]:
    """Return the CPU seconds of every round, by contestant."""
    context = get_context("spawn")
    lines, processes = {}, []
    for name in CONTESTANTS:
        lines[name], theirs = context.Pipe()
        processes.append(context.Process(target=contestant, args=(name, model, files, theirs)))
        processes[-1].start()
    scores = [line.recv() for line in lines.values()]
    np.testing.assert_allclose(scores[0], scores[1], atol=5e-3)
    spent: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(ROUNDS):
        for name, line in lines.items():
            line.send(True)
            spent[name].append(line.recv())
    for line in lines.values():
        line.send(False)
    for process in processes:
        process.join()
    return spent


def cold(model: str, file: str) -> dict[str, list[float]]:
    """Return the wall seconds from command to scores, by contestant."""
    commands = {
        "by_hand": [sys.executable, __file__, model, file],
        "ours": [sys.executable, "-m", "irmas_dist", "predict", model, file, "--json"],
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(COLD_ROUNDS + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            if number:  # the first one fills the disk caches
                spent[name].append(time.perf_counter() - began)
    return spent


def make_model(recipe_name: str, out: Path) -> str:
    """Write a model directory of a recipe's network with random weights."""
    from irmas_dist.config.recipe import load_recipe
    from irmas_dist.evaluation.scores import Scores
    from irmas_dist.models.cnn import CNN, initialise, parameter_count
    from irmas_dist.training.model_description import (
        ModelDescription,
        Normalisation,
        ScoringWindows,
    )
    from irmas_dist.training.model_directory import pack_weights, save_model

    recipe = load_recipe(ROOT / "configs" / f"{recipe_name}.yaml")
    vocabulary, bands = recipe.corpus.vocabulary, recipe.features.bands
    frames = recipe.window.frames(recipe.features)
    network = CNN(recipe.model, bands, frames, len(vocabulary)).eval()
    initialise(network, 0)
    description = ModelDescription(
        instruments=dict(zip(vocabulary.codes, vocabulary.names, strict=True)),
        features=recipe.features,
        normalisation=Normalisation(mean=(-5.0,) * bands, std=(4.0,) * bands),
        model=recipe.model,
        parameters=parameter_count(network),
        windows=ScoringWindows(
            frames=frames,
            hop_frames=recipe.window.hop_frames(recipe.features),
            aggregation="mean",
        ),
        thresholds=dict.fromkeys(vocabulary.codes, 0.5),
        thresholds_from="nothing",
        recipe={}, data={}, versions={}, history=[], best_epoch=0, scores={},
    )  # fmt: skip
    nothing: Any = np.zeros((0, len(vocabulary)), np.float32)
    validation = Scores([], [], [], nothing.astype(np.uint8), nothing, vocabulary)
    save_model(out, pack_weights(network), description, validation)
    return str(out)


def main() -> None:
    parser_of(__doc__).parse_args()
    from irmas_dist.rendering.render import RenderSettings, render

    result: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        render(tree, RenderSettings(recordings=1, clips_per_recording=1, songs=FILES))
        files = sorted(map(str, tree.glob("IRMAS-Testing*/*/*.wav")))[:FILES]
        audio_s = sum(soundfile.info(file).duration for file in files)
        for recipe in RECIPES:
            model = make_model(recipe, Path(folder, recipe))
            spent = {name: np.array(times) for name, times in warm(model, files).items()}
            speeds = {name: float(audio_s / np.median(times)) for name, times in spent.items()}
            ratios = spent["by_hand"] / spent["ours"]
            result[recipe] = {"times_real_time": speeds, **summary(ratios)}
            print(
                f"{recipe:8s} by hand {speeds['by_hand']:6.0f} times real time on one core, "
                f"ours {speeds['ours']:6.0f}: {ratio_text(ratios)}"
            )
        starts = {
            name: np.array(times)
            for name, times in cold(str(Path(folder, COLD_RECIPE)), files[0]).items()
        }
    ratios = starts["by_hand"] / starts["ours"]
    seconds = {name: float(np.median(times)) for name, times in starts.items()}
    result["cold_start"] = {"seconds": seconds, **summary(ratios)}
    print(
        f"cold     by hand {seconds['by_hand']:.2f} s from command to scores, "
        f"ours {seconds['ours']:.2f} s: {ratio_text(ratios)}"
    )
    out = Path(__file__).parent / "results" / "predict.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


def summary(ratios: np.ndarray) -> dict[str, Any]:
    return {
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
    }


def ratio_text(ratios: np.ndarray) -> str:
    low, high = np.quantile(ratios, [0.25, 0.75])
    return f"ratio {np.median(ratios):.2f} (quartiles {low:.2f} to {high:.2f})"


if __name__ == "__main__":
    if len(sys.argv) == 3:  # the script by hand, cold
        print(by_hand(sys.argv[1])(sys.argv[2]))
    else:
        main()
