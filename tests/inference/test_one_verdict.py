"""Index, extract, predict, evaluate, the check of an export and a preview hear the same audio."""

import math
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import SCHEMA
from irmas_dist.errors import IrmasError
from irmas_dist.features.shard_tasks import compute_shard
from irmas_dist.features.store import read_shards, shard_names
from irmas_dist.inference.audio_inputs import predict_file
from irmas_dist.inference.export import decode_mono
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS
from irmas_dist.reports.spectrogram import draw
from tests.corpus.formats import PIPE_SIZES, WRITTEN, content, wav_of_size, without_tag


@st.composite
def files(draw: Callable) -> bytes:
    """Files of any format: whole, cut, joined, with junk, other sizes or damaged bytes."""
    whole = content(draw(st.sampled_from(sorted(WRITTEN))))
    match draw(st.sampled_from(["whole", "cut", "joined", "junk", "sizes", "untagged", "damaged"])):
        case "cut":
            return whole[: draw(st.integers(0, len(whole)))]
        case "joined":
            return whole + content(draw(st.sampled_from(sorted(WRITTEN))))
        case "junk":
            return whole + draw(st.binary(max_size=5_000))
        case "sizes":
            near = len(content("a.wav")) - 44 + draw(st.integers(-6_000, 6_000))
            sizes = st.sampled_from([*PIPE_SIZES, near]) | st.integers(0, 2**32 - 1)
            return wav_of_size(draw(sizes), draw(st.none() | sizes))
        case "untagged":
            return without_tag(content("a.mp3"))[: draw(st.none() | st.integers(0, 9_000))]
        case "damaged":
            damaged = bytearray(whole)
            for at in draw(st.lists(st.integers(0, min(len(whole), 200) - 1), max_size=3)):
                damaged[at] = draw(st.integers(0, 255))
            return bytes(damaged)
    return whole


def verdict_of(listen: Callable[[], int]) -> int | str:
    """Return the number of frames that were heard, or why there are none."""
    try:
        return listen()
    except IrmasError as error:
        return str(error)


@settings(max_examples=60)
@given(written=files())
def test_all_commands_have_one_verdict_on_a_file(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory, written: bytes
) -> None:
    folder = tmp_path_factory.mktemp("verdict")
    features = predictor.description.features
    path = folder / "pia" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(written)

    def frames(samples: int, rate: int) -> int:
        return 1 + math.ceil(samples * (features.sample_rate / rate)) // features.hop_length

    (row,) = index_tree(folder)

    def index() -> int:
        if row["problem"]:
            raise IrmasError(row["problem"])
        return frames(round(row["duration_s"] * row["sample_rate"]), row["sample_rate"])

    def extract() -> int:
        block = pa.Table.from_pylist([row | {"problem": None}], SCHEMA)
        shard = compute_shard(block, str(folder / "store"), features, IRMAS).to_pylist()[0]
        if shard["rejects"]:
            raise IrmasError(shard["rejects"][0]["problem"])
        (written,) = read_shards(str(folder / "store"), shard_names(str(folder / "store")))
        return written.clips.column("frames")[0].as_py()

    def predict() -> int:
        prediction = predict_file(predictor, str(path), timeline=True)
        if prediction.error:
            raise IrmasError(prediction.error)
        seconds = prediction.timeline.ends[-1]
        return max(round(seconds * features.frames_per_second), 0)

    def export() -> int:
        samples, rate = decode_mono(str(path), "mean")
        return frames(len(samples), rate)

    indexed = verdict_of(index)
    assert verdict_of(extract) == indexed
    if isinstance(indexed, str):
        assert verdict_of(predict) == indexed
        named = f"{path}: {indexed}"
        assert verdict_of(export) == named
        with pytest.raises(IrmasError) as refused:
            draw(str(path), features, folder / "a.png")
        assert str(refused.value) == named
    else:
        assert verdict_of(export) == indexed
        # A clip that is shorter than a window ends with it.
        assert verdict_of(predict) == max(indexed, predictor.description.windows.frames)
