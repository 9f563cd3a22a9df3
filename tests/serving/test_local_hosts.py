"""A server without token answers its own pages and programs, and pages of no other site."""

import hashlib

import httpx
import pytest

from tests.serving.conftest import Serve

TOKEN = "a token of some length"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *[("localhost", True), ("LOCALHOST:8000", True), ("127.0.0.1:8000", True)],
        *[("127.0.0.2", True), ("[::1]:8000", True), ("[::1]", True)],
        *[("elsewhere.example", False), ("elsewhere.example:8000", False), ("192.0.2.1", False)],
        *[("localhost.elsewhere.example", False), ("a@localhost", False), ("[2001:db8::1]", False)],
    ],
)
def test_only_this_machine_s_names_are_answered_where_no_token_is_wanted(
    asking: Serve, host: str, local: bool
) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        paths = ("/", "/v1/models", "/healthz")
        return [await client.get(path, headers=headers) for path in paths]

    answers = asking(ask)
    assert [each.status_code for each in answers] == [200 if local else 421] * 3
    if not local:
        line = f"Host: {host}: without IRMAS_SERVE_TOKEN the server answers as localhost alone"
        assert answers[0].json() == {"error": line}
        assert "content-security-policy" in answers[0].headers
    with_token = asking(ask, token=hashlib.sha256(TOKEN.encode()).hexdigest())
    assert [each.status_code for each in with_token] == [200] * 3


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8001"}, False),
        ({"Origin": "http://localhost:8000"}, True),
        ({"Origin": "http://localhost:8001"}, False),
        ({"Origin": "https://elsewhere.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_pages_of_other_sites_may_link_here_but_have_nothing_done(
    asking: Serve, headers: dict[str, str], answered: bool
) -> None:
    headers = {"Host": "localhost:8000", **headers}

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.get("/", headers=headers),
            await client.post("/v1/predict", content=b"no audio", headers=headers),
        ]

    page, posted = asking(ask)
    assert page.status_code == 200
    assert posted.status_code == (422 if answered else 403)
