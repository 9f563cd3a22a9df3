"""What containers say: sizes of pipes, missing ends, several files in one, other formats."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus.audio import TOLERANCE_S, read_audio
from irmas_dist.corpus.containers import is_placeholder
from irmas_dist.errors import AudioError, UnknownFormatError
from tests.corpus.formats import ID3, PIPE_SIZES, RATE, SECONDS, WRITTEN, content, wav_of_size


def read(path: Path, written: bytes) -> np.ndarray:
    path.write_bytes(written)
    return read_audio(path)[0]


@pytest.mark.parametrize("size", PIPE_SIZES, ids=hex)
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    whole = read(tmp_path / "a.wav", content("a.wav"))
    for riff in (size, size + 36, 0, 0xFFFFFFFF):
        piped = read(tmp_path / "piped.wav", wav_of_size(size, riff))
        np.testing.assert_array_equal(piped, whole)


def test_a_wav_that_rightly_states_no_audio_has_none(tmp_path: Path) -> None:
    tags = b"LIST\4\0\0\0INFO"
    header = wav_of_size(0, 36 + len(tags))[:44]
    with pytest.raises(AudioError, match="holds no samples"):
        read(tmp_path / "a.wav", header + tags)


def test_chunks_after_the_audio_of_a_wav_are_not_heard(tmp_path: Path) -> None:
    tagged = content("a.wav") + b"LIST\4\0\0\0INFO" + bytes(99)
    assert len(read(tmp_path / "a.wav", tagged)) == SECONDS * RATE


@pytest.mark.parametrize("more", [1, 4, 16, 44, 4 * int(TOLERANCE_S * RATE)])
def test_a_wav_that_counts_a_little_too_much_is_whole(tmp_path: Path, more: int) -> None:
    whole = len(content("a.wav")) - 44
    assert len(read(tmp_path / "a.wav", wav_of_size(whole + more))) == SECONDS * RATE


def test_a_wav_that_lacks_more_is_truncated(tmp_path: Path) -> None:
    more = 4 * int(2 * TOLERANCE_S * RATE)
    with pytest.raises(AudioError, match=r"announces 0\.54 s, but it ends after 0\.50 s"):
        read(tmp_path / "a.wav", wav_of_size(len(content("a.wav")) - 44 + more))
    with pytest.raises(AudioError, match=r"is truncated: it has none of 96,000 bytes of audio"):
        read(tmp_path / "a.wav", content("a.wav")[:44])


@given(name=st.sampled_from(sorted(WRITTEN)), share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_lacks_next_to_nothing(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float
) -> None:
    whole = content(name)
    path = tmp_path_factory.getbasetemp() / "cut"
    try:
        samples = read(path, whole[: int(share * len(whole))])
    except AudioError:
        return
    blocks = 2 * 1_024 if "adpcm" in name else 0  # Audio is encoded in blocks of this many samples.
    assert len(samples) >= (SECONDS - TOLERANCE_S) * RATE - blocks


@pytest.mark.parametrize("name", ["a.flac", "a.caf", "a.opus", "a.ogg", "a.mp3", "a.wav", "a.aiff"])
def test_a_file_cut_in_half_is_said_to_be_cut_short(tmp_path: Path, name: str) -> None:
    whole = content(name)
    with pytest.raises(AudioError, match=r"^is truncated: |; it is cut short or damaged$"):
        read(tmp_path / name, whole[: len(whole) // 2 + 7])


@pytest.mark.parametrize("name", sorted(WRITTEN.keys() - {"a.mp3", "a.aiff"}))
def test_several_files_in_one_are_refused(tmp_path: Path, name: str) -> None:
    whole = content(name)
    with pytest.raises(AudioError, match=r"is several \w+ files joined, which would not be"):
        read(tmp_path / "a", whole + whole)


def test_two_files_of_apple_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"cannot be decoded: "):
        read(tmp_path / "a", 2 * content("a.aiff"))


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_tag_is_read_over_or_refused(tmp_path: Path, name: str) -> None:
    whole = content(name)
    if name in ("a.mp3", "a.flac"):
        heard = read(tmp_path / "a", ID3 + whole)
        np.testing.assert_array_equal(heard, read(tmp_path / "b", whole))
        if name == "a.flac":
            with pytest.raises(AudioError, match="is several FLAC files joined"):
                read(tmp_path / "a", ID3 + whole + whole)
    else:
        with pytest.raises(AudioError, match=r"^has an ID3 tag before its header"):
            read(tmp_path / "a", ID3 + whole)


def test_an_ogg_that_lacks_a_page_is_refused(tmp_path: Path) -> None:
    whole = content("a.ogg", 20.0)
    second, third = (whole.index(b"OggS", whole.index(b"OggS", at) + 1) for at in (9_000, 14_000))
    assert second < third
    with pytest.raises(AudioError, match="some of its pages are missing"):
        read(tmp_path / "a.ogg", whole[:second] + whole[third:])


def test_a_flac_of_unknown_length_is_refused(tmp_path: Path) -> None:
    piped = bytearray(content("a.flac"))
    piped[21] &= 0xF0
    piped[22:26] = bytes(4)
    with pytest.raises(AudioError, match="is FLAC of unknown length, as written into a pipe"):
        read(tmp_path / "a.flac", bytes(piped))


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom", "MPEG-4 audio (AAC or ALAC)"),
        (b"\xff\xf1\x50\x80", "AAC"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media audio"),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    ],
)
def test_a_format_that_cannot_be_decoded_is_named(tmp_path: Path, head: bytes, named: str) -> None:
    with pytest.raises(UnknownFormatError) as refused:
        read(tmp_path / "a", head + bytes(5_000))
    assert str(refused.value) == (
        f"is {named}, which cannot be decoded: convert it, "
        "for example with 'ffmpeg -i FILE FILE.wav'"
    )


def test_sizes_of_real_files_are_none_of_a_pipe() -> None:
    assert all(is_placeholder(size) for size in PIPE_SIZES)
    assert not any(is_placeholder(size) for size in (1, 529_200, 2**30, 2**31 - 5_000, 3 * 2**30))


def with_chunks(aiff: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return an AIFF with chunks before its audio."""
    at = aiff.index(b"SSND")
    added = b"".join(
        name + len(body).to_bytes(4, "big") + body + bytes(len(body) % 2) for name, body in chunks
    )
    return aiff[:at] + added + aiff[at:]


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"ANNO", b"a" * 60)] * 50,
        [(b"NAME", b"n" * 3_001)],
        [(b"(c) ", b"c" * 3_000), (b"COMT", bytes(2))],
    ],
    ids=["none", "many", "long", "others"],
)
def test_an_aiff_that_is_cut_is_refused_whatever_text_it_has(
    tmp_path: Path, chunks: list[tuple[bytes, bytes]]
) -> None:
    whole = with_chunks(content("a.aiff"), *chunks)
    assert len(read(tmp_path / "a.aiff", whole)) == SECONDS * RATE
    start = whole.index(b"SSND") + 16
    half = start + (len(whole) - start) // 2
    with pytest.raises(AudioError, match=r"is truncated: its header announces 0\.50 s"):
        read(tmp_path / "a.aiff", whole[:half])
    with pytest.raises(AudioError, match="is truncated: it has none of"):
        read(tmp_path / "a.aiff", whole[:start])
