"""Log-mel spectrograms of 3 s stereo clips: ours against the librosa lines that one would write.

Interleaved in one process on one thread, in CPU time; prints the ratio with its spread and
writes it to ``benchmarks/results/logmel.json``.
"""

import json
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import librosa
import numpy as np
import torch

from irmas_dist.corpus.render import RenderSettings, render
from irmas_dist.features.logmel import LogMelSettings, log_mel

ROUNDS = 15


def by_librosa(path: Path) -> np.ndarray:
    samples, rate = librosa.load(path, sr=22_050)
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1_024, hop_length=512)
    return np.log(np.maximum(mel, 1e-8))


def main() -> None:
    torch.set_num_threads(1)
    settings = LogMelSettings()
    with tempfile.TemporaryDirectory() as folder:
        render(Path(folder), RenderSettings(recordings=3, clips_per_recording=1, songs=0))
        clips = sorted(Path(folder).rglob("*.wav"))
        contestants = {
            "librosa": by_librosa,
            "irmas_dist": lambda path: log_mel(path, settings),
        }
        for contestant in contestants.values():
            contestant(clips[0])  # compiles, imports and fills caches
        spent: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, contestant in contestants.items():
                began = time.process_time()
                for clip in clips:
                    contestant(clip)
                spent[name].append(1_000 * (time.process_time() - began) / len(clips))
    ratios = np.array(spent["librosa"]) / np.array(spent["irmas_dist"])
    result = {
        **{f"{name}_ms_per_clip": float(np.median(times)) for name, times in spent.items()},
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
    }
    for name, times in spent.items():
        print(f"{name:12s} {np.median(times):6.2f} ms of CPU per 3 s clip")
    low, high = result["ratio_quartiles"]
    print(f"ratio        {result['ratio']:6.2f} (quartiles {low:.2f} to {high:.2f})")
    out = Path(__file__).parent / "results" / "logmel.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
