"""Uploads: runs are written to disk, and sent from there while they grow, by wandb's own service.

Nothing waits for the network but `Uploads.wait`. A run whose upload fails stays on disk, whole.
"""

import asyncio
import fcntl
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from irmas_dist.storage.locks import LOCKS_UNSUPPORTED
from irmas_dist.terminal import progress, say
from irmas_dist.tracking.run_file import RunFile, is_sent, mark_sent
from irmas_dist.tracking.server import (
    DAMAGED,
    REFUSALS,
    Known,
    connection,
    kept_message,
    reason,
)
from irmas_dist.tracking.service_log import lacks_files, service_time
from irmas_dist.tracking.unsent import lacks_steps, mark_before, remove_copy, unsent

SIDE_BY_SIDE = 32
"""Uploads at a time."""

FAILING_S = 10.0
"""Once every upload has failed for so long, nobody waits for them any more."""

QUIET_S = 2.0
"""How long to wait without showing the progress."""

STATUS_S = 0.5
"""How often wandb's service is asked how an upload fares."""

SERVICE_S = 10.0
"""How long to wait for wandb's service on this machine."""

LACKING = "its server lacks epochs that it was sent"
"""What is wrong with a run of which the server dropped something and did not say so."""

REFUSED = "its server refuses a file or an artifact of it"
"""What is wrong with a run whose epochs the server has taken, and not all else."""


@dataclass
class Upload:
    """The upload of one file of a run.

    Attributes:
        file: The file.
        name: Display name of its run.
        problem: Why it fails, or has failed; None while all is well.
        failing_since: Since when, on the monotonic clock.
        sending: Whether its turn has come.
        sent: Whether it is complete on the server.
        project: The project of its run, after its entity.
    """

    file: Path
    name: str
    problem: str | None = None
    failing_since: float | None = None
    sending: bool = False
    sent: bool = False
    project: str = ""
    ended: Event = field(default_factory=Event)

    @property
    def directory(self) -> Path:
        """The directory above ``wandb``, which `irmas review --sync` takes."""
        return self.file.parents[2]

    def fail(self, problem: str | None) -> None:
        """Record why it fails, or with None that it does not."""
        self.problem = problem
        if problem is None:
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = time.monotonic()

    def fail_by(self, error: Exception) -> None:
        """Record that it fails because of an error."""
        self.fail(reason(str(error).strip() or type(error).__name__))


