"""Uploads: multipart of any client, objects of an object store, and those that stall."""

import asyncio
import encodings
import http.server
import json
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from irmas_dist import storage
from irmas_dist.serving import received
from tests.serving.conftest import Serve


def test_an_object_is_read_where_its_folder_is_allowed(
    asking: Serve, excerpts: list[Path], bucket: str
) -> None:
    with storage.write_atomically(f"{bucket}/in/a.wav") as stream:
        stream.write(excerpts[0].read_bytes())
    with storage.write_atomically(f"{bucket}/in/large.wav") as stream:
        stream.write(bytes(6_000_000))

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        urls = [f"{bucket}/{name}" for name in ("in/a.wav", "in/large.wav", "in/no.wav", "b.wav")]
        return [await client.post("/v1/predict", json={"url": url}) for url in urls]

    answers = asking(ask, {"allow_url_prefix": [f"{bucket}/in"], "max_megabytes": 5})
    assert [each.status_code for each in answers] == [200, 413, 422, 403]
    assert answers[0].json()["predictions"][0]["path"] == f"{bucket}/in/a.wav"


def test_an_object_that_grows_while_it_is_asked_for_is_not_read_beyond_the_limit(
    asking: Serve, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.write_atomically(f"{bucket}/in/grown.wav") as stream:
        stream.write(bytes(6_000_000))
    monkeypatch.setattr(storage, "size", lambda _: 1)

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/predict", json={"url": f"{bucket}/in/grown.wav"})

    answer = asking(ask, {"allow_url_prefix": [f"{bucket}/in"], "max_megabytes": 5})
    assert answer.status_code == 413
    assert "the object is larger than the 5 MB that are allowed" in answer.json()["error"]


def test_an_object_whose_store_does_not_answer_can_be_asked_for_again(
    asking: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/predict", json={"url": "s3://away/in/a.wav"})

    answer = asking(ask, {"allow_url_prefix": ["s3://away/in"]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "s3://away/in/a.wav: " in answer.json()["error"]


def test_audio_that_is_sent_as_json_is_told_how_to_send_it(
    asking: Serve, excerpts: list[Path]
) -> None:
    content = excerpts[0].read_bytes()
    assert len(content) > 64_000

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return await client.post("/v1/predict", content=content, headers=headers)

    answer = asking(ask, {})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("JSON is larger than 64 kB: send audio with another")


class Refusing(http.server.BaseHTTPRequestHandler):
    """An object store that lets nobody read."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 - the names of `http.server`

    def log_message(self, *_: object) -> None: ...


def test_an_object_that_may_not_be_read_need_not_be_asked_for_again(
    asking: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")

        async def ask(client: httpx.AsyncClient) -> httpx.Response:
            return await client.post("/v1/predict", json={"url": "s3://closed/in/a.wav"})

        answer = asking(ask, {"allow_url_prefix": ["s3://closed/in"]})
        server.shutdown()
    assert (answer.status_code, "Retry-After" in answer.headers) == (422, False)


def multipart(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    lines = [
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "no-such-charset-as-this"])
def test_a_charset_that_a_client_names_is_of_no_consequence(
    asking: Serve, excerpts: list[Path], charset: str
) -> None:
    """The time that some take grows with the square of the field, and unknown ones are kept."""
    file = ('name="file"; filename="für +2AA-.wav"', excerpts[0].read_bytes())
    padding = ('name="padding"', b"a" * 500_000 + b"-" + b"b" * 500_000)
    headers = {"Content-Type": f'multipart/form-data; boundary="a b:c"; charset={charset}'}

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        async with asyncio.timeout(20):
            return [
                await client.post(
                    "/v1/predict", content=multipart("a b:c", *parts), headers=headers
                )
                for parts in ([padding, file], [file])
            ]

    refused, answer = asking(ask)
    assert refused.json()["error"] == "padding: the parameters are file and model"
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["path"] == "für +2AA-.wav"
    assert "no_such_charset_as_this" not in encodings._cache


def test_what_is_no_text_is_refused_in_one_line(
    asking: Serve, excerpts: list[Path], bucket: str
) -> None:
    with storage.write_atomically(f"{bucket}/in/a.wav") as stream:
        stream.write(excerpts[0].read_bytes())

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        named = json.dumps({"url": f"{bucket}/in/a.wav", "model": "\ud800"})
        headers = {"Content-Type": "application/json"}
        return await client.post("/v1/predict", content=named, headers=headers)

    answer = asking(ask, {"allow_url_prefix": [f"{bucket}/in"]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("no model is named ?")


def test_an_upload_that_stalls_makes_room_for_the_next(
    asking: Serve, excerpts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received, "STALLED_S", 0.3)
    content = excerpts[0].read_bytes()

    async def stalling() -> AsyncIterator[bytes]:
        yield content[:1000]
        await asyncio.sleep(60)

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(content), len(content) // 4):
            await asyncio.sleep(0.15)
            yield content[start : start + len(content) // 4]

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post("/v1/predict", content=each) for each in (stalling(), slowly())]

    stalled, slow = asking(ask, {"max_requests": 1})
    assert (stalled.status_code, slow.status_code) == (408, 200)
    assert stalled.json() == {"error": "the upload was interrupted: nothing came for 0.3 s"}


def test_what_a_request_may_not_mean_is_refused(asking: Serve, excerpts: list[Path]) -> None:
    content = excerpts[0].read_bytes()
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = multipart("b", ('name="file"; filename="a.wav"', content)).removesuffix(b"--b--\r\n")

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        file, model = {"file": ("a.wav", content)}, {"model": "other"}
        return [
            await client.post("/v1/predict?modle=other", content=content),
            await client.post("/v1/predict", files=file, data={"modle": "other"}),
            await client.post("/v1/predict", files=file, data={"model": ["model", "other"]}),
            await client.post("/v1/predict", json={"url": "s3://a/b", "modle": "other"}),
            await client.post("/v1/predict?model=model", files=file, data=model),
            await client.post("/v1/predict", content=cut, headers=kind),
            await client.post("/v1/predict", files={"file": (None, "text")}),
            await client.post("/v1/predict", files={"file": ("a.wav", b"")}),
            await client.post("/v1/predict?model=model&model=other", content=content),
            await client.post("/v1/predict?model=model", json={"url": "s3://a/b", "model": "x"}),
            await client.post("/v1/predict"),
        ]

    answers = asking(ask, {"allow_url_prefix": ["s3://a/"]})
    assert [(each.status_code, each.json()["error"]) for each in answers] == [
        (422, "modle: the parameters are model and name"),
        (422, "modle: the parameters are file and model"),
        (422, "model is given twice"),
        (422, "modle: the parameters are url and model"),
        (422, "model is both other and model: name one"),
        (400, "not multipart/form-data: it is cut short"),
        (422, "the part 'file' is no file: send it with a file name"),
        (422, "a.wav: empty file"),
        (422, "model is given twice"),
        (422, "model is both x and model: name one"),
        (422, "no audio: send a file, as the part 'file' of multipart/form-data or as the body"),
    ]
