"""The Ray Data pipeline: a manifest to a feature store.

What is pending is cut into pieces, each of them one block of a Ray data set; the task or actor
that maps it decodes, transforms and writes its own shard (`pieces`), so that no spectrogram
travels between processes and whatever was finished stays finished.

The driver holds the manifest, and of the store all columns but the spectrograms; a worker holds
the spectrograms of one shard (some 20 MB), or of one file where that is longer.
"""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from irmas_dist import storage
from irmas_dist.corpus import manifest as manifests
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.diff import Plan, make_plan
from irmas_dist.features.logmel import LogMelSettings
from irmas_dist.features.shard_tasks import SHARD_SECONDS, PieceWriter, cut, write_piece
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import progress

MAX_REJECTS = 0.05
"""Share of unusable files above which something is wrong with more than single files."""


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        path: The feature store.
        clips: Clips in the store, earlier ones included.
        computed: Clips computed this time.
        rewritten: Shards of earlier times that were brought in line with the manifest.
        hours: Hours of audio computed this time.
        bytes: Bytes of features written this time.
        rejects: Number of unusable files by reason.
        seconds: Wall time.
    """

    path: str
    clips: int
    computed: int
    rewritten: int
    hours: float
    bytes: int
    rejects: dict[str, int]
    seconds: float

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio computed in one second."""
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
    shard_seconds: float = SHARD_SECONDS,
) -> ExtractSummary:
    """Bring a feature store in line with a manifest, computing only what it does not have.

    Ray is started, or joined, only when there is a clip to compute.

    Args:
        manifest: Path or URL of ``manifest.parquet``.
        out: Path or URL of the feature store; made when it is not there.
        settings: How to compute the spectrograms.
        vocabulary: Instruments, in the order of the labels.
        address: The Ray to use, as `ray_running` takes it.
        max_rejects: Share of the manifest's files that may be unusable, 0 to 1.
        retry_rejects: Whether files that could not be used earlier are tried again though they
            have not changed since.
        shard_seconds: Most audio in one shard.

    Raises:
        IrmasError: The manifest cannot be read, ``out`` cannot be written or holds features of
            other settings, or too many files cannot be used. What was finished is kept.
    """
    began = time.monotonic()
    run = _Run(out, manifests.read_manifest(manifest), settings, vocabulary, max_rejects)
    whole = None if retry_rejects else run.whole()
    if whole is None:
        plan = run.plan(retry_rejects)
        run.prepare(plan)
        if plan.pending.num_rows:
            run.compute(plan.pending, address, shard_seconds)
        whole = run.finish()
    return ExtractSummary(
        path=out,
        clips=sum(whole.clips.values()),
        computed=run.computed,
        rewritten=run.rewritten,
        hours=run.audio_s / 3600,
        bytes=run.bytes,
        rejects=dict(Counter(run.rejects.column("problem").to_pylist()).most_common()),
        seconds=time.monotonic() - began,
    )


