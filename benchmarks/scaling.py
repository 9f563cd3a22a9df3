"""What grows with the number of trials and of clips: the searcher, and index and extract planning.

Nothing is trained and no audio is read. ``searcher``: trials that only report pass through the
searcher over ``configs/spaces/full.yaml``, proposed at random and by TPE, with studies of several
sizes in SQLite, a journal file and PostgreSQL. Most trials of a study are copies of 40 random ones,
two thirds of them pruned, because writing 10,000 one by one takes a quarter of an hour in a
database; ``--no-copies`` does so in a journal. ``manifest``: rows like those of index are grouped,
written, read, compared with an empty store and with one that lacks a tenth, divided into tasks, and
split; each number of rows in its own process, to measure its peak memory.
Writes ``benchmarks/results/scaling.json``; takes some 5 minutes on two idle cores.
"""

import hashlib
import json
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes.arguments import parser_of

RESULTS = Path(__file__).parent / "results"
SPACE = Path(__file__).parents[1] / "configs" / "spaces" / "full.yaml"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
DRAWN = 40
EPOCHS = 5
TIMED_TRIALS = {"random": 5, "tpe": 3}
"""Trials that are timed with each sampler at each size."""

COPIES = (
    ("trials", "trial_id, number, study_id, state, datetime_start, datetime_complete",
     "trial_id + :by, number + :by, study_id, state, datetime_start, datetime_complete"),
    ("trial_params", "trial_id, param_name, param_value, distribution_json", None),
    ("trial_values", "trial_id, objective, value, value_type", None),
    ("trial_intermediate_values",
     "trial_id, step, intermediate_value, intermediate_value_type", None),
    ("trial_user_attributes", "trial_id, key, value_json", None),
)  # fmt: skip
"""Optuna's tables, their columns, and the values of a copy where they differ."""

SHARD_CLIPS = 600


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server on the loopback interface, as a user that PostgreSQL accepts."""
    user = "postgres" if os.getuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="irmas-pg-"))
    home.chmod(0o755)
    if user:
        shutil.chown(home, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"

    def call(*command: str) -> None:
        program = str(POSTGRES[-1] / command[0])
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([program, *command[1:]], user=user, cwd=home, check=True, **quiet)

    try:
        call("initdb", "-D", f"{home}/data", "-U", "irmas", "-A", "trust")
        call("pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        yield f"postgresql://irmas@127.0.0.1:{port}/postgres"
    finally:
        if (home / "data" / "postmaster.pid").exists():
            call("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")
        shutil.rmtree(home)


def why_no_postgres() -> str | None:
    """Return why PostgreSQL cannot run here, if it cannot."""
    if not POSTGRES:
        return "no PostgreSQL server is installed"
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "there is no user postgres" if os.getuid() == 0 and "postgres" not in users else None


class Sweep:
    """Trials of one study that only report, through the searcher.

    Args:
        location: Storage of the study.
        sampler: Name of the sampler.

    Attributes:
        opened_s: Seconds taken to open the study and read all of its trials.
    """

    def __init__(self, location: str, sampler: str) -> None:
        import optuna

        from irmas_dist.config.recipe import Recipe
        from irmas_dist.search.samplers import build_sampler
        from irmas_dist.search.searcher import StudySearcher
        from irmas_dist.search.space import load_space
        from irmas_dist.search.storages import open_storage
        from irmas_dist.search.study import directions

        self.space = load_space(SPACE, Recipe())
        began = time.perf_counter()
        self.study = optuna.create_study(
            storage=open_storage(location, create=True),
            study_name="scaling",
            sampler=build_sampler(sampler, self.space, 0, 1),
            directions=directions(None),
            load_if_exists=True,
        )
        self.study.get_trials(deepcopy=False)
        self.opened_s = time.perf_counter() - began
        self.searcher = StudySearcher(self.study, self.space, "scaling", 1_000_000, [])
        self._rng = random.Random(0)

    def trial(self, number: int) -> dict[str, float]:
        """Run a trial; return the milliseconds of its three parts."""
        from irmas_dist.search.trial import EPOCH, FINISHED
        from irmas_dist.training.learner import SELECTED_BY

        times = [time.perf_counter()]
        self.searcher.suggest("trial")
        times.append(time.perf_counter())
        result: dict[str, Any] = {}
        for epoch in range(1, EPOCHS + 1):
            result = {SELECTED_BY: self._rng.random(), EPOCH: epoch, "time_total_s": float(epoch)}
            self.searcher.on_trial_result("trial", result)
        times.append(time.perf_counter())
        self.searcher.on_trial_complete("trial", {**result, FINISHED: number % 3 == 0})
        times.append(time.perf_counter())
        names = ("ask_ms", "reports_ms", "end_ms")
        pairs = zip(names, times, times[1:], strict=False)
        return {name: 1e3 * (after - before) for name, before, after in pairs}

    def trials(self, count: int) -> dict[str, float]:
        """Run trials; return the median of each part, in milliseconds."""
        rows = [self.trial(number) for number in range(count)]
        return {name: sorted(row[name] for row in rows)[count // 2] for name in rows[0]}


def fill(sweep: Sweep, location: str, size: int) -> None:
    """Fill a study up to a size with copies of its first trials."""
    existing = len(sweep.study.get_trials(deepcopy=False))
    if location.endswith(".log"):
        first = sweep.study.get_trials(deepcopy=False)[:DRAWN]
        sweep.study.add_trials(first[number % DRAWN] for number in range(existing, size))
        return
    from sqlalchemy import create_engine, text

    url = location if "://" in location else f"sqlite:///{location}"
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        while existing < size:
            count = min(DRAWN, size - existing)
            for table, columns, values in COPIES:
                values = values or columns.replace("trial_id", "trial_id + :by", 1)
                connection.execute(
                    text(f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table}"
                         " WHERE trial_id <= :count"),
                    {"by": existing, "count": count},
                )  # fmt: skip
            existing += count
        if "postgresql" in url:
            last = "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), :last)"
            connection.execute(text(last), {"last": existing})
    engine.dispose()


def stored_bytes(location: str) -> int:
    """Return the size of a study on disk."""
    if "://" not in location:
        return Path(location).stat().st_size
    import psycopg

    with psycopg.connect(location) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def searcher(location: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Time trials at several sizes of a study in one storage."""
    Sweep(location, "random").trials(DRAWN if max(sizes) > DRAWN else min(sizes))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        fill(Sweep(location, "random"), location, size)
        row: dict[str, Any] = {"trials": size, "megabytes": stored_bytes(location) / 1e6}
        sweep = Sweep(location, "random")
        row["open_s"] = sweep.opened_s
        row |= {f"random_{name}": ms for name, ms in sweep.trials(TIMED_TRIALS["random"]).items()}
        row["tpe_ask_ms"] = Sweep(location, "tpe").trials(TIMED_TRIALS["tpe"])["ask_ms"]
        rows.append(row)
        show(location.partition(":")[0].rpartition("/")[2], row)
    return rows


