"""Serving: `irmas serve`, and FastAPI with the same predictor in one process.

One command, some 10 minutes. Both run at the same time on this machine, and take turns at being
asked by 1, 8 and 32 HTTP clients, each of which sends its next request when it has its answer:
clips of 3 s (WAV), and songs of 3 minutes (FLAC). The other contestant is what the documentation of
FastAPI suggests: a function that FastAPI runs in its threads, as many as it likes. Stated are
requests per second and the percentiles of the latency of each, and the ratios of ours to the other,
of each round. Also the seconds from the command to the first answer, of both.
Writes ``benchmarks/results/serve.json``.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import soundfile
from predict import make_model
from processes.arguments import parser_of
from processes.machine import machine

ROOT = Path(__file__).parents[1]
RECIPE = "irmas"
CLIENTS = (1, 8, 32)
ROUNDS = 5
SECONDS = {"clip": 5.0, "song": 12.0}
"""For how long clients begin new requests, in each round."""

SONG_S = 180
START_S = 180

Sent = tuple[str, bytes]


def plain(model: str, port: int) -> None:
    """Serve a model in this process, as one would write it by hand."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    from irmas_dist.inference.predictor import Predictor

    predictor = Predictor.load(model)
    app = FastAPI()

    @app.post("/v1/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile(suffix=Path(file.filename or "").suffix) as copy:
            copy.write(file.file.read())
            copy.flush()
            scores = predictor.file(copy.name)
        return {"predictions": [{"scores": scores, "instruments": predictor.decide(scores)}]}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def running(command: list[str], url: str, sent: Sent) -> Iterator[float]:
    """Run a server; yield the seconds from its command to its first answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while True:
                try:
                    asyncio.run(load(url, sent, 1, 0.0))
                    break
                except (aiohttp.ClientError, OSError):
                    late = time.perf_counter() - began > START_S
                    if late or process.poll() is not None:
                        log.seek(0)
                        raise SystemExit(f"{command} does not answer:\n{log.read()}") from None
                    time.sleep(0.1)
            yield time.perf_counter() - began
        finally:
            process.terminate()
            process.wait()


async def load(url: str, sent: Sent, clients: int, seconds: float) -> dict[str, Any]:
    """Send requests; return their rate, and the latency of each, in seconds."""
    latencies: list[float] = []
    answers: list[dict[str, float]] = []
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        began = time.perf_counter()

        async def client() -> None:
            while True:
                asked = time.perf_counter()
                form = aiohttp.FormData()
                form.add_field("file", sent[1], filename=sent[0])
                async with session.post(f"{url}/v1/predict", data=form) as response:
                    response.raise_for_status()
                    answer = await response.json()
                answers.append(answer["predictions"][0]["scores"])
                latencies.append(time.perf_counter() - asked)
                if time.perf_counter() - began >= seconds:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        elapsed = time.perf_counter() - began
    return {"per_s": len(latencies) / elapsed, "latencies": latencies, "scores": answers[-1]}


def inputs(folder: Path) -> dict[str, Sent]:
    """Return a clip and a song, rendered."""
    from irmas_dist.rendering.render import RenderSettings, render

    render(folder, RenderSettings(recordings=1, clips_per_recording=1, songs=12))
    clip = min(folder.glob("IRMAS-Training*/*/*.wav"))
    pieces = [soundfile.read(path) for path in sorted(folder.glob("IRMAS-Testing*/*/*.wav"))]
    rate = pieces[0][1]
    song = np.concatenate([samples for samples, _ in pieces])
    song = np.resize(song, (SONG_S * rate, *song.shape[1:]))
    soundfile.write(folder / "song.flac", song, rate)
    return {
        "clip": ("clip.wav", clip.read_bytes()),
        "song": ("song.flac", (folder / "song.flac").read_bytes()),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--plain", nargs=2, metavar=("MODEL", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.plain:
        plain(arguments.plain[0], int(arguments.plain[1]))
        return
    sys.path.insert(0, str(ROOT))
    from tests.ray_cluster import free_port

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sent = inputs(Path(folder, "audio"))
        model = make_model(RECIPE, Path(folder, "model"))
        ports = {"ours": free_port(), "plain": free_port()}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        serve = [sys.executable, "-m", "irmas_dist", "serve"]
        commands = {
            "plain": [sys.executable, __file__, "--plain", model, str(ports["plain"])],
            "ours": [*serve, model, "--port", str(ports["ours"])],
        }
        starts = {
            name: stack.enter_context(running(command, urls[name], sent["clip"]))
            for name, command in commands.items()
        }
        result: dict[str, Any] = {"machine": machine(), "first_answer_s": starts}
        print(f"{result['machine']}; seconds to the first answer: {starts}", flush=True)
        for kind in sent:
            for clients in CLIENTS:
                row = compare(urls, sent[kind], clients, SECONDS[kind], arguments.rounds)
                result[f"{kind}, {clients} clients"] = row
                print(line(kind, clients, row), flush=True)
    out = Path(__file__).parent / "results" / "serve.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


def compare(
    urls: dict[str, str], sent: Sent, clients: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Ask both in turns, once before the first round; return the figures of each, and ratios."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in urls}
    for number in range(rounds + 1):
        for name, url in list(urls.items())[:: 1 - 2 * (number % 2)]:
            measured = asyncio.run(load(url, sent, clients, seconds if number else 0.0))
            found[name] += [measured] if number else []
    scores = [runs[-1]["scores"] for runs in found.values()]
    np.testing.assert_allclose(list(scores[0].values()), list(scores[1].values()), atol=1e-5)
    row: dict[str, Any] = {}
    for name, runs in found.items():
        latencies = np.concatenate([run["latencies"] for run in runs])
        row[name] = {"per_s": float(np.median([run["per_s"] for run in runs]))} | {
            f"p{percent}_s": float(np.percentile(latencies, percent)) for percent in (50, 95, 99)
        }
    rounds_of = {
        "throughput": [(a["per_s"], b["per_s"]) for a, b in zip(*found.values(), strict=True)],
        "p50": [
            (np.median(a["latencies"]), np.median(b["latencies"]))
            for a, b in zip(*found.values(), strict=True)
        ],
    }
    for figure, pairs in rounds_of.items():
        ratios = [float(ours / other) for ours, other in pairs]
        row[f"{figure}_ratio"] = [float(np.median(ratios)), min(ratios), max(ratios)]
    return row


def line(kind: str, clients: int, row: dict[str, Any]) -> str:
    """Say it in two lines."""
    figures = [
        f"{name} {each['per_s']:6.2f}/s, p50 {each['p50_s']:.3f}, p95 {each['p95_s']:.3f}, "
        f"p99 {each['p99_s']:.3f} s"
        for name, each in ((name, row[name]) for name in ("ours", "plain"))
    ]
    ratios = [
        f"{figure} {row[f'{figure}_ratio'][0]:.2f} ({row[f'{figure}_ratio'][1]:.2f} to "
        f"{row[f'{figure}_ratio'][2]:.2f})"
        for figure in ("throughput", "p50")
    ]
    return f"{kind}, {clients:2d} clients: {'; '.join(figures)}\n    {', '.join(ratios)}"


if __name__ == "__main__":
    main()
