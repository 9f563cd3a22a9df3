"""What a test does for lack of a program."""

import pytest

from tests.servers import REQUIRE, need


def test_a_missing_program_skips_where_it_may_and_fails_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    need("sh")
    with pytest.raises(pytest.skip.Exception, match="needs no-such-program"):
        need("sh", "no-such-program")
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="needs no-such-program"):
        need("no-such-program")
