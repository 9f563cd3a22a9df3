"""Bands: the labelled players at similar levels, all others quieter, each in its range."""

import numpy as np
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.rendering.band import form_band
from irmas_dist.rendering.general_midi import PLAYABLE


@pytest.mark.parametrize("seed", range(20))
def test_backing_is_quieter_than_every_labelled_player(seed: int) -> None:
    band = form_band(["pia", "voi"], np.random.default_rng(seed), "unused.sf2", drums=True)
    assert list(band.players) == ["pia", "voi"]
    quietest = min(player.level_db for player in band.players.values())
    assert all(player.level_db < quietest for player in band.backing)
    assert band.drummer
    for player in [*band.players.values(), *band.backing]:
        lowest, highest = PLAYABLE[player.code].ranges[player.program]
        assert lowest <= player.lowest < player.highest <= highest


def test_a_band_without_drums_has_no_drummer_and_backing_is_one_of_the_given_codes() -> None:
    bands = [
        form_band(["pia"], np.random.default_rng(s), "unused.sf2", drums=False, backing=["bas"])
        for s in range(20)
    ]
    assert all(band.drummer is None for band in bands)
    assert {player.code for band in bands for player in band.backing} == {"bas"}


def test_an_instrument_without_general_midi_program_is_refused() -> None:
    with pytest.raises(IrmasError, match="cannot render 'kaz': no General MIDI programs"):
        form_band(["kaz"], np.random.default_rng(0), "unused.sf2", drums=False)
