"""The API: the predictions of ``irmas predict``, and one line for each refusal."""

import asyncio
import hashlib
import io
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from irmas_dist.inference.audio_inputs import predict_file
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.results import as_object
from tests.serving.conftest import Serve

TOKEN = "a token of some length"
JSON = {"Content-Type": "application/json"}


def silence(minutes: float, form: str) -> bytes:
    """Silence, of which an hour is a few kilobytes."""
    file = io.BytesIO()
    kind = {"FLAC": None, "OGG": "OPUS"}[form]
    with soundfile.SoundFile(file, "w", 8_000, 1, subtype=kind, format=form) as sound:
        for _ in range(round(minutes)):
            sound.write(np.zeros(8_000 * 60, np.float32))
    return file.getvalue()


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_all_ways_to_send_a_file_give_the_json_of_predict(
    asking: Serve, excerpts: list[Path], predictor: Predictor
) -> None:
    content = excerpts[0].read_bytes()

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post("/v1/predict", files={"file": ("a.wav", content)}),
            await client.post("/v1/predict?name=a.wav&model=model", content=content),
            await client.post(
                "/v1/predict", files={"file": ("a.wav", content)}, data={"model": "model"}
            ),
            await client.post("/v1/timeline?name=a.wav", content=content),
        ]

    expected = as_object(predict_file(predictor, str(excerpts[0]))) | {"path": "a.wav"}
    for answer in asking(ask):
        assert answer.status_code == 200
        assert answer.json()["model"].keys() == {"name", "digest"}
        assert answer.json()["model"]["name"] == "model"
        (found,) = answer.json()["predictions"]
        assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        found.pop("timeline", None)
        assert found | {"scores": 0} == expected | {"scores": 0}


def test_a_timeline_has_every_window_at_once_or_as_events(
    asking: Serve, excerpts: list[Path], predictor: Predictor
) -> None:
    samples, rate = soundfile.read(excerpts[0])
    file = io.BytesIO()
    soundfile.write(file, np.tile(samples, (8, 1)), rate, format="WAV")
    long = file.getvalue()

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        streamed = {"Accept": "text/event-stream"}
        return (
            await client.post("/v1/timeline", content=long),
            await client.post("/v1/timeline", content=long, headers=streamed),
        )

    whole, streamed = asking(ask)
    timeline = whole.json()["predictions"][0]["timeline"]
    (start, facts), *middle, (end, last) = events(streamed.text)
    assert (start, end) == ("start", "end")
    assert facts["model"]["instruments"]["cel"] == "cello"
    assert timeline["codes"] == facts["model"]["codes"] == list(predictor.description.instruments)
    assert len(middle) > 1
    assert {kind for kind, _ in middle} == {"windows"}
    for key in ("starts", "ends", "windows"):
        assert [value for _, data in middle for value in data[key]] == timeline[key]
    assert last["scores"] == whole.json()["predictions"][0]["scores"]
    reference = predictor.timeline(io_path(long, excerpts[0]))
    np.testing.assert_allclose(timeline["windows"], reference.windows, atol=1e-5)
    np.testing.assert_allclose(timeline["starts"], reference.starts, atol=1e-5)


def io_path(content: bytes, beside: Path) -> Path:
    path = beside.parent.parent / "long.wav"
    path.write_bytes(content)
    return path


def test_each_limit_has_its_status_and_one_line(asking: Serve, excerpts: list[Path]) -> None:
    limits = {"max_megabytes": 1, "max_minutes": 30}

    async def chunks() -> Any:
        for _ in range(20):
            yield bytes(100_000)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        big = bytes(1_060_000)
        return [
            await client.post("/v1/predict", content=big),
            await client.post("/v1/predict", content=chunks()),
            await client.post("/v1/predict", files={"file": ("a.wav", big)}),
            await client.post("/v1/predict", content=silence(40, "FLAC")),
            await client.post("/v1/timeline", content=b"no audio at all"),
            await client.post("/v1/predict", content=b""),
            await client.post("/v1/predict?model=other", content=b"a"),
            await client.post("/v1/predict", json={"url": "file:///etc/passwd"}),
            await client.post("/v1/predict", json=["url"]),
            await client.post("/v1/predict", content="[" * 60_000, headers=JSON),
            await client.post(
                "/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}
            ),
            await client.post("/v1/predict", files=[("file", ("a", b"1")), ("file", ("b", b"2"))]),
            await client.get("/v1/predict"),
            await client.get("/etc/passwd"),
            await client.post("/v1/predict", files={"file": ("a.wav", 2 * big)}),
        ]

    answers = asking(ask, limits)
    assert [each.status_code for each in answers] == [
        *(413, 413, 413, 422, 422, 422, 422, 403, 422, 422, 400, 400, 405, 404, 413),
    ]
    for answer in answers:
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]
    assert all("than the 1 MB that" in each.json()["error"] for each in (*answers[:3], answers[-1]))
    assert "longer than 1800 s" in answers[3].json()["error"]
    assert "no model is named other; those that there are: model" in answers[6].json()["error"]


def test_hours_of_silence_in_a_small_file_are_refused_before_they_are_decoded(
    asking: Serve,
) -> None:
    bomb, opus = silence(120, "FLAC"), silence(2, "OGG")
    assert len(bomb) < 2_000_000
    # A header that says less than there is does not let the rest in either.
    at = bomb.index(b"fLaC") + 18
    (packed,) = struct.unpack(">Q", bomb[at : at + 8])
    liar = bomb[:at] + struct.pack(">Q", packed & ~(2**36 - 1) | 8_000) + bomb[at + 8 :]

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post("/v1/predict", content=each) for each in (opus, bomb, liar)]

    answers = asking(ask, {"max_minutes": 1})
    assert [each.status_code for each in answers[:2]] == [422, 422]
    assert all("is longer than 60 s" in each.json()["error"] for each in answers[:2])
    assert all(each.elapsed.total_seconds() < 5 for each in answers[1:])


