import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from irmas_dist.corpus.irmas import GENRES, TEST_LABELS
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, IRMAS_INSTRUMENTS, Vocabulary
from irmas_dist.rendering import soundfont, synthesis
from irmas_dist.rendering.band import form_band
from irmas_dist.rendering.general_midi import PLAYABLE
from irmas_dist.rendering.recordings import plan_testing, plan_training
from irmas_dist.rendering.render import RenderSettings, RenderSummary, render
from irmas_dist.rendering.soundfont import SAMPLE_RATE, load_soundfont, prepared_soundfonts
from irmas_dist.rendering.synthesis import render_stems

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


@pytest.fixture(scope="module")
def timgm() -> Iterator[str]:
    with prepared_soundfonts([]) as (path,):
        yield path


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


def test_music_does_not_depend_on_what_was_played_before_it(timgm: str) -> None:
    def play(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        band = form_band(["pia", "vio"], rng, timgm, drums=True)
        return synthesis.render_passage(band, ["pia", "vio"], 1.0, rng).tobytes()

    load_soundfont.cache_clear()
    forwards = [play(seed) for seed in range(10)]
    load_soundfont.cache_clear()
    backwards = [play(seed) for seed in reversed(range(10))]
    assert forwards == backwards[::-1]


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


def test_names_tell_whether_there_are_drums() -> None:
    for share, expected in ((0.0, "[nod]"), (1.0, "[dru]")):
        recordings = plan_training(IRMAS, 20, 1, share, seed=0)
        annotated = [path for recording in recordings if "__[" in (path := recording.clips[0].path)]
        assert annotated
        assert all(expected in path for path in annotated)
        assert all(recording.drums == bool(share) for recording in recordings)


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


def test_song_names_hold_what_trips_a_careless_reader(rendering: RenderSummary) -> None:
    names = [path.name for path in excerpts_of(rendering)]
    for character in " '[#,&":
        assert any(character in name for name in names), character
    accented = [name for name in names if not name.isascii()]
    assert accented
    assert all(unicodedata.is_normalized("NFD", name) for name in accented)


def test_excerpts_have_irmas_numbers_of_instruments_and_its_popularity() -> None:
    songs = plan_testing(IRMAS, songs=3000, excerpts=1, drums_share=0.5, seed=0)
    labels = [song.clips[0].instruments for song in songs]
    sizes = Counter(map(len, labels))
    assert sizes[1] / 3000 == pytest.approx(1236 / 2874, abs=0.03)
    assert sizes[2] / 3000 == pytest.approx(1278 / 2874, abs=0.03)
    assert sizes[3] / 3000 == pytest.approx(318 / 2874, abs=0.02)
    soloists = Counter(codes[0] for codes in labels if len(codes) == 1)
    for code, count in TEST_LABELS.items():
        assert soloists[code] / sizes[1] == pytest.approx(count / 4917, abs=0.04), code


def test_every_labelled_instrument_is_heard_in_a_mixture(timgm: str) -> None:
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


def test_another_vocabulary_can_be_rendered_when_its_instruments_are_known(tmp_path: Path) -> None:
    duo = Vocabulary.of({"bas": "bass", "har": "harp"})
    summary = render(tmp_path, SMALL, duo)
    assert {path.parent.name for path in clips_of(summary)} == {"bas", "har"}

    with pytest.raises(IrmasError, match="cannot render 'kaz': no General MIDI programs"):
        render(tmp_path, SMALL, Vocabulary.of({"kaz": "kazoo"}))


def test_a_soundfont_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sf2"
    with pytest.raises(IrmasError, match=r"^soundfont \S+missing\.sf2: no such file$"):
        render(tmp_path / "out", SMALL.model_copy(update={"soundfonts": (missing,)}))

    broken = tmp_path / "broken.sf2"
    whole = soundfont.default_soundfont().read_bytes()
    for content in (b"", b"not a soundfont", whole[:-100_000]):
        broken.write_bytes(content)
        with pytest.raises(IrmasError, match=r"^soundfont \S+broken\.sf2 is not a whole SoundFo"):
            render(tmp_path / "out", SMALL.model_copy(update={"soundfonts": (broken,)}))


def test_a_missing_package_is_answered_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    load_soundfont.cache_clear()
    with pytest.raises(IrmasError, match=r"symusic.*pip install 'irmas-dist\[demo\]'"):
        render(tmp_path, SMALL)

    monkeypatch.setattr(soundfont, "find_spec", lambda name: None)
    with pytest.raises(IrmasError, match=r"soundfont.*pip install 'irmas-dist\[demo\]'"):
        render(tmp_path, SMALL)


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IrmasError, match=r"file/out: "):
        render(tmp_path / "file" / "out", SMALL)


def test_a_tree_with_other_audio_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / "IRMAS-TrainingData" / "flu" / "[flu][cla]0001__9.wav"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    with pytest.raises(IrmasError, match=r"already holds other audio, such as .*0001__9\.wav"):
        render(tmp_path, SMALL, TRIO)
    assert list(content(tmp_path)) == ["IRMAS-TrainingData/flu/[flu][cla]0001__9.wav"]
