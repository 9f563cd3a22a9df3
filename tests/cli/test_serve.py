"""``irmas serve``: what is refused before Ray starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from irmas_dist.config.serving import TOKEN
from tests.cli.conftest import Ended
from tests.inference.conftest import excerpts, make_model, model  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("nothing", 1, "is not a model directory"),
        ("a b", 2, "of several models, each needs a name"),
        ("{model} --host 0.0.0.0", 1, "set IRMAS_SERVE_TOKEN"),
        ("{model} --replicas 3 --max-replicas 2", 2, "--max-replicas 2 is less than --replicas 3"),
        ("{model} --allow-url-prefix /etc", 2, "should be a bucket or folder"),
        ("{model} --host 192.0.2.1", 1, "IRMAS_SERVE_TOKEN"),
    ],
)
def test_what_cannot_be_served_is_refused(
    irmas: Callable[..., Ended],
    model: Path,  # noqa: F811
    arguments: str,
    code: int,
    told: str,
) -> None:
    ended = irmas("serve", *arguments.format(model=model).split())
    assert told in ended.refusal(code)


def test_a_host_that_cannot_be_a_name_is_refused(
    irmas: Callable[..., Ended],
    model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN, "a" * 32)
    assert "--host a..b, --port 8000: " in irmas("serve", model, "--host", "a..b").refusal()


def test_a_taken_port_is_refused(irmas: Callable[..., Ended], model: Path) -> None:  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = irmas("serve", model, "--port", port).refusal()
    assert f"port {port} is in use: name another with --port" in told