def test_more_requests_than_allowed_are_told_to_come_back(
    asking: Serve, excerpts: list[Path]
) -> None:
    content = excerpts[0].read_bytes()

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        posts = (client.post("/v1/predict", content=content) for _ in range(5))
        return await asyncio.gather(*posts)

    answers = asking(ask, {"max_requests": 2})
    assert sorted(each.status_code for each in answers) == [200, 200, 429, 429, 429]
    assert all(each.headers["retry-after"] == "1" for each in answers if each.status_code == 429)


def test_what_takes_too_long_is_given_up_and_the_next_is_answered(
    asking: Serve, excerpts: list[Path]
) -> None:
    content, slow = excerpts[0].read_bytes(), [False]

    async def score(_: object, windows: np.ndarray) -> np.ndarray:
        await asyncio.sleep(100 if slow[0] else 0)
        return np.zeros((len(windows), 1, 11), np.float32)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        while (await client.post("/v1/predict", content=content)).status_code != 200:
            pass  # the reader starts
        slow[0] = True
        late = await client.post("/v1/predict", content=content)
        slow[0] = False
        return [late, await client.post("/v1/predict", content=content)]

    late, fine = asking(ask, {"timeout_s": 2}, score=score)
    assert late.status_code == 504
    assert "not done within the 2 s that are allowed" in late.json()["error"]
    assert fine.status_code == 200


def test_events_have_the_time_that_their_upload_has_left(
    asking: Serve, excerpts: list[Path]
) -> None:
    content = excerpts[0].read_bytes()

    async def score(_: object, windows: np.ndarray) -> np.ndarray:
        await asyncio.sleep(2)
        return np.zeros((len(windows), 1, 11), np.float32)

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:1000]
        await asyncio.sleep(2)
        yield content[1000:]

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        await asyncio.sleep(2)  # the reader starts
        headers = {"Accept": "text/event-stream"}
        return await client.post("/v1/timeline", content=slowly(), headers=headers)

    kinds = events(asking(ask, {"timeout_s": 3}, score=score).text)
    assert [kind for kind, _ in kinds] == ["start", "error"]
    assert kinds[1][1]["status"] == 504


def test_a_client_that_goes_away_makes_room_for_the_next(
    asking: Serve, excerpts: list[Path]
) -> None:
    content = excerpts[0].read_bytes()
    streamed = {"Accept": "text/event-stream"}

    async def ask(client: httpx.AsyncClient) -> list[int]:
        going = asyncio.create_task(client.post("/v1/timeline", content=content, headers=streamed))
        while not scoring:
            await asyncio.sleep(0.01)
        busy = await client.post("/v1/predict", content=content)
        going.cancel()
        await asyncio.wait([going])
        return [
            each.status_code for each in (busy, await client.post("/v1/predict", content=content))
        ]

    scoring: list[object] = []

    async def score(model: object, windows: np.ndarray) -> np.ndarray:
        scoring.append(model)
        await asyncio.sleep(100 if len(scoring) == 1 else 0)
        return np.zeros((len(windows), 1, 11), np.float32)

    assert asking(ask, {"max_requests": 1}, score=score) == [429, 200]


def test_a_token_is_wanted_of_everyone_who_asks_a_model(asking: Serve) -> None:
    async def ask(client: httpx.AsyncClient) -> list[int]:
        found = []
        for value in (None, "Bearer wrong", TOKEN, f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            headers = {} if value is None else {"Authorization": value}
            found.append((await client.get("/v1/models", headers=headers)).status_code)
        posted = [
            await client.post(f"/v1/{each}", content=b"a") for each in ("predict", "timeline")
        ]
        return [
            *found,
            *(each.status_code for each in posted),
            (await client.get("/healthz")).status_code,
        ]

    statuses = asking(ask, token=hashlib.sha256(TOKEN.encode()).hexdigest())
    assert statuses == [401, 401, 401, 200, 200, 401, 401, 200]

    async def described(client: httpx.AsyncClient) -> Any:
        return (await client.get("/openapi.json")).json()["components"]["securitySchemes"]

    schemes = asking(described, token=hashlib.sha256(TOKEN.encode()).hexdigest())
    assert schemes == {"token": {"type": "http", "scheme": "bearer"}}


def test_the_health_and_the_page_are_there_for_head_too(asking: Serve) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/healthz", "/", "/page.js", "/v1/models", "/docs")
        return [await client.head(path) for path in paths]

    assert [each.status_code for each in asking(ask)] == [200] * 5


def test_the_models_are_described_and_no_other_site_may_ask(asking: Serve) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        other = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
        return [
            await client.get("/v1/models", headers=other),
            await client.options("/v1/predict", headers=other),
            await client.get("/openapi.json"),
            await client.get("/docs"),
        ]

    models, preflight, described, page = asking(ask)
    (found,) = models.json()["models"]
    assert found["name"] == "model"
    assert found["validation"] == {"micro_f1": 0.625, "macro_f1": 0.5}
    assert models.json()["max_megabytes"] == 100
    assert not any(
        "access-control" in name for each in (models, preflight) for name in each.headers
    )
    paths = ["/healthz", "/v1/models", "/v1/predict", "/v1/timeline"]
    assert sorted(described.json()["paths"]) == paths
    assert "POST /v1/predict" in page.text
    answer = described.json()["paths"]["/v1/timeline"]["post"]["responses"]["200"]["content"]
    assert answer.keys() == {"application/json", "text/event-stream"}
    assert "components" not in described.json()
    assert "//" not in page.text.replace("</", "")
