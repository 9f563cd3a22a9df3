"""Every command with every option, given values that it was not made for."""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import numpy as np
import pytest
import soundfile
import torch
import typer

from irmas_dist.cli import main
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.features import store
from irmas_dist.features.shard_tasks import compute_shard
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import CNN, initialise, parameter_count
from irmas_dist.training.model_description import (
    ModelDescription,
    Normalisation,
    ScoringWindows,
)
from irmas_dist.training.model_directory import pack_weights, save_model, scorer_identity
from tests.cli.conftest import Ended
from tests.search.conftest import write_sweep

VOCABULARY = Vocabulary.of({"pia": "piano", "vio": "violin"})
FEATURES = LogMelSettings(sample_rate=8_000, n_fft=512, hop_length=256, bands=8)
RECIPE = """
corpus: {instruments: {pia: piano, vio: violin}}
features: {sample_rate: 8000, n_fft: 512, hop_length: 256, bands: 8}
window: {seconds: 1.0, hop_seconds: 1.0}
model: {blocks: 1, width: 4, dense: 8}
validation: {mixtures: 4, share: 0.5}
training: {epochs: 1}
tracking: {mode: disabled}
"""
SOME = 3
"""One in so many values of each parameter is tried in every run; all of them in the drills."""

SECONDS = 20
"""A value that is not refused or done by then hangs."""

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e308", "9" * 30, "0x10", "text", "", " ")
NAMES = {
    "empty": "",
    "blank": " ",
    "line end": "a\nb",
    "escape": "\x1b[31mred[/]",
    "not UTF-8": os.fsdecode(b"n\xff"),
    "decomposed": "cafe\u0301",
    "long": "x" * 300,
    "long path": "/".join(["y" * 200] * 30),
    "URL": "nonsense://bucket/key",
    "web": "http://127.0.0.1:9/a",
    "no user": "~nobody-at-all/x",
    "null device": "/dev/null",
    "full device": "/dev/full",
    "no room": "/proc/nowhere/x",
    "missing": "missing/x",
    "directory": "{hostile}/directory",
    "file": "{hostile}/file",
    "file for directory": "{hostile}/file/x",
    "link to nothing": "{hostile}/dangling",
    "link loop": "{hostile}/loop",
    "FIFO": "{hostile}/fifo",
}
"""Hostile texts by what they are."""

NEVER = {
    *("nan", "inf", "-inf", "-1", "1e308", "9" * 30, "0x10", "text", "", " "),
    *("empty", "blank", "not UTF-8", "long", "long path", "URL", "web", "no user", "null device"),
    *("full device", "no room", "file for directory", "link loop"),
}
"""What no work begins with."""

WRITTEN = {"out", "preview_out", "timeline", "work"}
"""Parameters that name what is written; a FIFO has a reader there, and else a writer."""

DEFAULTS = {
    ("index",): {"manifest.parquet"},
    ("extract",): {"a.png"},
}
"""What commands write without being told where."""

