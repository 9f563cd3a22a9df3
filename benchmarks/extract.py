"""The command ``irmas extract`` against librosa loops.

Every round runs a loop and a joblib pool of librosa workers on a sample of the clips, then the
command on each number of clips, into an empty directory. The clips are links to some hundred
rendered files. The time of the loop and the pool for all clips is extrapolated from the sample:
their start-up (imports, compilation, starting the pool) is measured once and added. Prints ratios
with their spread and writes ``benchmarks/results/extract.json``. Takes some 10 minutes for three
rounds on two idle cores, and two more to render the clips.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import ray  # noqa: F401  (puts the psutil that it brings along on the import path)
from processes.arguments import parser_of

from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import write_manifest
from irmas_dist.rendering.render import RenderSettings, render

# isort: split
import psutil

CORES = 2
CONFIGS = Path(__file__).parents[1] / "configs"

LIBROSA = """
import sys, time
started = time.perf_counter()
import joblib, librosa, numpy as np
def features(path):
    samples, rate = librosa.load(path, sr=22_050)
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1024, hop_length=512, n_mels=128)
    return np.log(np.maximum(mel, 1e-8)).astype(np.float16)
jobs, *paths = sys.argv[1:]
with joblib.Parallel(int(jobs)) as pool:
    pool(joblib.delayed(features)(path) for path in paths[: 2 * int(jobs)])
    ready = time.perf_counter()
    pool(joblib.delayed(features)(path) for path in paths)
print(ready - started, (time.perf_counter() - ready) / len(paths))
"""


def librosa_loop(jobs: int, paths: list[str]) -> tuple[float, float]:
    """Return start-up in seconds and running seconds per clip of ``jobs`` processes."""
    command = [sys.executable, "-c", LIBROSA, str(jobs), *paths]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - began
    _, per_clip = map(float, done.stdout.split())
    return whole - per_clip * len(paths), per_clip


def irmas_extract(manifest: Path, out: Path) -> dict[str, float]:
    """Run the command; return its times in seconds and its peak memory in MB."""
    command = [sys.executable, "-m", "irmas_dist", "extract", str(manifest), str(out), "--json"]
    command += ["--config", str(CONFIGS / "han2016.yaml")]
    environment = {**os.environ, "IRMAS_LOG_DIR": str(out.parent)}
    began = time.time()
    peak = {"driver": 0, "worker": 0}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak["driver"] = max(peak["driver"], driver.memory_info().rss)
                for child in driver.children(recursive=True):
                    if child.name().startswith("ray::"):
                        peak["worker"] = max(peak["worker"], child.memory_info().rss)
            except psutil.NoSuchProcess:
                pass  # it has just ended
            time.sleep(0.2)
        assert process.returncode == 0, process.stderr and process.stderr.read().decode()
    ended = time.time()
    shards = sorted(path.stat().st_mtime for path in out.glob("part-*.parquet"))
    info = (out / "features.json").stat().st_mtime
    return {
        "whole_s": ended - began,
        "until_first_shard_s": shards[0] - began,
        # From the first shard to the last.
        "running_s_per_shard": (shards[-1] - shards[0]) / max(len(shards) - 1, 1),
        "shards": len(shards),
        "finish_s": info - shards[-1],
        "shutdown_s": ended - info,
        "driver_peak_mb": peak["driver"] / 1e6,
        "worker_peak_mb": peak["worker"] / 1e6,
    }


def make_manifests(folder: Path, counts: list[int]) -> tuple[dict[int, Path], list[str]]:
    """Render clips and write manifests that repeat them."""
    render(folder / "tree", RenderSettings(recordings=30, clips_per_recording=1, songs=0))
    rows = index_tree(folder / "tree")
    manifests = {}
    for count in counts:
        many = [
            {**rows[i % len(rows)], "clip_id": f"{rows[i % len(rows)]['clip_id']} {i}"}
            for i in range(count)
        ]
        manifests[count] = folder / f"{count}.parquet"
        write_manifest(manifests[count], many)
    return manifests, [row["path"] for row in rows]


def spread(values: list[float]) -> dict[str, float]:
    """Return median, smallest and largest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[2_000, 6_705, 40_000])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    rounds: list[dict[str, float]] = []
    measured: dict[int, list[dict[str, float]]] = {count: [] for count in chosen.clips}
    with tempfile.TemporaryDirectory() as temporary:
        manifests, paths = make_manifests(Path(temporary), chosen.clips)
        for number in range(chosen.rounds):
            loop_start, loop_clip = librosa_loop(1, paths)
            pool_start, pool_clip = librosa_loop(CORES, paths)
            result: dict[str, float] = {
                "loop_ms_per_clip": 1_000 * loop_clip,
                "pool_ms_per_clip": 1_000 * pool_clip,
            }
            for count, manifest in manifests.items():
                ours = irmas_extract(manifest, Path(temporary, f"{count}-{number}"))
                measured[count].append(ours)
                running = ours["running_s_per_shard"] * ours["shards"] / count
                result[f"{count} ms per clip, running"] = 1_000 * running
                result[f"{count} against the loop, running"] = loop_clip / running
                whole = ours["whole_s"]
                result[f"{count} against the loop, whole"] = (
                    loop_start + loop_clip * count
                ) / whole
                result[f"{count} against the pool, whole"] = (
                    pool_start + pool_clip * count
                ) / whole
            rounds.append(result)
            print(f"round {number + 1} of {chosen.rounds} done", file=sys.stderr)
    ratios = {name: spread([one[name] for one in rounds]) for name in rounds[0]}
    for name, values in ratios.items():
        print(f"{name:34s} {values['median']:8.2f} ({values['low']:.2f} to {values['high']:.2f})")
    for count, runs in measured.items():
        medians = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        print(
            f"{count} clips: " + ", ".join(f"{key} {value:.2f}" for key, value in medians.items())
        )
    out = Path(__file__).parent / "results" / "extract.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"ratios": ratios, "runs": measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
