"""Log-mel spectrograms of 3 s stereo clips: ours, librosa's in three lines, and the floor.

Each contestant is a process of its own on one thread, since they differ in how they reuse memory;
they take turns over the same clips. Prints milliseconds of CPU per clip, the ratio with its
quartiles, and the cost of starting. The floor is the least that these libraries allow: libsndfile
decoding to int16, soxr on one channel, and one FFT pass over the frames, each measured alone.
Also measures the peak memory of a 1-hour file. Writes ``benchmarks/results/logmel.json``.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

# Before numpy is imported, here and in the processes that are started.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import soundfile
from processes.arguments import parser_of

ROUNDS = 25
FLOOR = ("decode", "soxr", "fft")


def librosa_loop() -> Callable[[str], object]:
    import librosa

    def transform(path: str) -> np.ndarray:
        samples, rate = librosa.load(path, sr=22_050)
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1_024, hop_length=512)
        return np.log(np.maximum(mel, 1e-8))

    return transform


def ours() -> Callable[[str], object]:
    from irmas_dist.config.features import LogMelSettings
    from irmas_dist.features.logmel import log_mel

    settings = LogMelSettings(n_fft=1_024, hop_length=512, bands=128)
    return lambda path: log_mel(path, settings)


def decode() -> Callable[[str], object]:
    return lambda path: soundfile.read(path, dtype="int16")


def soxr() -> Callable[[str], object]:
    import soxr

    mono = np.random.default_rng(0).standard_normal(3 * 44_100).astype(np.float32)
    return lambda path: soxr.resample(mono, 44_100, 22_050, quality="HQ")


def fft() -> Callable[[str], object]:
    import scipy.fft

    frames = np.random.default_rng(0).standard_normal((130, 1_024)).astype(np.float32)
    return lambda path: scipy.fft.rfft(frames)


CONTESTANTS = {c.__name__: c for c in (librosa_loop, ours, decode, soxr, fft)}


def contestant(name: str, clips: list[str], turns: Connection) -> None:
    """Prepare, then transform all clips on each request and send the CPU seconds."""
    began = time.process_time()
    transform = CONTESTANTS[name]()
    transform(clips[0])  # librosa imports most of itself only now
    started = time.process_time() - began
    for clip in clips:
        transform(clip)
    turns.send(started)
    while turns.recv():
        began = time.process_time()
        for clip in clips:
            transform(clip)
        turns.send(time.process_time() - began)


def an_hour(path: str, answer: Connection) -> None:
    """Transform a file; send peak memory before and after, and the result's size, in MB."""
    transform = ours()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = transform(path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.send({"before": before, "after": after, "result": result.nbytes / 2**20})


def measure(clips: list[str]) -> tuple[dict[str, list[float]], dict[str, float]]:
    context = get_context("spawn")
    lines, processes = {}, []
    for name in CONTESTANTS:
        lines[name], theirs = context.Pipe()
        processes.append(context.Process(target=contestant, args=(name, clips, theirs)))
        processes[-1].start()
    starts = {name: line.recv() for name, line in lines.items()}
    spent: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(ROUNDS):
        for name, line in lines.items():
            line.send(True)
            spent[name].append(1_000 * line.recv() / len(clips))
    for line in lines.values():
        line.send(False)
    for process in processes:
        process.join()
    return spent, starts


def peak_memory(folder: Path) -> dict[str, float]:
    path = str(folder / "hour.wav")
    minute = (3_000 * np.random.default_rng(0).standard_normal((60 * 44_100, 2))).astype(np.int16)
    with soundfile.SoundFile(path, "w", 44_100, 2, "PCM_16") as file:
        for _ in range(60):
            file.write(minute)
    context = get_context("spawn")
    answer, theirs = context.Pipe()
    process = context.Process(target=an_hour, args=(path, theirs))
    process.start()
    memory: dict[str, float] = answer.recv()
    process.join()
    return memory


def main() -> None:
    parser_of(__doc__).parse_args()
    from irmas_dist.rendering.render import RenderSettings, render

    with tempfile.TemporaryDirectory() as folder:
        render(Path(folder), RenderSettings(recordings=3, clips_per_recording=1, songs=0))
        spent, starts = measure(sorted(map(str, Path(folder).rglob("*.wav"))))
        memory = peak_memory(Path(folder))
    floor = np.sum([spent[name] for name in FLOOR], axis=0)
    ratios = np.array(spent["librosa_loop"]) / np.array(spent["ours"])
    above = np.array(spent["ours"]) / floor
    result = {
        "ms_per_clip": {name: float(np.median(times)) for name, times in spent.items()},
        "floor_ms_per_clip": float(np.median(floor)),
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        "librosa_to_floor": float(np.median(np.array(spent["librosa_loop"]) / floor)),
        "ours_to_floor": float(np.median(above)),
        "ours_to_floor_quartiles": np.quantile(above, [0.25, 0.75]).tolist(),
        "start_cpu_seconds": {name: starts[name] for name in ("librosa_loop", "ours")},
        "hour_peak_mb": memory,
    }
    for name, times in spent.items():
        print(f"{name:14s} {np.median(times):6.2f} ms of CPU per 3 s clip")
    print(f"{'floor':14s} {np.median(floor):6.2f} ms: {' + '.join(FLOOR)}")
    print(f"{'ratio':14s} {result['ratio']:6.2f} {spread(ratios)} of librosa_loop to ours")
    print(f"{'':14s} {result['librosa_to_floor']:6.2f} of librosa_loop to the floor")
    print(f"{'':14s} {result['ours_to_floor']:6.2f} {spread(above)} of ours to the floor")
    for name in ("librosa_loop", "ours"):
        print(f"{name:14s} {starts[name]:6.2f} s of CPU to import and to transform one clip")
    print(
        f"{'1-hour file':14s} {memory['after'] - memory['before']:6.0f} MB above the "
        f"{memory['before']:.0f} MB of the imports, {memory['result']:.0f} MB of it the result"
    )
    out = Path(__file__).parent / "results" / "logmel.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


def spread(values: np.ndarray) -> str:
    low, high = np.quantile(values, [0.25, 0.75])
    return f"(quartiles {low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
