"""Synthesised passages: reproducible, with every labelled instrument audible."""

from dataclasses import replace

import numpy as np
import pytest

from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.rendering import synthesis
from irmas_dist.rendering.band import form_band
from irmas_dist.rendering.general_midi import playable
from irmas_dist.rendering.soundfont import SAMPLE_RATE, load_soundfont
from irmas_dist.rendering.synthesis import render_stems


def test_music_does_not_depend_on_earlier_passages(timgm: str) -> None:
    def play(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        band = form_band(["pia", "vio"], rng, timgm, drums=True)
        return synthesis.render_passage(band, ["pia", "vio"], 1.0, rng).tobytes()

    load_soundfont.cache_clear()
    forwards = [play(seed) for seed in range(10)]
    load_soundfont.cache_clear()
    backwards = [play(seed) for seed in reversed(range(10))]
    assert forwards == backwards[::-1]


def test_every_labelled_instrument_is_audible_in_a_mixture(timgm: str) -> None:
    codes = ["cel", "gel", "org", "tru", "voi"]
    passage = slice(SAMPLE_RATE, 7 * SAMPLE_RATE)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        band = form_band(codes, rng, timgm, drums=True)
        stems = {
            player.code: stem[passage]
            for player, stem in render_stems(band, codes, 8 * SAMPLE_RATE, passage, rng)
        }
        level_db = {code: 10 * np.log10(np.mean(stem**2)) for code, stem in stems.items()}
        labelled = [level_db.pop(code) for code in codes]
        assert max(labelled) - min(labelled) <= 8
        assert "drums" in level_db
        assert max(level_db.values()) < max(labelled)


@pytest.mark.parametrize("code", OPENMIC.codes)
def test_every_program_of_openmic_s_instruments_has_a_sound(code: str, timgm: str) -> None:
    passage = slice(0, SAMPLE_RATE)
    for program in playable(code).ranges:
        rng = np.random.default_rng(program)
        band = form_band([code], rng, timgm, drums=False, backing=())
        player = replace(band.players[code], program=program)
        band = replace(band, players={code: player})
        [(_, stem)] = render_stems(band, [code], SAMPLE_RATE, passage, rng)
        assert np.abs(stem).max() > 0.01, program
