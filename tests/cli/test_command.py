"""What goes around a command: where its chatter goes, and how it ends."""

import fcntl
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer

from irmas_dist import storage
from irmas_dist.cli import arguments
from irmas_dist.cli.command import command
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS
from tests.cli.conftest import Ended

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
ENVIRONMENT.pop("IRMAS_LOG_DIR", None)

NOISY = """
import os, subprocess, sys, time, warnings
import typer
from irmas_dist.cli.main import app, run
from irmas_dist.errors import IrmasError
from irmas_dist.cli.command import command
from irmas_dist.terminal import say, show

def noisy() -> None:
    if LOUD:
        os.write(1, b"library on 1\\n")
        os.write(2, b"library on 2\\n")
        print("print")
        warnings.warn("warning")
        subprocess.run([sys.executable, "-c", "print('child')"])
    show("the result")
    say("on the way")
    ENDING

app.command()(command(noisy))
sys.exit(run(["noisy"]))
"""


# In steps: a signal that comes as a sleep begins is answered at its end.
WAITING = "for _ in range(600): time.sleep(0.1)"


def noisy(ending: str, *, loud: bool = True) -> list[str]:
    """The command line of a program with a command that chatters, and ends as is asked for."""
    program = NOISY.replace("ENDING", ending).replace("LOUD", str(loud))
    return [sys.executable, "-c", program]


def run(command: list[str], cwd: Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("pass", 0, "log: {log}"),
        ("raise typer.Exit(7)", 7, "log: {log}"),
        ("raise IrmasError('[x] is gone')", 1, "irmas: [x] is gone (log: {log})"),
        (
            "raise IrmasError('s3://KEY:SECRET@bucket/x is gone')",
            1,
            "irmas: s3://KEY:***@bucket/x is gone (log: {log})",
        ),
        (r"raise IrmasError('\x1b[2Jx')", 1, r"irmas: \x1b[2Jx (log: {log})"),
        (
            "raise OSError('a\\nb')",
            1,
            "irmas: unexpected OSError: a b; this is a bug: report it with the log (log: {log})",
        ),
    ],
)
def test_chatter_goes_to_a_log_that_is_named(
    tmp_path: Path, ending: str, code: int, said: str
) -> None:
    ended = run(noisy(ending), tmp_path)
    (log,) = tmp_path.glob("runs/logs/noisy-*.log")
    line = said.replace("{log}", str(log.relative_to(tmp_path)))
    assert ended == (code, "the result\n", f"on the way\n{line}\n")
    content = log.read_text()
    for noise in ("library on 1\n", "library on 2\n", "print\n", "child\n", "UserWarning: warning"):
        assert noise in content
    assert ("Traceback" in content) == ("unexpected" in said)


@pytest.mark.parametrize("ending", ["pass", "raise typer.Exit(7)", "raise IrmasError('gone')"])
def test_where_nothing_chattered_there_is_no_log(tmp_path: Path, ending: str) -> None:
    _, _, err = run(noisy(ending, loud=False), tmp_path)
    assert "log" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["file/logs", "/proc"])
