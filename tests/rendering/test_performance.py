"""Improvised passages: in the key, in the register, in order, with every player."""

import numpy as np
import pytest

from irmas_dist.rendering.band import Band, form_band
from irmas_dist.rendering.general_midi import CYMBALS, KICK, SNARE
from irmas_dist.rendering.performance import GROOVES, perform


def band_of(*codes: str, seed: int = 0, drums: bool = False, groove: str = "pop_roc") -> Band:
    rng = np.random.default_rng(seed)
    return form_band(codes, rng, "unused.sf2", drums=drums, groove=groove)


@pytest.mark.parametrize("seed", range(5))
def test_players_keep_to_their_register_and_to_time(seed: int) -> None:
    band = band_of("vio", "pia", "gac", seed=seed, drums=True)
    passage = perform(band, ["pia", "vio"], 6.0, np.random.default_rng(seed))
    assert [player.code for player, _ in passage[:2]] == ["pia", "vio"]
    assert "gac" not in {player.code for player, _ in passage}
    for player, events in passage:
        starts = [event.start_s for event in events]
        assert starts == sorted(starts)
        assert all(0 <= start < 6.5 for start in starts)
        for event in events:
            assert event.end_s > event.start_s
            assert player.lowest <= min(event.pitches) <= max(event.pitches) <= player.highest


def test_melodies_and_chords_are_in_the_key() -> None:
    band = band_of("flu", "org", "pia", seed=1)
    for _, events in perform(band, ["flu", "org", "pia"], 10.0, np.random.default_rng(1)):
        assert {pitch % 12 for event in events for pitch in event.pitches} <= set(band.scale)


@pytest.mark.parametrize("groove", GROOVES)
def test_drums_play_the_groove_of_the_genre(groove: str) -> None:
    band = band_of("sax", drums=True, groove=groove)
    player, strokes = perform(band, ["sax"], 20.0, np.random.default_rng(0))[-1]
    assert player.code == "drums"
    assert {event.pitches[0] for event in strokes} == set(GROOVES[groove])


@pytest.mark.parametrize("groove", GROOVES)
def test_drums_and_cymbals_with_a_label_of_their_own_share_a_groove(groove: str) -> None:
    band = band_of("drums", "cymbals", groove=groove)
    played = {
        player.code: {event.pitches[0] for event in events}
        for player, events in perform(band, ["drums", "cymbals"], 20.0, np.random.default_rng(0))
        if player.kit
    }
    assert played["drums"] | played["cymbals"] == set(GROOVES[groove])
    assert played["drums"] == {KICK, SNARE}
    assert played["cymbals"] <= set(CYMBALS)