def at_the_end(location: str) -> dict[str, float]:
    """Time what a sweep does with all trials at its end."""
    from irmas_dist.reports.sweep_charts import parallel_coordinates_page
    from irmas_dist.search.study import importances, list_trials

    sweep = Sweep(location, "random")
    times = [time.perf_counter()]
    rows = list_trials(sweep.study, sweep.space)
    times.append(time.perf_counter())
    shares = importances(sweep.study)
    times.append(time.perf_counter())
    page = parallel_coordinates_page(rows, sweep.space, shares)
    times.append(time.perf_counter())
    names = ("list_s", "importances_s", "page_s")
    result = {n: after - before for n, before, after in zip(names, times, times[1:], strict=False)}
    result["page_mb"] = len(page) / 1e6
    result["trials_json_mb"] = len(json.dumps(rows, indent=2)) / 1e6
    return result


def without_copies(trials: int) -> list[dict[str, Any]]:
    """Pass every single trial through the searcher, in a journal."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(f"{folder}/study.log", "random")
        for done in range(trials // 10, trials + 1, trials // 10):
            rows.append({"trials": done, **sweep.trials(trials // 10)})
            show("without copies", rows[-1])
    return rows


def peak_mb() -> float:
    """Return the peak memory of this process; that of `resource` is inherited from the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def manifest(count: int) -> dict[str, float]:
    """Time index and the planning of extract on made-up rows, in this process."""
    import numpy as np
    import pyarrow as pa

    from irmas_dist.config.corpus import SplitSettings
    from irmas_dist.corpus import index, manifest
    from irmas_dist.corpus.groups import settle_conflicts
    from irmas_dist.corpus.split import held_out
    from irmas_dist.corpus.summary import summarise
    from irmas_dist.features.diff import diff_store, encode_labels
    from irmas_dist.features.shard_tasks import SHARD_SECONDS, split_into_tasks
    from irmas_dist.features.store import REJECTS_SCHEMA, SHARD_SCHEMA, Shard, label_lists
    from irmas_dist.instruments import IRMAS, PRESENT

    result: dict[str, float] = {"rows": count}
    began = time.perf_counter()

    def done(name: str) -> None:
        nonlocal began
        result[f"{name}_s"] = time.perf_counter() - began
        result[f"{name}_peak_mb"] = peak_mb()
        began = time.perf_counter()

    rows = []
    for i in range(count):
        code = IRMAS.codes[i // 3 % 11]
        clip = f"{code}/[{code}][pop_roc]{i // 3:07d}__{i % 3 + 1}"
        # One in a thousand has the same bytes as another.
        md5 = hashlib.md5(f"{i if i % 1_000 else i + 1}".encode()).hexdigest()
        facts = {"duration_s": 3.0, "sample_rate": 44_100, "channels": 2, "bytes": 529_244,
                 "md5": md5}  # fmt: skip
        named = index.parse_clip(clip, code, None, IRMAS)
        rows.append({**named, **facts, "path": f"/shared/corpus/{clip}.wav"})
    done("describe")
    index.settle_identities(rows)
    conflicts = settle_conflicts(rows, "keep")
    done("group")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.parquet")
        manifest.write_manifest(path, rows)
        summarise(rows, conflicts, IRMAS)
        done("write")
        rows.clear()
        table = manifest.read_manifest(path)
        manifest.manifest_fingerprint(table)
        done("read")
        result["manifest_mb"] = path.stat().st_size / 1e6
    plan = diff_store(table, [], REJECTS_SCHEMA.empty_table(), IRMAS)
    result["pieces"] = len(split_into_tasks(plan.pending, SHARD_SECONDS, cores=64))
    done("plan_empty")
    labels, _ = encode_labels(table, IRMAS)
    table = table.combine_chunks()
    shards = []
    for low in range(0, count, SHARD_CLIPS):
        part = table.slice(low, SHARD_CLIPS)
        columns = {name: part[name] for name in SHARD_SCHEMA.names if name in part.column_names}
        columns["labels"] = label_lists(labels[low : low + part.num_rows])
        columns["frames"] = pa.array([130] * part.num_rows, pa.int32())
        clips = pa.table(columns)
        shards.append(Shard(f"{low}", "", "float16", 0, np.zeros((2, 128)), clips))
    shards = [shard for number, shard in enumerate(shards) if number % 10]
    done("shards")
    plan = diff_store(table, shards, REJECTS_SCHEMA.empty_table(), IRMAS)
    assert not plan.rewrites
    assert plan.pending.num_rows == count - sum(shard.clips.num_rows for shard in shards)
    done("plan_partly")
    held_out(table.column("group").to_pylist(), labels >= PRESENT, SplitSettings(), IRMAS)
    done("split")
    return result


def show(name: str, row: dict[str, Any]) -> None:
    """Print one row of a table."""
    values = [f"{key} {value:,.3g}" if isinstance(value, float) else f"{key} {value:,}"
              for key, value in row.items()]  # fmt: skip
    print(f"{name}: {', '.join(values)}", flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--part", choices=["searcher", "manifest"], help="one of the two")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 5_000, 10_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--no-copies", action="store_true", help="all trials through the searcher")
    parser.add_argument("--only", type=int, help="a manifest of this many rows, in this process")
    chosen = parser.parse_args()
    if chosen.only:
        print(json.dumps(manifest(chosen.only)))
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    result: dict[str, Any] = {}
    if chosen.no_copies:
        result["without_copies"] = without_copies(max(chosen.trials))
    elif chosen.part != "manifest":
        with tempfile.TemporaryDirectory() as folder:
            for kind, ending in {"journal": "log", "sqlite": "db"}.items():
                location = f"{folder}/{kind}.{ending}"
                result[kind] = searcher(location, chosen.trials)
                if kind == "journal":
                    result["at_the_end"] = at_the_end(location)
                    show("at the end", result["at_the_end"])
        if reason := why_no_postgres():
            print(f"postgresql: skipped, {reason}")
        else:
            with postgres() as url:
                result["postgresql"] = searcher(url, chosen.trials)
    if chosen.part != "searcher" and not chosen.no_copies:
        result["manifest"] = []
        for count in chosen.rows:
            command = [sys.executable, __file__, "--only", str(count)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            result["manifest"].append(json.loads(run.stdout))
            show("manifest", result["manifest"][-1])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "scaling.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