def test_where_no_log_can_be_kept_it_goes_to_the_temporary_directory(
    tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").touch()
    environment = {"IRMAS_LOG_DIR": folder, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    ended = run(noisy("pass"), tmp_path, **environment)
    (log,) = tmp_path.glob("tmp/noisy-*.log")
    assert ended == (0, "the result\n", f"on the way\nlog: {log}\n")


TABLE = """
    from rich.table import Column, Table
    grid = Table(*(Column("x", no_wrap=True) for _ in range(4)))
    grid.add_row(*["0.123 (0.100)"] * 4)
    show(grid)
"""


def test_a_narrow_terminal_cuts_no_figure(tmp_path: Path) -> None:
    _, out, _ = run(noisy(TABLE.strip(), loud=False), tmp_path, COLUMNS="60")
    assert out.count("0.123 (0.100)") == 4
    imported = "from irmas_dist.terminal import results_to_stderr"
    on_stderr = f"{imported}\n    results_to_stderr(){TABLE}"
    _, _, err = run(noisy(on_stderr.strip(), loud=False), tmp_path, COLUMNS="60")
    assert err.count("0.123 (0.100)") == 4


def test_a_standard_output_that_is_full_ends_the_help_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        for option in ("--help", "--version"):
            ended = subprocess.run(
                [sys.executable, "-m", "irmas_dist", option], env=ENVIRONMENT, stdout=full,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            told = "irmas: standard output: No space left on device\n"
            assert (ended.returncode, ended.stderr) == (1, told), option


def test_a_terminal_that_is_closed_in_the_middle_of_a_table_interrupts(tmp_path: Path) -> None:
    imported = "from irmas_dist.terminal import progress"
    showing = f"with progress('x', 9, 'files'):\n        say('waiting')\n        {WAITING}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        noisy(f"{imported}\n    {showing}"), cwd=tmp_path, env=ENVIRONMENT, start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as running:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"waiting" not in shown:
            shown += os.read(ours, 1 << 16)
        os.close(ours)
        running.wait(timeout=20)
    assert running.returncode == 130
    (log,) = tmp_path.glob("runs/logs/*.log")
    assert "KeyboardInterrupt" in log.read_text()
    assert "this is a bug" not in log.read_text()


def test_a_terminal_that_is_closed_ends_nothing_under_nohup(tmp_path: Path) -> None:
    ignoring = f"trap '' HUP; exec {shlex.join(noisy('time.sleep(3)'))}"
    with subprocess.Popen(
        ["sh", "-c", ignoring], cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr.readline() == b"on the way\n"
        running.send_signal(signal.SIGHUP)
        running.communicate(timeout=20)
    assert running.returncode == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_with_130(sent: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        noisy(WAITING), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr.readline() == b"on the way\n"
        running.send_signal(sent)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert re.fullmatch(rb"irmas: interrupted \(log: runs/logs/noisy-.*\.log\)\n", err)


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        ("raise SystemExit(1)", "irmas: interrupted"),
        ("raise KeyboardInterrupt('the same command resumes')",
         "irmas: interrupted; the same command resumes"),
    ],
)  # fmt: skip
def test_an_interruption_may_say_what_to_do(tmp_path: Path, ending: str, line: str) -> None:
    code, _, err = run(noisy(ending), tmp_path)
    assert code == 130
    assert err.splitlines()[-1].startswith(f"{line} (log: ")


IMPORTING = """
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "irmas_dist.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from irmas_dist.__main__ import main
main()
"""


def test_an_interrupt_while_modules_are_imported_ends_with_130(tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", IMPORTING], tmp_path)
    assert ended == (130, "", "irmas: interrupted\n")


@pytest.mark.parametrize("loud", [True, False])
def test_a_reader_that_has_gone_ends_it_with_141(tmp_path: Path, loud: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        noisy("say('never reached')", loud=loud), cwd=tmp_path, env=ENVIRONMENT, stdout=writing,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    help_shown = subprocess.run(
        [sys.executable, "-m", "irmas_dist", "--help"], env=ENVIRONMENT, stdout=writing,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert (help_shown.returncode, help_shown.stderr) == (141, b"")
    assert (ended.returncode, ended.stderr) == (141, b"")


@command
def located(
    path: Path | None = None, place: str | None = None, places: list[str] | None = None
) -> Any:
    return path or place or places


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"place": "~/a b"}, "{home}/a b"),
        ({"path": Path("~/a")}, Path("{home}/a")),
        ({"place": "file:///a%20b/c%23d.wav"}, "/a b/c#d.wav"),
        ({"path": Path("file:///a")}, Path("/a")),
        ({"places": ["~", "b", "file:///c"]}, ["{home}", "b", "/c"]),
        ({"place": "s3://bucket/~a b"}, "s3://bucket/~a b"),
        ({"place": "postgresql://me:a%20b@host/x"}, "postgresql://me:a%20b@host/x"),
        ({"place": "a~"}, "a~"),
    ],
)
def test_home_directories_and_file_urls_are_resolved(
    given: dict[str, Any], meant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path))

    def at_home(value: Any) -> Any:
        if isinstance(value, list):
            return [at_home(item) for item in value]
        return type(value)(str(value).replace("{home}", str(tmp_path)))

    assert located(**given) == at_home(meant)


def test_a_mapping_in_the_command_line_is_no_path_however_long_it_is() -> None:
    mapping = ",".join(f"instrument{number}=other{number}" for number in range(20))
    assert arguments.located("mapping", mapping) == mapping
    with pytest.raises(IrmasError, match="File name too long"):
        arguments.located("mapping", mapping.replace("=", "-"))


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        (Path("s3://bucket/x"), "irmas: s3://bucket/x: must be a local path here\n"),
        (Path("~nobody-at-all/x"), "irmas: ~nobody-at-all/x: no such user\n"),
    ],
)
def test_what_is_no_local_path_is_refused(
    path: Path,
    refusal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit):
        located(path=path)
    assert capsys.readouterr().err == refusal
    assert not list(tmp_path.glob("[!r]*"))


