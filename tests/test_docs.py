"""What README and docs/ say: each command runs, each option and link exists.

All commands run in one directory, with the sizes of `SMALLER`, on the Ray of the test session. A
page may start from what the README's commands have made. A command that needs a cluster, the
IRMAS archives or an account is marked so in its page; it is parsed and not run.
"""

import contextlib
import csv
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import numpy as np
import pytest
import soundfile
import yaml

from irmas_dist.cli.main import run
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus import manifest
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.evaluation import scores
from irmas_dist.features import store
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.soundfont import default_soundfont
from tests.conftest import TINY
from tests.documents import (
    CLUSTER_GUIDES,
    DOCS,
    README,
    ROOT,
    DocumentedCommand,
    commands,
    options,
    parse,
    snippets,
)

LONG = ("training.md", "searching.md")
"""Pages whose commands train and search for minutes; every run only parses these."""

PAGES = [README, *DOCS]
ALL = [*PAGES, *CLUSTER_GUIDES]
NEEDS = {
    "a cluster",
    "the IRMAS archives",
    "the OpenMIC archive",
    "a W&B account",
    "a free port",
    "20 GB and hours",
    "a minute of rendering",
}
SETTINGS = [f"--set={setting}" for setting in (*TINY, "training.epochs=1")]


def smaller(arguments: list[str]) -> list[str]:
    """The options that are appended to a documented command to make it quick."""
    match arguments:
        case ["render", *rest]:
            sizes: dict[str, float] = {
                "--recordings": 4,
                "--clips": 1,
                "--songs": 2,
                "--excerpts": 2,
            }
            if "--twin" in rest:
                # Enough to train on where a page does not ask for a part itself.
                sizes = {"--fraction": 0 if "--fraction" in rest else 0.012}
            return [str(part) for pair in sizes.items() for part in pair]
        case ["sweep", *rest] if "--resume" in rest:
            return ["--trials", "3"] if "--trials" in rest else []
        case ["sweep", *_]:
            return [*SETTINGS, "--trials", "2"]
        case ["train", *_]:
            # Ray Train takes half a minute to start, and has tests of its own.
            return [*SETTINGS, "--workers", "1"]
        case ["extract", *_]:
            return [setting for setting in SETTINGS if setting.startswith("--set=features.")]
        case ["review", *_]:
            return ["--port", "0"]
    return []


class Workspace:
    """A directory in which documented commands run, each of them once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: set[str] = set()

    def run(self, page: Path) -> None:
        """Run what a page documents: named YAML is written, then commands, then Python."""
        with contextlib.chdir(self.path):
            for content in snippets(page, "yaml"):
                name = content.splitlines()[0].removeprefix("# ")
                assert yaml.safe_load(content)
                Path(name).write_text(content)
            for command in commands(page):
                if command.needs is None and command.line not in self._done:
                    self._run(command)
                    self._done.add(command.line)
            for content in snippets(page, "python"):
                exec(compile(content, str(page), "exec"), {})

    def _run(self, command: DocumentedCommand) -> None:
        if command.line.startswith("make "):
            dry = ["make", "--dry-run", *shlex.split(command.line)[1:]]
            subprocess.run(dry, cwd=ROOT, check=True, capture_output=True)
            return
        arguments = command.irmas
        if arguments is None:
            raise AssertionError(f"{command.page}: neither run nor marked: {command.line}")
        with pytest.MonkeyPatch.context() as patch, Path("song.wav").open() as audio:
            patch.setattr(sys, "stdin", audio)
            patch.setattr(WSGIServer, "serve_forever", lambda server: None)
            status = run([*arguments, *smaller(arguments)])
        if status:
            raise AssertionError(f"{command.page}: exit code {status}: {command.line}")


@pytest.fixture(scope="module")
def workspace(
    tree: Path, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """What pages start from: audio, scores of another model, and what the README makes."""
    path = tmp_path_factory.mktemp("workspace")
    (path / "IRMAS").symlink_to(tree)
    (path / "FluidR3_GM.sf2").symlink_to(default_soundfont())
    excerpt = sorted(tree.rglob("Part1/*.wav"))[0]
    shutil.copy(excerpt, path / "song.wav")
    samples, rate = soundfile.read(excerpt)
    soundfile.write(path / "song.mp3", samples, rate)
    for name in ("concert/first.wav", "my-drums/kick/a.wav", "my-drums/takes/song-1.wav"):
        (path / name).parent.mkdir(parents=True)
        shutil.copy(excerpt, path / name)
    (path / "my-drums/takes/song-1.txt").write_text("kick\nsnare\n")
    (path / "my-drums.csv").write_text("path,kick,snare,hihat\nmy-drums/takes/song-1.wav,1,1,?\n")
    write_scores(path / "scores.csv", "testing")
    write_scores(path / "held-out.csv", "training")
    made = Workspace(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IRMAS_LOG_DIR", raising=False)
        made.run(README)
        yield made


def write_scores(location: Path, part: str) -> None:
    """Write scores of a model that guesses, for each clip of one part of IRMAS."""
    rng = np.random.default_rng(0)
    with location.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *IRMAS.codes])
        for entry in read_catalogue():
            if entry.part == part:
                guess = 0.5 * rng.random(len(IRMAS)) + 0.4 * IRMAS.encode(entry.instruments)
                rows.writerow([entry.path, *guess.round(3)])


@pytest.mark.ray
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.drill if page.name in LONG else []) for page in PAGES],
    ids=lambda page: page.name,
)
def test_the_commands_of_a_page_run(workspace: Workspace, page: Path) -> None:
    workspace.run(page)


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_documented_command_parses(page: Path) -> None:
    for command in commands(page):
        assert command.needs is None or command.needs in NEEDS
        if command.irmas:
            try:
                parse(command.irmas)
            except Exception as error:
                raise AssertionError(f"{command.page}: {command.line}: {error}") from error


def test_no_page_of_commands_is_passed_over() -> None:
    with_commands = {page for page in ALL if any(command.irmas for command in commands(page))}
    assert set(ALL) - with_commands == {
        ROOT / "docs/files.md",
        ROOT / "docs/inputs.md",
        ROOT / "cluster/SCALING.md",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_the_text_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    named = {
        option
        for code in re.findall(r"`[^`]+`", text)
        for option in re.findall(r"--[a-z][a-z-]+", code)
    }
    assert named <= options()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_anchor_is_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]*)\)", page.read_text()):
        headings = re.findall(
            r"^#+ (.+)$", (page.parent / target if target else page).read_text(), re.MULTILINE
        )
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{target}#{anchor}"


def test_the_readme_is_a_first_page_that_leads_to_all_others() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 160
    assert {page.name for page in DOCS} <= set(re.findall(r"\(docs/([\w-]+\.md)", text))


def test_every_feature_setting_is_described() -> None:
    text = (ROOT / "docs/features.md").read_text()
    first_cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    described = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert described == set(LogMelSettings.model_fields)


def test_every_column_is_described() -> None:
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/files.md").read_text()))
    for schema in (manifest.SCHEMA, scores.SCHEMA, store.SHARD_SCHEMA, store.REJECTS_SCHEMA):
        assert set(schema.names) <= described
