"""MP3s are heard to their end, whatever their first frame says, or refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.corpus.audio import read_audio
from irmas_dist.corpus.mpeg import check_frames
from irmas_dist.errors import AudioError, UnknownFormatError
from tests.corpus.formats import ID3, content, without_tag

FRAME_S = 1_152 / 44_100


def mp3(samples: np.ndarray, rate: int = 44_100, **options: object) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="MP3", **options)
    return stream.getvalue()


def noise(seconds: float, level: float = 0.3, channels: int = 2, rate: int = 44_100) -> np.ndarray:
    rng = np.random.default_rng(0)
    return level * rng.standard_normal((int(seconds * rate), channels))


def seconds_of(path: Path, written: bytes) -> float:
    path.write_bytes(written)
    samples, rate = read_audio(path)
    return len(samples) / rate


@pytest.mark.parametrize("order", [1, -1])
def test_a_variable_bit_rate_without_a_tag_is_heard_to_the_end(tmp_path: Path, order: int) -> None:
    quiet, loud = noise(4, 0.0001), noise(4)
    halves = np.concatenate([quiet, loud][::order])
    tagged = mp3(halves, bitrate_mode="VARIABLE", compression_level=0.3)
    assert seconds_of(tmp_path / "tagged.mp3", tagged) == 8
    heard = seconds_of(tmp_path / "bare.mp3", without_tag(tagged))
    assert 8 <= heard < 8 + 3 * FRAME_S  # The tag also says how much of the ends is padding.


def test_what_follows_the_last_frame_is_not_decoded(tmp_path: Path) -> None:
    bare = without_tag(mp3(noise(3)))
    heard = seconds_of(tmp_path / "a.mp3", bare)
    assert seconds_of(tmp_path / "a.mp3", bare + b"APETAGEX" + b"?" * 100_000) == heard


def test_a_tag_is_believed_where_it_is_right(tmp_path: Path) -> None:
    whole = mp3(noise(3))
    for written in (whole, ID3 + whole, whole + b"TAG" + bytes(125)):
        assert seconds_of(tmp_path / "a.mp3", written) == 3
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.mp3")[0], soundfile.read(io.BytesIO(whole), dtype="float32")[0]
    )


@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), ID3, b"?" * 70_000])
def test_joined_files_are_all_heard(tmp_path: Path, between: bytes) -> None:
    one = mp3(noise(3))
    for count in (2, 3):
        heard = seconds_of(tmp_path / "a.mp3", between.join([one] * count))
        assert 3 * count <= heard < 3 * count + 4 * count * FRAME_S


@pytest.mark.parametrize("other", [{"rate": 48_000}, {"channels": 1}])
def test_joined_files_of_several_kinds_are_refused(tmp_path: Path, other: dict) -> None:
    one = mp3(noise(1)) + mp3(noise(1, **other), other.get("rate", 44_100))
    with pytest.raises(AudioError, match="is several MP3s of different sample rates or numbers"):
        seconds_of(tmp_path / "a.mp3", one)


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.501, 0.999])
def test_a_file_that_ends_within_a_frame_is_truncated(
    tmp_path: Path, tagged: bool, share: float
) -> None:
    whole = mp3(noise(3)) if tagged else without_tag(mp3(noise(3)))
    with pytest.raises(AudioError, match="is truncated: it ends within a frame"):
        seconds_of(tmp_path / "a.mp3", whole[: int(share * len(whole))])


def test_a_file_that_ends_between_frames_is_truncated_by_its_tag(tmp_path: Path) -> None:
    whole = content("a.mp3", 2.0)
    frames = [at for at in range(len(whole)) if whole.startswith(whole[:2], at)]
    with pytest.raises(AudioError, match=r"its header announces 2\.00 s, but it ends after"):
        seconds_of(tmp_path / "a.mp3", whole[: frames[len(frames) // 2]])


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ("fffb9064", 417),  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
        ("fffb9264", 418),  # the same, padded
        ("fffba444", 480),  # 160 kbit/s, 48 kHz
        ("fff36044", 156),  # MPEG 2 layer III, 48 kbit/s, 22.05 kHz
        ("ffe31844", 36 * 2),  # MPEG 2.5 layer III, 8 kbit/s, 8 kHz
        ("fffd8004", 417),  # MPEG 1 layer II, 128 kbit/s, 44.1 kHz
        ("ffff4004", 136),  # MPEG 1 layer I, 128 kbit/s, 44.1 kHz
    ],
)
def test_the_length_of_a_frame_is_that_of_its_header(header: str, length: int) -> None:
    frame = bytes.fromhex(header) + bytes(length - 4)
    assert check_frames(io.BytesIO(5 * frame), 5 * length) == [(0, 5 * length)]
    with pytest.raises(AudioError, match="it ends within a frame"):
        check_frames(io.BytesIO(5 * frame), 5 * length - 1)
    # Other bytes than frames are skipped, even if they begin like one.
    other = b"?" * 50 + frame[:4]
    joined = 5 * frame + other + 4 * frame + other
    assert check_frames(io.BytesIO(joined), len(joined)) == [
        (0, 5 * length), (5 * length + 54, 9 * length + 54),
    ]  # fmt: skip


def test_a_tag_of_too_few_frames_is_left_out() -> None:
    frame = bytes.fromhex("fffb9064") + bytes(413)
    for tag, at in ((b"Xing", 36), (b"Info", 36)):
        first = bytearray(frame)
        for stated, believed in ((4, True), (1, False)):
            first[at : at + 12] = tag + struct.pack(">II", 1, stated)
            found = check_frames(io.BytesIO(bytes(first) + 4 * frame), 5 * 417)
            assert found == (None if believed else [(417, 5 * 417)])


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count."""
        found = super().read(size)
        self.total += len(found)
        return found


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xfb\x90\x00", b"\xff\xfb", b"ID3"])
def test_what_resembles_frames_is_read_a_few_times_at_most(filling: bytes) -> None:
    written = mp3(noise(1)) + filling * (300_000 // len(filling))
    file = Counted(written)
    parts = check_frames(file, len(written))
    assert parts is None or parts[0][0] < 10_000
    assert file.total < 30 * len(written)


@pytest.mark.parametrize("start", [b"\xff\xfe", ID3])
def test_what_has_no_frame_is_of_no_known_format(tmp_path: Path, start: bytes) -> None:
    other = start + "words of UTF-16".encode("utf-16-le") * 100
    (tmp_path / "a.mp3").write_bytes(other)
    with pytest.raises(UnknownFormatError, match=r"has no frame of one|Format not recognised"):
        read_audio(tmp_path / "a.mp3")
