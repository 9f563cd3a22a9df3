"""Fixtures of the rendering tests: the soundfont of pretty_midi, prepared for symusic."""

from collections.abc import Iterator

import pytest

from irmas_dist.rendering.soundfont import prepared_soundfonts


@pytest.fixture(scope="module")
def timgm() -> Iterator[str]:
    pytest.importorskip("symusic")
    pytest.importorskip("pretty_midi")
    with prepared_soundfonts([]) as (path,):
        yield path
