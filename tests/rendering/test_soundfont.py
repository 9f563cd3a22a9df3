"""Soundfonts: found, in tune, with a sound for every instrument, and refused by name."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.rendering import soundfont
from irmas_dist.rendering.general_midi import PLAYABLE
from irmas_dist.rendering.soundfont import (
    SAMPLE_RATE,
    default_soundfont,
    load_soundfont,
    prepared_soundfonts,
)

symusic = pytest.importorskip("symusic")
pytest.importorskip("pretty_midi")


def sound_of_note(timgm: str, program: int, pitch: int) -> npt.NDArray[np.float32]:
    track = symusic.Track("", program, False, ttype="second")
    track.notes.append(symusic.Note(0.0, 0.5, pitch, 100, "second"))
    score = symusic.Score(480, ttype="second")
    score.tracks.append(track)
    return load_soundfont(timgm, program).render(score, stereo=False)[0]


@pytest.mark.parametrize("code", PLAYABLE)
def test_every_program_of_an_instrument_sounds_in_all_its_range(code: str, timgm: str) -> None:
    for program, (lowest, highest) in PLAYABLE[code].ranges.items():
        for pitch in (lowest, highest):
            assert np.abs(sound_of_note(timgm, program, pitch)).max() > 0.01, (program, pitch)


@pytest.mark.parametrize("program", [0, 24, 40, 42, 56, 65, 71, 73, 85])
def test_instruments_are_in_tune(program: int, timgm: str) -> None:
    sound = sound_of_note(timgm, program, pitch=69)[4_000:20_000]
    period = SAMPLE_RATE / 440
    later = np.interp(np.arange(8_000) + period, np.arange(len(sound)), sound)
    assert np.corrcoef(sound[:8_000], later)[0, 1] > 0.9


def test_a_soundfont_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(IrmasError, match=r"^soundfont \S+missing\.sf2: no such file$"),
        prepared_soundfonts([tmp_path / "missing.sf2"]),
    ):
        pass

    broken = tmp_path / "broken.sf2"
    whole = default_soundfont().read_bytes()
    for content in (b"", b"not a soundfont", whole[:-100_000]):
        broken.write_bytes(content)
        with (
            pytest.raises(IrmasError, match=r"^soundfont \S+broken\.sf2 is not a complete SoundFo"),
            prepared_soundfonts([broken]),
        ):
            pass


def test_a_missing_package_is_reported_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    load_soundfont.cache_clear()
    with (
        pytest.raises(IrmasError, match=r"symusic.*pip install 'irmas-dist\[demo\]'"),
        prepared_soundfonts([]),
    ):
        pass

    monkeypatch.setattr(soundfont, "find_spec", lambda name: None)
    with pytest.raises(IrmasError, match=r"soundfont.*pip install 'irmas-dist\[demo\]'"):
        default_soundfont()