BASES: dict[tuple[str, ...], tuple[dict[str, str], list[str]]] = {
    ("render",): (
        {"out": "new"},
        ["--recordings=1", "--clips=1", "--songs=0", "--workers=1"],
    ),
    ("download",): ({"out": "new"}, ["--base-url", "http://127.0.0.1:9"]),
    ("index",): ({"tree": "{made}/tree"}, ["--config", "{made}/recipe.yaml"]),
    ("extract",): (
        {"manifest": "{made}/manifest.parquet", "out": "new"},
        ["--config", "{made}/recipe.yaml"],
    ),
    ("train",): (
        {"features": "{made}/features", "out": "new"},
        ["--config", "{made}/recipe.yaml"],
    ),
    ("sweep",): (
        {"features": "{made}/features", "out": "new"},
        ["--config", "{made}/recipe.yaml", "--space", "{made}/space.yaml"],
    ),
    ("review",): ({"path": "{made}/sweep"}, ["--port", "0"]),
    ("thresholds",): ({"model": "{made}/model"}, []),
    ("ensemble",): ({"models": "{made}/model", "out": "new"}, []),
    ("adapt",): ({"model": "{made}/model", "to": "{made}/tree", "out": "new"}, []),
    ("evaluate",): ({"model": "{made}/model"}, ["--features", "{made}/features", "--out", "new"]),
    ("compare",): ({"models": "{made}/scores.parquet"}, ["{made}/scores.csv"]),
    ("report",): ({}, ["--scores", "{made}/scores.parquet", "--out", "page.html"]),
    ("predict",): ({"model": "{made}/model", "inputs": "{made}/tree/pia/0.wav"}, []),
    ("serve",): ({"models": "{made}/model"}, ["--port", "1023"]),
    ("export",): ({"model": "{made}/model"}, ["--out", "new"]),
    ("demo",): ({}, ["--out", "new"]),
    ("submit",): ({"command": "thresholds"}, ["--address", "http://127.0.0.1:9"]),
    ("jobs", "list"): ({}, ["--address", "http://127.0.0.1:9"]),
    ("jobs", "status"): ({"submission": "x"}, ["--address", "http://127.0.0.1:9"]),
    ("jobs", "logs"): ({"submission": "x"}, ["--address", "http://127.0.0.1:9"]),
    ("jobs", "stop"): ({"submission": "x"}, ["--address", "http://127.0.0.1:9"]),
}
"""A command line of each command that gets as far as its work, but for the value that is tried."""


FROM_SCORES: tuple[dict[str, str], list[str]] = (
    {},
    [
        "--scores={made}/scores.csv",
        "--labels={made}/labels.csv",
        "--config={made}/recipe.yaml",
    ],
)
OTHERS: dict[tuple[str, str], tuple[dict[str, str], list[str]]] = (
    {
        ("extract", "preview"): ({}, []),
        ("extract", "preview_out"): ({}, ["--preview", "{made}/tree/pia/0.wav"]),
        ("evaluate", "tree"): ({"model": "{made}/model"}, ["--out", "new"]),
        ("evaluate", "work"): (
            {"model": "{made}/model"},
            ["--tree", "{made}/tree", "--out", "new"],
        ),
        ("report", "model"): ({}, []),
        ("report", "tree"): ({"model": "{made}/model"}, ["--out", "page.html"]),
    }
    | {
        ("evaluate", name): FROM_SCORES
        for name in ("scores", "labels", "threshold", "fit_on", "fit_labels", "config", "overrides")
    }
    | {
        ("report", name): (FROM_SCORES[0], [*FROM_SCORES[1], "--out", "page.html"])
        for name in ("scores", "labels", "threshold", "fit_on", "fit_labels", "config", "overrides")
    }
)
"""The command line by command and parameter, where the value means something in another one."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, one in inner.items():
        yield from leaves(one, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(main.app)))


def test_every_command_is_tried() -> None:
    assert COMMANDS.keys() == BASES.keys()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands need, made without Ray."""
    root = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for code in VOCABULARY.codes:
        for folder, suffix in ((root / "tree" / code, ""), (root / "tree" / "test", f"{code}-1")):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(4 if not suffix else 1):
                path = folder / f"{suffix or number}.wav"
                soundfile.write(path, 0.3 * rng.standard_normal(8_000), 8_000)
                if suffix:
                    path.with_suffix(".txt").write_text(code)
    write_manifest(root / "manifest.parquet", index_tree(root / "tree", VOCABULARY), VOCABULARY)
    table = read_manifest(root / "manifest.parquet")
    compute_shard(table, str(root / "features"), FEATURES, VOCABULARY)
    features = str(root / "features")
    shards = store.read_shards(features, store.shard_names(features))
    info = store.write_info(features, shards, FEATURES, VOCABULARY, "m")
    network = CNN(ModelSettings(blocks=1, width=4, dense=8), 8, 32, 2)
    initialise(network, seed=0)
    labels = np.tile(np.eye(2, dtype=np.uint8), (10, 1))
    names = [f"song {n}-1" for n in range(20)]
    scores = Scores(
        names, ["testing"] * 20, names, labels, np.abs(labels - 0.4).astype("f4"), VOCABULARY
    )
    description = ModelDescription(
        instruments=dict(zip(VOCABULARY.codes, VOCABULARY.names, strict=True)),
        features=FEATURES,
        normalisation=Normalisation(mean=tuple(info.mean), std=tuple(info.std)),
        model=ModelSettings(blocks=1, width=4, dense=8),
        parameters=parameter_count(network),
        windows=ScoringWindows(frames=32, hop_frames=32, aggregation="mean"),
        thresholds=dict.fromkeys(VOCABULARY.codes, 0.5),
        thresholds_from="4 mixtures",
        recipe={"thresholds": {}, "tracking": {"mode": "disabled"}},
        data=info.digests,
        versions={"torch": torch.__version__},
        history=[{"epoch": 1.0, "val_loss": 0.5}],
        best_epoch=1,
        scores={"val_macro_f1": 0.5, "val_micro_f1": 0.5},
    )
    saved = save_model(root / "model", pack_weights(network), description, scores)
    write_scores(root / "scores.parquet", scores)
    identity = scorer_identity(saved)
    write_scores(root / "model" / "scores.parquet", replace(scores, scored_by=identity))
    rows = "".join(f"{name},0.5,0.5\n" for name in names)
    (root / "scores.csv").write_text(f"path,pia,vio\n{rows}")
    (root / "labels.csv").write_text(
        "path,instruments\n" + "".join(f"{name},pia\n" for name in names)
    )
    (root / "recipe.yaml").write_text(RECIPE)
    (root / "space.yaml").write_text("training.lr: {type: float, low: 1.0e-4, high: 1.0e-2}\n")
    write_sweep(root / "sweep")
    return root


