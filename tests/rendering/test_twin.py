"""Twins of data sets: what is rendered, and what is rendered again."""

import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path, PurePosixPath

import psutil
import pytest
import soundfile as sf

from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.errors import IrmasError
from irmas_dist.rendering import render
from irmas_dist.rendering import twin as twin_module
from irmas_dist.rendering.irmas_twin import irmas_recordings
from irmas_dist.rendering.openmic_twin import openmic_clips
from irmas_dist.rendering.soundfont import default_soundfont
from irmas_dist.rendering.twin import RENDERER, TwinSettings, render_twin
from tests.corpus.catalogues import (
    GAC,
    GEL,
    GEL_MORE,
    PIA,
    SONG,
    TINY_TRAINING,
    write_catalogue,
)
from tests.waiting import wait_for

pytest.importorskip("symusic")
pytest.importorskip("pretty_midi")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TwinSettings:
    return TwinSettings(
        catalogue=write_catalogue(tmp_path_factory.mktemp("catalogue")), seed=3, workers=1
    )


@pytest.fixture(scope="module")
def twin(tiny: TwinSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_twin(tmp_path_factory.mktemp("twin"), tiny).path


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def audio(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(root).items() if name.endswith(".wav")}


# What is rendered


def test_a_fraction_of_irmas_is_rendered_in_seconds(tmp_path: Path) -> None:
    shipped = read_catalogue()
    settings = TwinSettings(fraction=0, seed=18, workers=2)  # this seed takes a short song
    summary = render_twin(tmp_path, settings)
    files = content(tmp_path)
    recordings = irmas_recordings(shipped, 0, seed=18)
    planned = {clip.path for recording in recordings for clip in recording.clips}
    assert set(audio(tmp_path)) == planned
    assert len(planned) == summary.training_files + summary.testing_files
    assert summary.bytes == sum(map(len, audio(tmp_path).values()))
    assert summary.audio_s == pytest.approx(
        sum(sf.info(tmp_path / name).duration for name in planned)
    )
    for entry in shipped:
        if entry.path in planned:
            info = sf.info(tmp_path / entry.path)
            assert (info.subtype, info.samplerate, info.channels) == ("PCM_16", 44_100, 2)
            labels = str(PurePosixPath(entry.path).with_suffix(".txt"))
            assert (labels in files) == (entry.part == TESTING)
            if entry.part == TESTING:
                assert (
                    files[labels] == "".join(f"{code}\t\n" for code in entry.instruments).encode()
                )


def test_same_seed_same_bytes_whatever_the_number_of_workers(
    tiny: TwinSettings, twin: Path, tmp_path: Path
) -> None:
    render_twin(tmp_path / "two", tiny.model_copy(update={"workers": 2}))
    assert content(tmp_path / "two") == content(twin)

    render_twin(tmp_path / "other", tiny.model_copy(update={"seed": 4}))
    other, first = audio(tmp_path / "other"), audio(twin)
    assert other.keys() == first.keys()
    assert not set(other.values()) & set(first.values())


def test_file_names_are_in_unicode_nfd(twin: Path) -> None:
    paths = [GAC, GEL, GEL_MORE, PIA, *(f"{SONG}-{number}.wav" for number in (1, 2, 10))]
    assert set(audio(twin)) == {unicodedata.normalize("NFD", path) for path in paths}
    assert any(not unicodedata.is_normalized("NFC", name) for name in audio(twin))


def test_identical_files_are_identical_and_others_are_not(twin: Path) -> None:
    files = {unicodedata.normalize("NFC", name): data for name, data in audio(twin).items()}
    assert files[GAC] == files[GEL]
    assert files[f"{SONG}-1.wav"] == files[f"{SONG}-2.wav"]
    assert len(set(files.values())) == len(files) - 2


def test_each_of_two_identical_files_keeps_its_own_labels(twin: Path) -> None:
    rows = {row["clip_id"]: row["instruments"] for row in index_tree(twin)}
    assert rows == {
        GAC.removesuffix(".wav"): ["gac"],
        GEL.removesuffix(".wav"): ["gel"],
        GEL_MORE.removesuffix(".wav"): ["gel"],
        PIA.removesuffix(".wav"): ["pia"],
        f"{SONG}-1": ["gac", "voi"],
        f"{SONG}-2": ["gac"],
        f"{SONG}-10": ["voi"],
    }


def test_identical_files_have_the_instruments_of_all_their_labels(
    tiny: TwinSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []
    real = render.render_passage

    def record(band, instruments, duration_s, rng):  # type: ignore[no-untyped-def]
        played.append((set(instruments), band.soundfont))
        return real(band, instruments, duration_s, rng)

    monkeypatch.setattr(render, "render_passage", record)
    render_twin(tmp_path, tiny)
    instruments_played = sorted("|".join(sorted(instruments)) for instruments, _ in played)
    assert instruments_played == ["gac|gel", "gac|voi", "gel", "pia", "voi"]


def test_several_soundfonts_are_used(
    tiny: TwinSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fonts = [tmp_path / "one.sf2", tmp_path / "two.sf2"]
    for font in fonts:
        font.write_bytes(default_soundfont().read_bytes())
    played = set()
    real = render.form_band

    def form(instruments, rng, soundfont, **options):  # type: ignore[no-untyped-def]
        played.add(Path(soundfont).name)
        return real(instruments, rng, soundfont, **options)

    monkeypatch.setattr(render, "form_band", form)
    render_twin(tmp_path / "twin", tiny.model_copy(update={"soundfonts": tuple(fonts), "seed": 1}))
    assert played == {"one.sf2", "two.sf2"}


def test_a_twin_of_openmic_is_the_data_set_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its shortest part: rendering 47 clips of 10 s would take as many seconds."""
    planned = openmic_clips(0)[:2]
    monkeypatch.setattr(twin_module, "openmic_clips", lambda *_: planned)
    settings = TwinSettings(dataset="openmic", workers=1)
    summary = render_twin(tmp_path / "a", settings)
    assert (summary.training_files, summary.testing_files, summary.audio_s) == (2, 0, 20.0)
    assert summary.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.ogg"))
    rows = {row["clip_id"]: row for row in index_tree(tmp_path / "a", OPENMIC)}
    assert all(row["duration_s"] == 10 and not row["problem"] for row in rows.values())
    assert set(rows) == {f"openmic-2018/audio/{c.key[:3]}/{c.key}" for c in planned}

    render_twin(tmp_path / "b", settings)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    [one, _] = tmp_path.glob("b/openmic-2018/audio/*/*.ogg")
    one.unlink()
    assert render_twin(tmp_path / "b", settings).kept_files == 1
    assert content(tmp_path / "a") == content(tmp_path / "b")


# Rendering again


def test_only_missing_files_are_rendered_again(
    tiny: TwinSettings, twin: Path, tmp_path: Path
) -> None:
    assert render_twin(tmp_path, tiny).kept_files == 0
    written = (tmp_path / PIA).stat().st_mtime_ns
    (tmp_path / GEL_MORE).unlink()
    excerpt = tmp_path / unicodedata.normalize("NFD", f"{SONG}-10.wav")
    excerpt.write_bytes(excerpt.read_bytes()[:-1])
    assert render_twin(tmp_path, tiny).kept_files == 1
    assert content(tmp_path) == content(twin)
    assert (tmp_path / PIA).stat().st_mtime_ns == written

    excerpt.with_suffix(".txt").write_bytes(b"voi\n")
    assert render_twin(tmp_path, tiny).kept_files == 4
    assert render_twin(tmp_path, tiny.model_copy(update={"workers": 2})).kept_files == 7
    assert content(tmp_path) == content(twin)


def test_files_of_other_settings_are_rendered_again(
    tiny: TwinSettings, twin: Path, tmp_path: Path
) -> None:
    out = render_twin(tmp_path / "twin", tiny.model_copy(update={"seed": 4})).path
    changed = write_catalogue(
        tmp_path / "catalogue", TINY_TRAINING.replace(f"{GEL},aa", f"{GEL},ab")
    )
    for settings in (tiny.model_copy(update={"catalogue": changed}), tiny):
        assert render_twin(out, settings).kept_files == 0
    assert content(out) == content(twin)


def test_the_record_covers_every_module_that_audio_depends_on() -> None:
    listing = (
        "import sys, irmas_dist.rendering.twin as twin;"
        "rooms = ('irmas_dist.corpus.', 'irmas_dist.rendering.');"
        "print(*(name.partition('.')[2] for name in sys.modules if name.startswith(rooms)))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(modules) - {"rendering.twin", "corpus.audio_files", "corpus.manifest"} == set(
        RENDERER
    )


def test_real_audio_is_never_overwritten(tiny: TwinSettings, tmp_path: Path) -> None:
    real = tmp_path / PIA
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(
        IrmasError, match=r"already holds audio that is not a twin's, such as .*pia"
    ):
        render_twin(tmp_path, tiny)
    assert content(tmp_path) == {PIA: b"real"}


def test_a_tree_with_other_audio_is_refused(tiny: TwinSettings, tmp_path: Path) -> None:
    out = render_twin(tmp_path / "twin", tiny).path
    before = content(out)
    fewer = write_catalogue(tmp_path / "fewer", TINY_TRAINING.replace(f"{PIA},\n", ""))
    with pytest.raises(IrmasError, match=r"already holds other audio, such as .*0003__1\.wav"):
        render_twin(out, tiny.model_copy(update={"catalogue": fewer}))
    (out / "more").mkdir()
    (out / "more" / "stray.FLAC").write_bytes(b"")
    with pytest.raises(IrmasError, match=r"already holds other audio, such as more/stray\.FLAC"):
        render_twin(out, tiny)
    assert content(out) == before | {"more/stray.FLAC": b""}


def test_ctrl_c_ends_all_rendering_processes(tmp_path: Path) -> None:
    out = tmp_path / "twin"
    command = [sys.executable, "-m", "irmas_dist", "render", str(out), "--twin", "irmas"]
    command += ["--fraction", "0.02", "--workers", "2"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, process_group=0
    ) as driver:
        wait_for(lambda: len(list(out.rglob("*.wav"))) >= 2 or driver.poll() is not None)
        started = psutil.Process(driver.pid).children(recursive=True)
        os.killpg(driver.pid, signal.SIGINT)
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
