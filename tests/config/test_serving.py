"""Models, replicas and limits, and who may reach them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from irmas_dist.config.serving import (
    Limits,
    ServingSettings,
    is_loopback,
    parse_models,
    require_token,
)
from irmas_dist.errors import IrmasError
from irmas_dist.serving.received import is_allowed

PREFIX = "s3://bucket/in/"


def test_models_have_names_where_there_are_several() -> None:
    assert parse_models(["runs/a"]) == {"model": "runs/a"}
    assert parse_models(["a=runs/a", "b=s3://bucket/b"]) == {"a": "runs/a", "b": "s3://bucket/b"}
    assert parse_models(["runs/x=1/model"]) == {"model": "runs/x=1/model"}
    for wrong in (["a=x", "y"], ["a=x", "a=y"], ["a="], ["=x"]):
        with pytest.raises(IrmasError):
            parse_models(wrong)


def test_bounds_of_replicas_are_in_order() -> None:
    with pytest.raises(ValidationError, match="--max-replicas 1 is less than --replicas 2"):
        ServingSettings(models={"a": "a"}, replicas=2, max_replicas=1)
    assert ServingSettings(models={"a": "a"}, replicas=2).scaling() == {"num_replicas": 2}
    scaled = ServingSettings(models={"a": "a"}, replicas=2, max_replicas=5).scaling()
    assert scaled["autoscaling_config"]["max_replicas"] == 5


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_whoever_listens_to_others_needs_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(IrmasError, match="IRMAS_SERVE_TOKEN"):
        require_token(host, None)
    with pytest.raises(IrmasError, match="16 ASCII characters"):
        require_token(host, "short")
    require_token(host, "0123456789abcdef")


def test_this_machine_needs_none() -> None:
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        require_token(host, None)


@pytest.mark.parametrize("prefix", ["/etc", "file:///etc", "https://a/b", "s3://", "music"])
def test_only_folders_of_object_stores_can_be_allowed(prefix: str) -> None:
    with pytest.raises(ValidationError):
        Limits(allow_url_prefix=(prefix,))


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://bucket/in",
        "s3://bucket/in/",
        "s3://bucket/inner/a.wav",
        "s3://bucket/in/../secret.wav",
        "s3://bucket/in/%2e%2e/secret.wav",
        "s3://bucket/in/a.wav?endpoint_override=evil",
        "s3://bucket-of-others/in/a.wav",
    ],
)
def test_no_other_url_is_read(url: str) -> None:
    assert not is_allowed(url, Limits(allow_url_prefix=("s3://bucket/in",)).allow_url_prefix)


@given(st.text())
def test_what_is_allowed_begins_with_a_prefix_and_never_leaves_it(rest: str) -> None:
    if is_allowed(PREFIX + rest, (PREFIX,)):
        assert rest
        assert ".." not in rest.split("/")
    assert not is_allowed(rest, ())
