"""The script that one would write by hand to predict a file: librosa, PyTorch, no more.

Run by ``predict.py``, warm and in a process of its own: ``by_hand.py MODEL FILE`` prints scores.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path


def prepared(model: str) -> Callable[[str], list[float]]:
    """Load a model directory; return what scores a file."""
    import librosa
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from irmas_dist.models.cnn import CNN
    from irmas_dist.models.settings import ModelSettings

    about = json.loads(Path(model, "model.json").read_text())
    front, cut = about["features"], about["windows"]
    frames, hop = cut["frames"], cut["hop_frames"]
    mean = torch.tensor(about["normalisation"]["mean"])[:, None]
    std = torch.tensor(about["normalisation"]["std"])[:, None]
    settings = ModelSettings(**about["model"])
    network = CNN(settings, front["bands"], frames, len(about["instruments"]))
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


if __name__ == "__main__":
    print(prepared(sys.argv[1])(sys.argv[2]))