class WorkError(IrmasError):
    """The work of a command has begun."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stop commands where their work would take long; return what has begun since."""
    reached: list[str] = []

    def stop(name: str) -> Callable[..., NoReturn]:
        def stopped(*_: object, **__: object) -> NoReturn:
            reached.append(name)
            raise WorkError("the work begins")

        return stopped

    for name in (
        "ray.init",
        "irmas_dist.training.local.train_here",
        "irmas_dist.inference.export.Graph",
        "irmas_dist.demo.demo.render",
        "wsgiref.simple_server.WSGIServer.serve_forever",
    ):
        monkeypatch.setattr(name, stop(name))
    # Whether or not tests before have started Ray.
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    return reached


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    (folder / "directory").mkdir(parents=True)
    (folder / "file").write_text("words")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    return folder


@contextmanager
def other_end(fifo: Path, writes: bool) -> Iterator[None]:
    """Feed or drain a FIFO, so that nobody waits for its other end."""
    done = threading.Event()
    flags = (os.O_RDONLY if writes else os.O_WRONLY) | os.O_NONBLOCK

    def serve() -> None:
        while not done.wait(0.002):
            try:
                end = os.open(fifo, flags)
            except OSError:
                continue  # Nobody reads.
            try:
                os.write(end, b"words\n") if not writes else os.read(end, 1 << 20)
            except OSError:
                pass
            finally:
                os.close(end)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def snapshot(*roots: Path) -> dict[str, object]:
    """Return type, size, time and link of everything below some folders."""
    found: dict[str, object] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = f"{folder}/{name}"
                status = os.lstat(path)
                kind = stat.S_IFMT(status.st_mode)
                is_file = stat.S_ISREG(kind)
                found[path] = (kind, is_file and (status.st_size, status.st_mtime_ns))
    return found


