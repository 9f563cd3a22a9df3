"""Extraction: from a manifest to a feature store, with Ray Data.

Pending clips are split into blocks of a Ray data set. The task that maps a block decodes,
transforms and writes its own shard (`shard_tasks`), so that no spectrogram is sent between
processes and every finished shard outlives an interrupted run.

The driver holds the manifest and all columns of the store but the spectrograms; a worker holds
the spectrograms of one shard (some 20 MB), or of one file where that is longer.
"""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.cluster.without_ray import node_resources
from irmas_dist.config.features import MAX_REJECTS, LogMelSettings
from irmas_dist.corpus.manifest import manifest_fingerprint, read_manifest, require_indexed
from irmas_dist.errors import IrmasError
from irmas_dist.features import shard_tasks, store
from irmas_dist.features.diff import FILE, diff_store
from irmas_dist.instruments import Vocabulary
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import STORE_FILE, refuse_other_results
from irmas_dist.terminal import progress

ADVICE = "name the --config of that store, or another directory"
"""What to do where the features are of other settings."""


@dataclass(frozen=True)
class ExtractSummary:
    """The outcome of an extraction.

    Attributes:
        path: The feature store.
        clips: Clips in the store, earlier ones included.
        computed: Clips computed by this run.
        rewritten: Existing shards that were updated to the manifest.
        hours: Hours of audio computed by this run.
        bytes: Bytes of features written by this run.
        rejects: Number of unusable files by reason.
        notes: What is unusual of clips that this run has computed, by ``clip_id``.
        seconds: Wall time.
    """

    path: str
    clips: int
    computed: int
    rewritten: int
    hours: float
    bytes: int
    rejects: dict[str, int]
    notes: dict[str, str]
    seconds: float

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio computed per second."""
        return self.hours * 3600 / self.seconds


def extract(
    manifest: str,
    out: str,
    settings: LogMelSettings,
    vocabulary: Vocabulary,
    *,
    address: str | None = None,
    max_rejects: float = MAX_REJECTS,
    retry_rejects: bool = False,
    shard_seconds: float = shard_tasks.SHARD_SECONDS,
) -> ExtractSummary:
    """Bring a feature store in line with a manifest, computing only missing clips.

    Ray is started, or joined, only if there is a clip to compute.

    Args:
        manifest: Path or URL of ``manifest.parquet``.
        out: Path or URL of the feature store, new or existing.
        settings: Settings of the spectrograms.
        vocabulary: Instruments, in the order of the labels.
        address: Ray cluster to join, as in `ray_running`.
        max_rejects: Share of the manifest's files that may be unusable, 0 to 1.
        retry_rejects: Whether unchanged files that were unusable earlier are tried again, not only
            those that were missing, unreadable, or changed since they were indexed.
        shard_seconds: Most audio in one shard.

    Raises:
        IrmasError: The manifest cannot be read or was not indexed for all instruments, ``out``
            cannot be written or holds features of other settings, or too many files are unusable.
            Finished shards are kept, and a finished store stays as it was.
    """
    began = time.monotonic()
    refuse_other_results(out, STORE_FILE)
    table = read_manifest(manifest)
    require_indexed(table, vocabulary, manifest)
    target = storage.absolute(out), table, settings, vocabulary, max_rejects
    run = _Extraction(*target)
    info = None if retry_rejects else run.finished_store()
    if info is None:
        with lock_directory(out):
            run = _Extraction(*target)  # Again, as it may have been locked until now.
            pending = run.plan(retry_rejects)
            if pending.num_rows:
                run.compute(pending, address, shard_seconds)
            info = run.finish()
    return ExtractSummary(
        path=out,
        clips=sum(info.clips.values()),
        computed=run.computed,
        rewritten=run.rewritten,
        hours=run.audio_s / 3600,
        bytes=run.bytes,
        rejects=dict(Counter(run.rejects.column("problem").to_pylist()).most_common()),
        notes=run.notes,
        seconds=time.monotonic() - began,
    )


@dataclass
class _Extraction:
    """The steps of `extract`, and the counts of its summary."""

    out: str
    manifest: pa.Table
    settings: LogMelSettings
    vocabulary: Vocabulary
    max_rejects: float
    computed: int = 0
    rewritten: int = 0
    bytes: int = 0
    audio_s: float = 0.0
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest_fingerprint = manifest_fingerprint(self.manifest)
        self.info_path = storage.join(self.out, STORE_FILE)
        self.rejects: pa.Table = store.REJECTS_SCHEMA.empty_table()
        # A finished store keeps its own rejects until the new ones are complete.
        finished = storage.exists(self.info_path)
        self.rejects_file = store.PENDING_REJECTS if finished else store.REJECTS

    def finished_store(self) -> store.StoreInfo | None:
        """Return the store's info if it is finished, of this manifest, and lacks no file."""
        if not storage.exists(self.info_path):
            return None
        info = store.read_info(self.out)
        if differ := info.differences(self.settings, self.vocabulary):
            raise IrmasError(f"{self.out} holds other features: {differ}; {ADVICE}")
        if info.manifest != self.manifest_fingerprint or info.vocabulary != self.vocabulary:
            return None  # Instruments may have other names.
        self.rejects = self._read_rejects(store.REJECTS)
        if FILE in self.rejects.column("found_in").to_pylist():
            return None
        self._require_few_rejects(store.REJECTS)
        if not set(info.shards) <= set(store.shard_names(self.out)):
            return None
        store.read_shards(self.out, info.shards)  # Refuses a damaged one.
        return info

    def plan(self, retry_rejects: bool) -> pa.Table:
        """Compare existing shards with the manifest; return the rows to compute."""
        shards = self._shards()
        for shard in shards:
            self._require_same_settings(shard.fingerprint)
        known = store.REJECTS_SCHEMA.empty_table()
        if not retry_rejects:
            known = self._read_rejects(store.PENDING_REJECTS, store.REJECTS)
            known = known.filter(pc.not_equal(known.column("found_in"), FILE))
        diff = diff_store(self.manifest, shards, known, self.vocabulary)
        storage.make_directory(self.out)
        storage.remove_partial(self.out)
        self.rejects = diff.rejects
        self._write_rejects(self.rejects_file)
        self._require_few_rejects(self.rejects_file)
        return diff.pending

    def compute(self, pending: pa.Table, address: str | None, shard_seconds: float) -> None:
        """Compute clips with Ray Data and count the results."""
        # Imported here: they take seconds, and a finished store does not need them.
        import ray
        import ray.data

        from irmas_dist.cluster.resources import wait_for_core
        from irmas_dist.cluster.runtime import ray_running, require_shared

        with ray_running(address), progress("extract", pending.num_rows, "clips") as advance:
            require_shared(self.out)
            wait_for_core()
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            # A task returns a few bytes. With reservation, the first tasks run one at a time
            # until an actor of Ray Data has started and reported the cluster's resources.
            context.op_resource_reservation_enabled = False
            cores = ray.cluster_resources().get("CPU", 1)
            blocks = shard_tasks.split_into_tasks(pending, shard_seconds, cores)
            target = {"out": self.out, "settings": self.settings, "vocabulary": self.vocabulary}
            work: dict[str, Any] = {"fn": shard_tasks.compute_shard, "fn_kwargs": target}
            if len(node_resources()) > 1:
                # Actors start some seconds later, but when a node is lost, Ray fails its actors
                # within a minute and its tasks only when gRPC gives up, after seven.
                size = min(max(int(cores), 1), len(blocks))
                pool = ray.data.ActorPoolStrategy(min_size=1, initial_size=size)
                work = {"fn": shard_tasks.ShardComputer, "fn_constructor_kwargs": target}
                work["compute"] = pool
            shards = ray.data.from_blocks(blocks).map_batches(
                **work, batch_size=None, batch_format="pyarrow"
            )
            try:
                for row in shards.iter_rows():
                    if row["failure"]:
                        raise IrmasError(row["failure"])
                    self.computed += row["clips"]
                    self.bytes += row["bytes"]
                    self.audio_s += row["seconds"]
                    self.notes |= dict(row["notes"])
                    if row["rejects"]:
                        rejects = pa.Table.from_pylist(row["rejects"], store.REJECTS_SCHEMA)
                        self.rejects = pa.concat_tables([self.rejects, rejects])
                    note = f"{self.rejects.num_rows:,} rejects"
                    advance(row["clips"] + len(row["rejects"]), note)
                    self._require_few_rejects(self.rejects_file)
            except IrmasError:
                # On a full disk this fails too, with a less useful message than the first failure.
                with suppress(IrmasError):
                    self._write_rejects(self.rejects_file)
                raise
            self._write_rejects(self.rejects_file)

    def finish(self) -> store.StoreInfo:
        """Bring all shards in line with the manifest, and write ``features.json``."""
        storage.remove_partial(self.out)
        # Workers of a run that was believed dead may have written shards in the meantime.
        shards = self._shards()
        diff = diff_store(self.manifest, shards, self.rejects, self.vocabulary)
        if diff.pending.num_rows:
            raise IrmasError(
                f"{diff.pending.num_rows:,} clips disappeared from {self.out} while it was being "
                "written; run the same command again"
            )
        if len(shards) == sum(not kept.num_rows for _, kept in diff.rewrites):
            raise IrmasError(
                f"none of the {self.manifest.num_rows} files of the manifest could be used; "
                f"see {storage.join(self.out, self.rejects_file)}"
            )
        if diff.rewrites:
            # Until all shards are complete again, nobody may take the store for finished.
            storage.remove(self.info_path)
            for shard, kept in diff.rewrites:
                store.rewrite_shard(self.out, shard, kept)
            shards = self._shards()
        self.rewritten = len(diff.rewrites)
        self._write_rejects(store.REJECTS)
        storage.remove(storage.join(self.out, store.PENDING_REJECTS))
        return store.write_info(
            self.out, shards, self.settings, self.vocabulary, self.manifest_fingerprint
        )

    def _shards(self) -> list[store.Shard]:
        return store.read_shards(self.out, store.shard_names(self.out))

    def _read_rejects(self, *names: str) -> pa.Table:
        """Read the first of these files that exists."""
        for path in (storage.join(self.out, name) for name in names):
            if storage.exists(path):
                return storage.read_table(path)
        return store.REJECTS_SCHEMA.empty_table()

    def _write_rejects(self, name: str) -> None:
        storage.write_table(storage.join(self.out, name), self.rejects.sort_by("clip_id"))

    def _require_same_settings(self, fingerprint: str) -> None:
        wanted = store.settings_fingerprint(self.settings, self.vocabulary)
        if fingerprint != wanted:
            raise IrmasError(
                f"{self.out} holds unfinished features of other settings (fingerprint "
                f"{fingerprint}, these settings have {wanted}); {ADVICE}"
            )

    def _require_few_rejects(self, listed_in: str) -> None:
        rejects, files = self.rejects.num_rows, self.manifest.num_rows
        if rejects > self.max_rejects * files:
            [(problem, _)] = Counter(self.rejects.column("problem").to_pylist()).most_common(1)
            raise IrmasError(
                f"{rejects:,} of {files:,} files cannot be used, more than the "
                f"{self.max_rejects:.1%} that --max-rejects allows, most often: "
                f"{problem}; see {storage.join(self.out, listed_in)}"
            )