def test_the_key_of_an_object_may_be_percent_encoded(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path))
    for key in ("a b", "both c", "both%20c"):
        with storage.write_atomically(f"{bucket}/{key}") as stream:
            stream.write(b"content")
    for given, meant in (
        ("a%20b", "a b"), ("both%20c", "both%20c"), ("new%20d", "new%20d"), ("100%", "100%"),
    ):  # fmt: skip
        assert located(place=f"{bucket}/{given}") == f"{bucket}/{meant}"


@pytest.mark.parametrize(
    ("option", "file"),
    [
        (["index", "tree", "--out"], b"PAR1"),
        (["extract", "--preview", "tree/pia/a.wav", "--preview-out"], b"\x89PNG"),
        (["report", "--scores", "s.csv", "--labels", "l.csv", "--out"], b"<!DOCTYPE html>"),
    ],
)
@pytest.mark.parametrize("name", ["-", pytest.param("/dev/stdout", marks=pytest.mark.drill)])
def test_a_file_may_be_written_to_standard_output(
    option: list[str], file: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / "tree" / "pia").mkdir(parents=True)
    soundfile.write(tmp_path / "tree" / "pia" / "a.wav", np.zeros(8_000), 8_000)
    (tmp_path / "s.csv").write_text(f"path,{','.join(IRMAS.codes)}\na-1{',0.5' * 11}\n")
    (tmp_path / "l.csv").write_text("path,instruments\na-1,pia\n")
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-m", "irmas_dist", *option, name]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(file)
    assert {path for path in tmp_path.iterdir() if path.name != "runs"} == before
    assert done.stderr.rstrip().endswith(b"-"), "what was written where is said there"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("irmas: standard output: No space left on device")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("index tree --out - --json", "--json and - both write to standard output"),
        ("report model --out - --json", "--json and - both write to standard output"),
        ("train features -", "which this option does not write to: use ./-"),
        ("render -", "- stands for standard output, which this option does not write to"),
        ("evaluate model --features f --out -", "which this option does not write to"),
        ("index --table t.csv --vocabulary-from-table -", "which this option does not write to"),
        ("predict model a.wav --timeline -", "which this option does not write to"),
    ],
)  # fmt: skip
def test_what_cannot_go_to_standard_output(
    arguments: str, told: str, irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = irmas(*arguments.split())
    assert told in ended.refusal(2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(
    value: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command
    def measured(max_rejects: float) -> None:
        pytest.fail("the command has run")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit):
        measured(max_rejects=value)
    assert capsys.readouterr().err == f"irmas: --max-rejects {value}: should be a finite number\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "predict {0} song.wav --out {0}/model.json",
        "report {0} --out {0}/model.json",
        "index {0} --out {0}/scores.parquet",
        "extract --preview a.wav --preview-out {0}/model.json",
    ],
)
def test_no_file_of_a_result_is_replaced(
    arguments: str, irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    model = tmp_path / "model.json"
    model.write_text("{}")
    code, _, err = irmas(*arguments.format(tmp_path).split())
    assert (code, "would be taken for a file of a model: name another" in err) == (1, True)
    assert model.read_text() == "{}"