def values_of(parameter: Any, hostile: Path) -> dict[str, str]:
    """Return the hostile values of a parameter, by what they are."""
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if kind is bool:
        return {}
    if kind in (int, float):
        return {value: value for value in NUMBERS}
    if kind not in (str, Path):  # one of several words
        return {name: NAMES[name] for name in ("empty", "blank", "not UTF-8")}
    return {name: value.replace("{hostile}", str(hostile)) for name, value in NAMES.items()}


def line(command: tuple[str, ...], made: Path, name: str, option: str, value: str) -> list[str]:
    """Return a command line with one value in it."""
    arguments, options = OTHERS.get((command[0], name), BASES[command])
    words = [*command, *options]
    if option.startswith("-"):
        words += [option, value]
        value = ""
    else:
        arguments = arguments | {name: value}
    words = [word.replace("{made}", str(made)) for word in words]
    order = [p.name for p in COMMANDS[command].params if p.param_type_name == "argument"]
    given = [arguments[one].replace("{made}", str(made)) for one in order if one in arguments]
    return [*words, "--", *given]


def within_each_other(path: str, named: Path) -> bool:
    """Return whether a path is what was named, in it, or above it, links followed."""
    places = (named, Path(os.path.realpath(named)))
    return any(Path(path).is_relative_to(one) or one.is_relative_to(path) for one in places)


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def late(*_: object) -> NoReturn:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "every", [SOME, pytest.param(1, marks=pytest.mark.drill)], ids=["some", "all"]
)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_hostile_values_are_refused_in_one_line(
    command: tuple[str, ...],
    every: int,
    made: Path,
    hostile: Path,
    begun: list[str],
    irmas: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("irmas_dist.corpus.download.BACKOFF_S", 0.0)
    wrong: list[str] = []
    for number, parameter in enumerate(COMMANDS[command].params):
        option = parameter.opts[-1] if parameter.param_type_name == "option" else ""
        # Other ones of each parameter, so that all kinds are tried with every command.
        for kind, value in list(values_of(parameter, hostile).items())[number % every :: every]:
            before = snapshot(work, hostile, made)
            begun.clear()
            words = line(command, made, str(parameter.name), option, value)
            with within(SECONDS), other_end(hostile / "fifo", parameter.name in WRITTEN):
                ended = irmas(*words)
            after = snapshot(work, hostile, made)
            changed = {path for path in after | before if after.get(path) != before.get(path)}
            named = [work / word for word in words if not word.startswith("-") and word]
            named += [work / word for word in DEFAULTS.get(command, ())]
            outside = {
                path for path in changed if not any(within_each_other(path, n) for n in named)
            }
            problem = complaint(ended, begun if kind in NEVER else [], outside)
            if problem:
                wrong.append(f"{option or parameter.name} {kind}: {problem}")
            for path in sorted(changed - before.keys(), reverse=True):
                made_now = Path(path)
                if made_now.is_dir() and not made_now.is_symlink():
                    made_now.rmdir()
                else:
                    made_now.unlink()
    assert not wrong, "\n".join(["", *wrong])


def complaint(ended: Ended, begun: list[str], outside: set[str]) -> str:
    """Return what is wrong with the end of a command; empty if nothing is."""
    err = ended.err
    found = []
    if ended.code not in (0, 1, 2, 130):
        found.append(f"ends with {ended.code}")
    if "unexpected" in err or "Traceback" in err + ended.out:
        found.append("is a bug")
    if ended.code and not err.strip():
        found.append("says nothing")
    if ended.code == 1 and sum(one.startswith("irmas: ") for one in err.splitlines()) > 1:
        found.append("takes several lines")
    if begun:
        found.append(f"begins: {begun[0]}")
    if outside:
        found.append(f"writes {sorted(outside)[:2]}")
    text = " ".join(err.split())[-160:]
    return f"{'; '.join(found)} ({ended.code}: {text!r})" if found else ""
