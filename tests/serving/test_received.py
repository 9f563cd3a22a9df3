"""Uploads by URL come from an object store, as large as other uploads may be."""

from pathlib import Path

import httpx

from irmas_dist import storage
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
