"""Windows cover clips to their end, and are scored as whole clips are."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.features.clips import Clips
from irmas_dist.models.cnn import CNN
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.windows import DeviceClips, covering_windows, score_windows
from tests.training.conftest import CLIPS


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_windows_cover_every_clip_to_its_end(lengths: list[int], frames: int, hop: int) -> None:
    windows = covering_windows(np.array(lengths, np.int64), frames, hop)
    for clip, length in enumerate(lengths):
        offsets = windows.offsets[windows.bounds[clip] : windows.bounds[clip + 1]]
        assert (windows.clips[windows.bounds[clip] : windows.bounds[clip + 1]] == clip).all()
        assert offsets[0] == 0
        assert offsets[-1] == max(length - frames, 0)
        assert (np.diff(offsets) <= hop).all()
        assert (np.diff(offsets) > 0).all()


def test_clips_from_a_fifth_of_a_second_to_an_hour_are_scored_by_windows() -> None:
    """At 43 frames a second: shorter than a window, as long, and 3,600 times as long."""
    bands, frames = 8, 43
    network = CNN(
        ModelSettings(blocks=2, width=4, dense=8, head="flatten"),
        bands,
        frames,
        3,
    )
    lengths = np.array([8, 43, 44, 154_800])
    rng = np.random.default_rng(0)
    features = LogMelSettings(bands=bands)
    frames_of_clips = rng.normal(size=(int(lengths.sum()), bands)).astype(np.float16)
    # The first clip and all windows of the last one but a few are silent.
    frames_of_clips[:8] = features.log_floor
    frames_of_clips[2_000:] = features.log_floor
    clips = Clips(
        frames=frames_of_clips,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=np.zeros((4, 3), np.float32),
        clip_ids=["a", "b", "c", "d"],
        parts=["testing"] * 4,
        groups=["a", "b", "c", "d"],
    )
    covering = covering_windows(lengths, frames, frames // 2)
    outputs = score_windows(
        network,
        Standardise([0.0] * bands, [1.0] * bands),
        DeviceClips(clips, torch.device("cpu")),
        covering.to_device(torch.device("cpu")),
        frames,
        features,
    )
    assert np.diff(covering.bounds).tolist() == [1, 1, 2, 7_371]
    assert outputs.logits.shape == (7_375, 3)
    assert outputs.logits.isfinite().all()
    starts = clips.starts[covering.clips] + covering.offsets
    silent = (covering.clips == 0) | (starts >= 2_000)
    np.testing.assert_array_equal(outputs.silent, silent)
    scores = outputs.scores()
    np.testing.assert_allclose(scores[~silent], outputs.logits[~silent].sigmoid(), rtol=1e-6)
    assert (scores[~silent] > 0).all()
    assert not scores[silent].any()


def test_a_position_past_the_last_frame_of_its_clip_is_outside() -> None:
    last = float(CLIPS.lengths[0]) - 1
    positions = torch.tensor([[0.0, last - 0.5, last, last + 0.5, last + 1]])
    ours = DeviceClips(CLIPS, torch.device("cpu"))
    _, inside = ours.between(torch.tensor([0]), positions)
    assert inside.tolist() == [[True, True, True, False, False]]
