"""The command line as users meet it: what it prints where, and how it ends."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from irmas_dist.cli import main
from irmas_dist.config.recipe import load_recipe
from irmas_dist.models.cnn import CNN, parameter_count
from tests.cli.conftest import Ended

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DRY_RUN = ("train", "features", "model", "--dry-run")


def python(*arguments: str, cwd: Path) -> Ended:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    return Ended(done.returncode, done.stdout, done.stderr)


# Exit codes


def test_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    done = python("-m", "irmas_dist", "jobs", "--help", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    failed = python("-m", "irmas_dist", "index", "missing", cwd=tmp_path)
    assert failed.refusal() == "missing: no such directory"
    wrong = python("-m", "irmas_dist", "nonsense", cwd=tmp_path)
    assert (wrong.code, wrong.out) == (2, "")
    assert "No such command 'nonsense'" in wrong.err


def test_a_user_need_not_have_a_name(tmp_path: Path) -> None:
    """As in a container that runs under any number."""
    program = (
        "import getpass, os, sys; sys.argv[1:] = ['--help']; import irmas_dist.__main__ as main\n"
        "os.getuid = lambda: 54321\n"
        "try: main.main()\nexcept SystemExit: print(getpass.getuser())"
    )
    named = ("LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.endswith("\nuser-54321\n")


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("train f m --dry-run >&-", 0, "", ""),
        ("train f m --dry-run >&- 2>&-", 0, "", ""),
        ("index missing >&-", 1, "", "irmas: missing: no such directory\n"),
        ("index missing 2>&-", 1, "", ""),
        ("index missing <&-", 1, "", "irmas: missing: no such directory\n"),
        ("train f m --dry-run | head -1", 0, "seed: 0\n", ""),
    ],
)
def test_standard_streams_may_be_closed(
    tmp_path: Path, line: str, code: int, out: str, err: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m irmas_dist {line}', sys.executable],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("index", "give a tree, or a table of clips with --table"),
        ("evaluate model", "give MODEL with --features or --tree, or --scores without MODEL"),
        ("evaluate model --scores s.csv", "give MODEL with --features or --tree"),
        ("evaluate --features f", "give MODEL with --features or --tree"),
        ("evaluate model --features f --threshold 0.5", "a model has thresholds"),
        ("evaluate --scores s.csv --threshold 0.5 --fit-on v.csv", "give one of them"),
        ("compare model", "two or more are needed"),
        ("compare a b --protocol guess", "Invalid value for '--protocol'"),
        ("evaluate model --features f --part test", "Invalid value for '--part'"),
        ("render tree --clips 0", "Invalid value for '--clips'"),
        ("train features model --epochs 3", "No such option: --epochs"),
        ("review sweep --port 99999", "Invalid value for '--port'"),
        ("review sweep --port -1", "Invalid value for '--port'"),
        ("serve model --port 0", "Invalid value for '--port'"),
        ("serve model --replicas 0", "--replicas 0: should be greater than or equal to 1"),
        ("train features model --workers 2 --min-workers 3", "--min-workers 3 is more than"),
    ],
)
def test_wrong_usage(irmas: Callable[..., Ended], arguments: str, told: str) -> None:
    assert told in irmas(*arguments.split()).refusal(2)


def test_without_a_command_the_help_is_shown(irmas: Callable[..., Ended]) -> None:
    ended = irmas("jobs")
    assert (ended.code, ended.err) == (2, "")
    assert "Usage: irmas jobs" in ended.out


@pytest.mark.parametrize("given", ["", " ", "--out=", "--out= "])
def test_an_empty_argument_is_wrong_usage(irmas: Callable[..., Ended], given: str) -> None:
    ended = irmas("index", "tree", given)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "irmas: argument 3 is empty: is a variable not set?\n"


# Settings


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_dry_run_prints_a_recipe_that_loads_again(
    irmas: Callable[..., Ended], tmp_path: Path, config: Path
) -> None:
    recipe = load_recipe(config, ["training.lr=3e-5"])
    frames = recipe.window.frames(recipe.features)
    instruments = len(recipe.corpus.instruments)
    size = parameter_count(CNN(recipe.model, recipe.features.bands, frames, instruments))

    printed = irmas(*DRY_RUN, "--config", config, "--set", "training.lr=3e-5")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.endswith(f"\n# {size:,} parameters\n")
    (tmp_path / "again.yaml").write_text(printed.out)
    assert load_recipe(tmp_path / "again.yaml") == recipe

    machine = irmas(*DRY_RUN, "--json", "--config", "again.yaml")
    assert (machine.code, machine.err) == (0, "")
    assert json.loads(machine.out) == {"recipe": yaml.safe_load(printed.out), "parameters": size}


# Help


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(main.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_explains_every_command_and_option(
    irmas: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = irmas(*path, "--help")
    text = re.sub(r"[│\s]+", " ", shown.out)
    assert shown.code == 0
    assert COMMANDS[path].help in text
    for parameter in COMMANDS[path].params:
        assert parameter.help, f"{parameter.name} has no help"
        assert parameter.help in text
    for inner in getattr(COMMANDS[path], "commands", {}).values():
        assert inner.help in text


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_breaks_no_word_in_a_terminal_of_80_columns(
    irmas: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    wide = set(re.sub(r"[│╭╮╰╯─]", " ", irmas(*path, "--help").out).split())
    monkeypatch.setenv("COLUMNS", "80")
    narrow = set(re.sub(r"[│╭╮╰╯─]", " ", irmas(*path, "--help").out).split())
    assert narrow <= wide
    assert not [word for word in narrow if re.search(r"bool|<=|range|list\[", word)]


def test_help_tells_choices_and_defaults_in_the_text(irmas: Callable[..., Ended]) -> None:
    text = re.sub(r"[│\s]+", " ", irmas("sweep", "--help").out)
    assert "Usage: irmas sweep [OPTIONS] {FEATURES} {OUT}" in text
    assert "One of: tpe, random, grid, cmaes, nsga2. [default: tpe]" in text
    text = re.sub(r"[│\s]+", " ", irmas("render", "--help").out)
    assert "--clips <int> Clips of each recording. [default: 3]" in text


def test_help_does_not_wait_for_heavy_libraries(tmp_path: Path) -> None:
    program = (
        "import sys; from irmas_dist.cli.main import run;"
        f"[run([*path, '--help']) for path in {list(COMMANDS)!r}];"
        "print({'torch', 'ray', 'pyarrow', 'numpy', 'wandb', 'optuna'} & sys.modules.keys(),"
        " file=sys.stderr)"
    )
    assert python("-c", program, cwd=tmp_path).err == "set()\n"


# Inputs that are not there


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("index empty", "empty holds no audio files"),
        ("index missing", "missing: no such directory"),
        ("index text.parquet", "text.parquet is a file: give a table of clips with --table"),
        ("index https://localhost/tree", "cannot use https://localhost/tree for storage: "),
        ("extract missing.parquet out", "missing.parquet: no such file or directory"),
        ("extract text.parquet out", "text.parquet is not a Parquet file"),
        ("train empty model --config none", "none: no such file or model directory, and no"),
        ("train empty model", "empty is not a finished feature store; make one: irmas extract"),
        (f"sweep empty out --space {ROOT}/configs/spaces/quick.yaml", "empty is not a finished"),
        ("sweep empty out --space none.yaml", "none.yaml: "),
        ("evaluate empty --features features", "empty is not a model directory"),
        ("evaluate empty --tree empty", "empty is not a model directory"),
        ("evaluate --scores missing.csv", "missing.csv: no such file or directory"),
        ("evaluate --scores text.parquet", "text.parquet is not a Parquet file"),
        ("compare empty missing.csv", "empty"),
        ("predict empty a.wav", "empty is not a model directory"),
        ("thresholds empty", "empty is not a model directory"),
        ("extract empty new", "empty is a directory: make a manifest of it: irmas index"),
        ("report empty", "empty is not a model directory"),
        (
            "evaluate swept --features features",
            "swept holds a sweep: its best model is swept/model",
        ),
        ("predict swept a.wav", "swept holds a sweep: its best model is swept/model"),
        ("predict sweeping a.wav", "sweeping holds a sweep: it has no model yet"),
        ("predict begun a.wav", "begun is not a model directory: it holds an unfinished training"),
        ("predict store a.wav", "store is not a model directory: it holds a feature store"),
        ("predict text.parquet a.wav", "text.parquet is not a model directory: it is a file"),
        ("train swept/model out", "swept/model is not a finished feature store: it holds a model;"),
        ("train text.parquet out", "text.parquet is not a finished feature store: it is a file;"),
    ],
)
def test_an_input_that_cannot_be_used(
    irmas: Callable[..., Ended], tmp_path: Path, arguments: str, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("words")
    for name in (
        *("swept/sweep.json", "swept/model/model.json", "sweeping/sweep.json"),
        *("begun/begun.json", "store/features.json"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert irmas(*arguments.split()).refusal().startswith(told)


@pytest.mark.parametrize(
    ("command", "used"),
    [
        ("index tree", "corpus"),
        ("extract manifest.parquet features", "corpus and features"),
        ("evaluate --scores scores.csv", "corpus and thresholds"),
    ],
)
def test_an_override_without_effect_is_refused(
    irmas: Callable[..., Ended], command: str, used: str
) -> None:
    ended = irmas(*command.split(), "--set", "training.lr=0.1")
    assert ended.refusal(2) == (
        f"--set training.lr=0.1: this command uses nothing of the recipe but {used}"
    )


@pytest.mark.parametrize("command", ["extract manifest.parquet features", "train features model"])
def test_conflicts_are_settled_by_index_alone(irmas: Callable[..., Ended], command: str) -> None:
    ended = irmas(*command.split(), "--set", "corpus.conflicts=drop")
    told = "--set corpus.conflicts=drop: conflicts are settled by irmas index alone"
    assert ended.refusal(2) == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--scores s.csv --out o", "--out, --part, --work and --address are of a model"),
        ("--scores s.csv --part training", "--out, --part, --work and --address are of a model"),
        ("--scores s.csv --address auto", "--out, --part, --work and --address are of a model"),
        ("model --features f --work w", "--work and --address are of a tree"),
        ("model --features f --address auto", "--work and --address are of a tree"),
        ("--scores s.csv --fit-labels l.csv", "--fit-labels are of --fit-on"),
    ],
)
def test_an_option_of_evaluate_without_effect_is_refused(
    irmas: Callable[..., Ended], arguments: str, told: str
) -> None:
    ended = irmas("evaluate", *arguments.split())
    assert ended.code == 2
    assert told in " ".join(ended.err.split())


def test_a_recipe_beside_a_model_is_refused(irmas: Callable[..., Ended]) -> None:
    ended = irmas("evaluate", "model", "--features", "features", "--config", "seed")
    assert ended.code == 2
    assert "leave out --config and --set" in ended.err