class _Run:
    """One extraction: the steps of `extract`, and what they have come to so far."""

    def __init__(
        self,
        out: str,
        manifest: pa.Table,
        settings: LogMelSettings,
        vocabulary: Vocabulary,
        max_rejects: float,
    ) -> None:
        self.out = storage.absolute(out)
        self.manifest = manifest
        self.manifest_fingerprint = manifests.manifest_fingerprint(manifest)
        self.settings = settings
        self.vocabulary = vocabulary
        self.fingerprint = store.fingerprint(settings, vocabulary)
        self.most_rejects = max_rejects * manifest.num_rows
        self.rejects_place = storage.join(self.out, store.REJECTS)
        self.info_place = storage.join(self.out, store.INFO)
        self.rejects: pa.Table = store.REJECTS_SCHEMA.empty_table()
        if storage.exists(self.rejects_place):
            self.rejects = storage.read_table(self.rejects_place)
        self.computed = self.rewritten = self.bytes = 0
        self.audio_s = 0.0

    def whole(self) -> store.StoreInfo | None:
        """Return what the store is, when it is finished and of this manifest."""
        if not storage.exists(self.info_place):
            return None
        info = store.read_info(self.out)
        self._require_same_settings(info.fingerprint)
        if info.manifest != self.manifest_fingerprint:
            return None
        self._require_few_rejects()
        return info if set(info.shards) <= set(store.shard_names(self.out)) else None

    def plan(self, retry_rejects: bool) -> Plan:
        """Compare the manifest with the store."""
        shards = store.read_shards(self.out, store.shard_names(self.out))
        for shard in shards:
            self._require_same_settings(shard.fingerprint)
        known = store.REJECTS_SCHEMA.empty_table() if retry_rejects else self.rejects
        return make_plan(self.manifest, shards, known, self.vocabulary)

    def prepare(self, plan: Plan) -> None:
        """Bring what is there in line with the manifest, before anything is computed."""
        storage.make_directory(self.out)
        # Until all are there again, nobody must take the store for whole.
        storage.remove(self.info_place)
        storage.remove_partial(self.out)
        self.rejects = plan.rejects
        self._write_rejects()
        self._require_few_rejects()
        for shard, kept in plan.rewrites:
            store.rewrite_shard(self.out, shard, kept)
        self.rewritten = len(plan.rewrites)

    def compute(self, pending: pa.Table, address: str | None, shard_seconds: float) -> None:
        """Compute clips with Ray Data, and take down what became of them."""
        # Here, because they take seconds, and a finished store is told without them.
        import ray
        import ray.data

        from irmas_dist.cluster.resources import cpu_count
        from irmas_dist.cluster.runtime import ray_running, require_shared

        durations = pending.column("duration_s").fill_null(0.0).to_numpy()
        seconds = dict(zip(pending.column("clip_id").to_pylist(), durations, strict=True))
        self.audio_s = float(durations.sum())
        with ray_running(address), progress("extract", pending.num_rows, "clips") as advance:
            require_shared(self.out)
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            # A task returns a few bytes. Without this, the first ones run one at a time, until
            # an actor of Ray Data's own has started and told it what the cluster has.
            context.op_resource_reservation_enabled = False
            cores = cpu_count()
            pieces = cut(pending, durations, shard_seconds, cores)
            target = {"out": self.out, "settings": self.settings, "vocabulary": self.vocabulary}
            work: dict[str, Any] = {"fn": write_piece, "fn_kwargs": target}
            if len(ray.nodes()) > 1:
                # Actors start some seconds later, but when a node is cut off Ray tells of its
                # actors within a minute, and of its tasks when gRPC gives up, after seven.
                size = min(cores, len(pieces))
                pool = ray.data.ActorPoolStrategy(min_size=1, initial_size=size)
                work = {"fn": PieceWriter, "fn_constructor_kwargs": target, "compute": pool}
            shards = ray.data.from_blocks(pieces).map_batches(
                **work, batch_size=None, batch_format="pyarrow"
            )
            try:
                for row in shards.iter_rows():
                    if row["failure"]:
                        raise IrmasError(row["failure"])
                    self.computed += row["clips"]
                    self.bytes += row["bytes"]
                    if row["rejects"]:
                        bad = pa.Table.from_pylist(row["rejects"], store.REJECTS_SCHEMA)
                        self.rejects = pa.concat_tables([self.rejects, bad])
                        self.audio_s -= sum(seconds[one["clip_id"]] for one in row["rejects"])
                    note = f"{self.rejects.num_rows:,} rejects"
                    advance(row["clips"] + len(row["rejects"]), note)
                    self._require_few_rejects()
            except IrmasError:
                # On a full disk this fails as well, and says less than what failed first.
                with suppress(IrmasError):
                    self._write_rejects()
                raise
            self._write_rejects()

    def finish(self) -> store.StoreInfo:
        """Count what the shards hold and write ``features.json``."""
        storage.remove_partial(self.out)
        shards = store.read_shards(self.out, store.shard_names(self.out))
        # A run that was given up for dead may have written a shard meanwhile.
        plan = make_plan(self.manifest, shards, self.rejects, self.vocabulary)
        if plan.rewrites:
            for shard, kept in plan.rewrites:
                store.rewrite_shard(self.out, shard, kept)
            shards = store.read_shards(self.out, store.shard_names(self.out))
        if plan.pending.num_rows:
            raise IrmasError(
                f"{plan.pending.num_rows:,} clips have gone from {self.out} while it was being "
                "written; run the same command again"
            )
        if not shards:
            raise IrmasError(
                f"none of the {self.manifest.num_rows} files of the manifest could be used; "
                f"see {self.rejects_place}"
            )
        return store.write_info(
            self.out, shards, self.settings, self.vocabulary, self.manifest_fingerprint
        )

    def _write_rejects(self) -> None:
        storage.write_table(self.rejects_place, self.rejects.sort_by("clip_id"))

    def _require_same_settings(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise IrmasError(
                f"{self.out} holds features of other settings (fingerprint {fingerprint}, "
                f"these settings have {self.fingerprint}); choose another directory"
            )

    def _require_few_rejects(self) -> None:
        bad, all_ = self.rejects.num_rows, self.manifest.num_rows
        if bad > self.most_rejects:
            commonest = Counter(self.rejects.column("problem").to_pylist()).most_common(1)[0][0]
            raise IrmasError(
                f"{bad:,} of {all_:,} files cannot be used, more than the "
                f"{self.most_rejects / all_:.1%} that --max-rejects allows, most often: "
                f"{commonest}; see {self.rejects_place}"
            )
