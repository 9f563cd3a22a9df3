"""The recordings of a rendered tree have IRMAS's names, labels and distributions."""

from collections import Counter

import pytest

from irmas_dist.corpus.irmas import INSTRUMENTS_PER_EXCERPT, TEST_EXCERPTS, TEST_LABELS
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.recordings import song_recordings, training_recordings


def test_names_state_whether_there_are_drums() -> None:
    for share, expected in ((0.0, "[nod]"), (1.0, "[dru]")):
        recordings = training_recordings(IRMAS, 20, 1, share, seed=0)
        annotated = [path for recording in recordings if "__[" in (path := recording.clips[0].path)]
        assert annotated
        assert all(expected in path for path in annotated)
        assert all(recording.drums == bool(share) for recording in recordings)


def test_excerpts_have_irmas_numbers_of_instruments_and_its_popularity() -> None:
    songs = song_recordings(IRMAS, songs=3000, excerpts=1, drums_share=0.5, seed=0)
    labels = [song.clips[0].instruments for song in songs]
    sizes = Counter(map(len, labels))
    assert sizes[1] / 3000 == pytest.approx(INSTRUMENTS_PER_EXCERPT[1] / TEST_EXCERPTS, abs=0.03)
    assert sizes[2] / 3000 == pytest.approx(INSTRUMENTS_PER_EXCERPT[2] / TEST_EXCERPTS, abs=0.03)
    assert sizes[3] / 3000 == pytest.approx(INSTRUMENTS_PER_EXCERPT[3] / TEST_EXCERPTS, abs=0.02)
    soloists = Counter(codes[0] for codes in labels if len(codes) == 1)
    for code, count in TEST_LABELS.items():
        assert soloists[code] / sizes[1] == pytest.approx(
            count / sum(TEST_LABELS.values()), abs=0.04
        ), code