class Uploads:
    """The uploads of this process, each in wandb's own event loop.

    Attributes:
        refused: Why the server takes nothing of a project, or of any (None), once it has said so;
            nothing is sent then.
        told: Which of these reasons were printed.
    """

    def __init__(self) -> None:
        self.refused: dict[str | None, str] = {}
        self.told: set[str] = set()
        self._lock = Lock()
        self._begun: list[Upload] = []
        self._slots: asyncio.Semaphore | None = None
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._incomplete: dict[str, str | None] = {}

    def begin(self, file: Path, run_id: str, name: str, *, live: bool, project: str = "") -> Upload:
        """Upload a file; of files of one run, each after those that were begun before.

        Args:
            file: The file.
            run_id: Identity of its run.
            name: Display name of its run.
            live: Whether it is still being written.
            project: The project of its run, after its entity.
        """
        upload = Upload(file, name, project=project)
        with self._lock:
            self._begun.append(upload)

        async def work() -> None:
            self._slots = self._slots or asyncio.Semaphore(SIDE_BY_SIDE)
            try:
                async with self._turns[run_id], self._slots:
                    upload.sending = True
                    if run_id in self._incomplete:  # Else this part would come first.
                        upload.fail(self._incomplete[run_id])
                    else:
                        with _held(file):
                            await self._send(service, upload, live)
            except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
                upload.fail_by(error)
            finally:
                if not upload.sent and upload.problem != DAMAGED:  # Else it never would be.
                    self._incomplete[run_id] = upload.problem
                    self._note_refusal(upload, live)
                upload.ended.set()

        try:
            from wandb.sdk import wandb_setup

            singleton = wandb_setup.singleton()
            service = singleton.ensure_service()
            singleton.asyncer.run_soon(work, daemon=True)
        except Exception as error:  # noqa: BLE001 - likewise
            upload.fail_by(error)
            upload.ended.set()
        return upload

    async def _send(self, service: Any, upload: Upload, live: bool) -> None:
        """Send a file, or what of it was not sent yet."""
        if refused := self.refused.get(None) or self.refused.get(upload.project):
            upload.fail(refused)
            return
        file = upload.file
        if live:
            mark_before(file, Known())
        else:
            if is_sent(file):  # by an upload that was begun before
                upload.sent = True
                return
            size = file.stat().st_size  # Another process may be writing it still.
            file = await asyncio.to_thread(unsent, file)
        since = service_time()
        complete = await self._sync(service, upload, file, live)
        if complete and await asyncio.to_thread(lacks_steps, file):
            upload.fail(LACKING)
        elif complete and await asyncio.to_thread(lacks_files, upload.directory, file, since):
            upload.fail(REFUSED)
        elif complete:
            # A copy has what can be read.
            damaged = file != upload.file and RunFile(upload.file).damaged
            upload.fail(DAMAGED if damaged else None)
            upload.sent = not damaged
            if upload.sent:
                mark_sent(upload.file, file.stat().st_size if live else size)
        if file != upload.file:
            remove_copy(file)

    async def _sync(self, service: Any, upload: Upload, file: Path, live: bool) -> bool:
        """Let wandb's service send a file; return whether all was sent."""
        from wandb.proto.wandb_sync_pb2 import ServerSyncMessage

        settings = connection()
        settings.root_dir = str(upload.directory)  # Its log is read, see `lacks_files`.
        handle = await service.init_sync(
            {file}, settings, cwd=None, live=live,
            entity="", project="", run_id="", job_type="", tag_replacements={},
        )  # fmt: skip
        begun = await handle.wait_async(timeout=SERVICE_S)
        handle = await service.sync(begun.id, parallelism=1)
        syncing = asyncio.ensure_future(handle.wait_async(timeout=None))
        while not (await asyncio.wait([syncing], timeout=STATUS_S))[0]:
            status = await (await service.sync_status(begun.id)).wait_async(timeout=SERVICE_S)
            retried = [
                operation.error_status
                for stats in status.stats
                for operation in stats.operations
                if operation.error_status
            ]
            upload.fail(reason(retried[0]) if retried else None)
        errors = [
            message.content
            for message in syncing.result().messages
            if message.severity >= ServerSyncMessage.SEVERITY_ERROR
        ]
        if errors:
            upload.fail(reason(errors[0]))
        return not errors

    def _note_refusal(self, upload: Upload, live: bool) -> None:
        """Send nothing more with a key, or to a project, that the server refuses."""
        problem = upload.problem
        place = None if problem == REFUSALS["401"] else upload.project
        if problem is None or problem not in REFUSALS.values() or place in self.refused:
            return
        self.refused[place] = problem
        if live and problem not in self.told:
            self.told.add(problem)
            say(f"W&B: {problem}; {kept_message(upload.directory)}")

    def begin_all(self, files: Iterable[Path]) -> None:
        """Upload files of runs that have ended."""
        for file in files:
            run = RunFile(file).run
            if run is None:
                self.begin(file, file.parent.name, file.parent.name, live=False)
            else:
                name = run.display_name or run.run_id
                project = f"{run.entity}/{run.project}"
                self.begin(file, run.run_id, name, live=False, project=project)

    def wait(self, seconds: float) -> list[Upload]:
        """Wait until all that was begun has ended, or cannot be expected to end.

        An interruption ends the waiting only: the work is done by then.

        Args:
            seconds: How long to wait at most.

        Returns:
            All uploads since the last call; those that are not sent are given up.
        """
        with self._lock:
            begun, self._begun = self._begun, []
        ends = self._ends(begun, time.monotonic() + seconds)
        try:
            if not _exhausted(ends, QUIET_S):
                with progress("uploading to W&B", len(begun), "files") as advance:
                    done = 0
                    for now_done in ends:
                        advance(now_done - done)
                        done = now_done
        except (KeyboardInterrupt, SystemExit):  # Ray answers signals by the latter.
            for upload in begun:
                if not upload.ended.is_set():
                    upload.fail("interrupted")
        self._incomplete.clear()
        return begun

    @staticmethod
    def _ends(begun: list[Upload], deadline: float) -> Iterator[int]:
        """Yield the number of ended uploads, again and again, until nobody waits any more."""
        while True:
            running = [upload for upload in begun if not upload.ended.is_set()]
            yield len(begun) - len(running)
            now = time.monotonic()
            # The others wait for their turn.
            failing = [now - (one.failing_since or now) for one in running if one.sending]
            if not running or now > deadline or min(failing, default=0.0) > FAILING_S:
                return
            time.sleep(0.05)


def _exhausted(values: Iterator[int], seconds: float) -> bool:
    """Return whether an iterator ends within some seconds."""
    until = time.monotonic() + seconds
    return all(time.monotonic() <= until for _ in values)


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Keep other processes from uploading a file, which would double its steps.

    Raises:
        RuntimeError: One uploads it.
    """
    with file.open("rb+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in LOCKS_UNSUPPORTED:
                raise RuntimeError("another process uploads it") from error
        yield


uploads = Uploads()
"""Of this process, which has one service of wandb's too."""
