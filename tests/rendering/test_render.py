"""Rendered trees: reproducible, with IRMAS's names, labels and formats."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from irmas_dist.corpus.irmas import GENRES
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, IRMAS_INSTRUMENTS, Vocabulary
from irmas_dist.rendering.render import RenderSettings, RenderSummary, render
from irmas_dist.rendering.soundfont import SAMPLE_RATE

symusic = pytest.importorskip("symusic")
pytest.importorskip("pretty_midi")

TRAINING_NAME = re.compile(r"^(?:(\d+)__)?((?:\[[^\]]*\])+)(\d+)__(\d+)\.wav$")
TRIO = Vocabulary.of({code: IRMAS_INSTRUMENTS[code] for code in ("flu", "pia", "voi")})
SMALL = RenderSettings(
    recordings=1, clips_per_recording=2, songs=2, excerpts_per_song=2, seed=1, workers=1
)


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> RenderSummary:
    settings = RenderSettings(
        recordings=2, clips_per_recording=2, songs=6, excerpts_per_song=2, seed=0, workers=2
    )
    return render(tmp_path_factory.mktemp("rendering"), settings)


def clips_of(rendering: RenderSummary) -> list[Path]:
    return sorted((rendering.path / "IRMAS-TrainingData").rglob("*.wav"))


def excerpts_of(rendering: RenderSummary) -> list[Path]:
    return sorted((rendering.path / "IRMAS-TestingData-Part1" / "Part1").rglob("*.wav"))


def content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    render(tmp_path / "alone", SMALL, TRIO)
    render(tmp_path / "shared", SMALL.model_copy(update={"workers": 2}), TRIO)
    first = content(tmp_path / "alone")
    assert len(first) == 3 * 2 + 4 * 2
    assert content(tmp_path / "shared") == first

    render(tmp_path / "alone", SMALL, TRIO)
    assert content(tmp_path / "alone") == first


def test_every_clip_and_every_seed_has_music_of_its_own(tmp_path: Path) -> None:
    render(tmp_path / "one", SMALL, TRIO)
    render(tmp_path / "other", SMALL.model_copy(update={"seed": 2}), TRIO)
    audio = [
        data
        for root in (tmp_path / "one", tmp_path / "other")
        for name, data in content(root).items()
        if name.endswith(".wav")
    ]
    assert len(audio) == len(set(audio)) == 2 * (6 + 4)


def test_training_clips_are_three_seconds_of_audible_16_bit_stereo(
    rendering: RenderSummary,
) -> None:
    files = clips_of(rendering)
    assert len(files) == rendering.training_files == 11 * 2 * 2
    for path in files:
        assert sf.info(path).frames == 3 * SAMPLE_RATE
        assert_audible_cd_quality(path)


def test_excerpts_are_5_to_20_seconds_of_audible_16_bit_stereo(rendering: RenderSummary) -> None:
    files = excerpts_of(rendering)
    assert len(files) == rendering.testing_files == 6 * 2
    for path in files:
        assert 5 <= sf.info(path).duration <= 20
        assert_audible_cd_quality(path)


def assert_audible_cd_quality(path: Path) -> None:
    info = sf.info(path)
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    assert (info.samplerate, info.channels) == (44_100, 2)
    audio = sf.read(path)[0]
    assert 0.299 < np.abs(audio).max() < 0.981
    seconds = np.array_split(audio, round(info.duration))
    assert all(np.sqrt(np.mean(second**2)) > 1e-3 for second in seconds), path


def test_summary_counts_what_is_on_disk(rendering: RenderSummary) -> None:
    files = clips_of(rendering) + excerpts_of(rendering)
    assert rendering.bytes == sum(path.stat().st_size for path in files)
    assert rendering.audio_s == pytest.approx(sum(sf.info(path).duration for path in files))


def test_training_names_are_irmas_names(rendering: RenderSummary) -> None:
    recordings: Counter[str] = Counter()
    annotated = 0
    for path in clips_of(rendering):
        name = TRAINING_NAME.match(path.name)
        assert name
        prefix, tags, recording, _ = name.groups()
        instrument, *drums, genre = re.findall(r"\[([^\]]*)\]", tags)
        assert instrument == path.parent.name
        assert genre in GENRES
        assert (prefix is None) == (not drums)
        assert set(drums) <= {"dru", "nod"}
        annotated += len(drums)
        assert re.fullmatch(r"\d{4}", recording)
        recordings[recording] += 1
    assert {path.parent.name for path in clips_of(rendering)} == set(IRMAS.codes)
    assert set(recordings.values()) == {2}
    assert len(recordings) == 11 * 2
    assert 0 < annotated < len(clips_of(rendering))


def test_labels_are_one_to_five_instruments_that_the_song_has(rendering: RenderSummary) -> None:
    songs: dict[str, set[str]] = {}
    for path in excerpts_of(rendering):
        text = path.with_suffix(".txt").read_bytes().decode()
        assert re.fullmatch(r"(?:[a-z]{3}\t\n){1,5}", text)
        codes = text.split()
        assert len(set(codes)) == len(codes)
        assert set(codes) <= set(IRMAS.codes)
        songs.setdefault(path.name.rpartition("-")[0], set()).update(codes)
    assert len(songs) == 6
    assert all(len(band) <= 5 for band in songs.values())


def test_song_names_have_easily_mishandled_characters(rendering: RenderSummary) -> None:
    names = [path.name for path in excerpts_of(rendering)]
    for character in " '[#,&":
        assert any(character in name for name in names), character
    accented = [name for name in names if not name.isascii()]
    assert accented
    assert all(unicodedata.is_normalized("NFD", name) for name in accented)


def test_another_vocabulary_can_be_rendered_when_its_instruments_are_known(tmp_path: Path) -> None:
    duo = Vocabulary.of({"bas": "bass", "har": "harp"})
    summary = render(tmp_path, SMALL, duo)
    assert {path.parent.name for path in clips_of(summary)} == {"bas", "har"}

    with pytest.raises(IrmasError, match="cannot render 'kaz': no General MIDI programs"):
        render(tmp_path, SMALL, Vocabulary.of({"kaz": "kazoo"}))


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IrmasError, match=r"file/out cannot be written: "):
        render(tmp_path / "file" / "out", SMALL)


def test_a_tree_with_other_audio_is_refused(tmp_path: Path) -> None:
    stranger = tmp_path / "IRMAS-TrainingData" / "flu" / "[flu][cla]0001__9.wav"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    with pytest.raises(IrmasError, match=r"already holds other audio, such as .*0001__9\.wav"):
        render(tmp_path, SMALL, TRIO)
    assert list(content(tmp_path)) == ["IRMAS-TrainingData/flu/[flu][cla]0001__9.wav"]
