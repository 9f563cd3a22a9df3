"""Uploads: runs are written to disk, and sent from there while they grow, by wandb's own service.

Nothing waits for the network but `Uploads.wait`. A run whose upload fails stays on disk, whole.
"""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from rich.markup import escape

from irmas_dist.terminal import progress, say
from irmas_dist.tracking.run_file import REST, RunFile
from irmas_dist.tracking.server import connection, kept, known_run

SIDE_BY_SIDE = 32
"""Uploads at a time."""

FAILING_S = 10.0
"""Once every upload has failed for so long, nobody waits for them any more."""

QUIET_S = 2.0
"""How long to wait without showing the progress."""

STATUS_S = 0.5
"""How often wandb's service is asked how an upload fares."""

ANSWER_S = 10.0
"""How long to wait for wandb's service on this machine, and for a question to the server."""


@dataclass
class Upload:
    """The upload of one file of a run.

    Attributes:
        file: The file.
        name: Display name of its run.
        problem: Why it fails, or has failed; None while all is well.
        failing_since: Since when, on the monotonic clock.
        sent: Whether it is complete on the server.
    """

    file: Path
    name: str
    problem: str | None = None
    failing_since: float | None = None
    sent: bool = False
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


class Uploads:
    """The uploads of this process, each in wandb's own event loop.

    Attributes:
        refused: Why the server takes nothing, once it has said so; nothing is sent then.
        told: Whether that was printed.
    """

    def __init__(self) -> None:
        self.refused: str | None = None
        self.told = False
        self._lock = Lock()
        self._begun: list[Upload] = []
        self._slots: asyncio.Semaphore | None = None
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def begin(self, file: Path, run_id: str, name: str, *, live: bool) -> Upload:
        """Upload a file; of files of one run, each after those that were begun before.

        Args:
            file: The file.
            run_id: Identity of its run.
            name: Display name of its run.
            live: Whether it is still being written.
        """
        from wandb.sdk import wandb_setup

        upload = Upload(file, name)
        with self._lock:
            self._begun.append(upload)
        if self.refused is not None:
            upload.fail(self.refused)
            upload.ended.set()
            return upload
        singleton = wandb_setup.singleton()
        service = singleton.ensure_service()

        async def work() -> None:
            self._slots = self._slots or asyncio.Semaphore(SIDE_BY_SIDE)
            try:
                async with self._turns[run_id], self._slots:
                    await self._send(service, upload, live)
            except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
                upload.fail(reason(str(error).strip() or type(error).__name__))
            finally:
                upload.ended.set()

        singleton.asyncer.run_soon(work, daemon=True)
        return upload

    async def _send(self, service: Any, upload: Upload, live: bool) -> None:
        """Send a file, or what of it was not sent yet."""
        if self.refused is not None:
            upload.fail(self.refused)
            return
        file = upload.file
        if not live:
            if file.with_suffix(".wandb.synced").exists():  # by an upload that was begun before
                upload.sent = True
                return
            file = await asyncio.to_thread(unsent, file)
        if await self._sync(service, upload, file, live):
            upload.fail(None)
            upload.sent = True
            if file != upload.file:
                upload.file.with_suffix(".wandb.synced").touch()
        if file != upload.file:
            for made in file.parent.glob(f"{file.name}*"):
                made.unlink()

    async def _sync(self, service: Any, upload: Upload, file: Path, live: bool) -> bool:
        """Let wandb's service send a file; return whether all was sent."""
        from wandb.proto.wandb_sync_pb2 import ServerSyncMessage

        handle = await service.init_sync(
            {file}, connection(), cwd=None, live=live,
            entity="", project="", run_id="", job_type="", tag_replacements={},
        )  # fmt: skip
        begun = await handle.wait_async(timeout=ANSWER_S)
        handle = await service.sync(begun.id, parallelism=1)
        syncing = asyncio.ensure_future(handle.wait_async(timeout=None))
        while not (await asyncio.wait([syncing], timeout=STATUS_S))[0]:
            status = await (await service.sync_status(begun.id)).wait_async(timeout=ANSWER_S)
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
            if self.refused is None and re.search(r"\b40[13]\b", errors[0]):
                self.refused = upload.problem
                if live:
                    self.told = True
                    say(escape(f"W&B: {self.refused}; {kept(upload.directory)}"))
        return not errors and file.with_suffix(".wandb.synced").exists()

    def begin_all(self, files: Iterable[Path]) -> None:
        """Upload files of runs that have ended."""
        for file in files:
            run = RunFile(file).run
            if run is None:
                self.begin(file, file.parent.name, file.parent.name, live=False)
            else:
                self.begin(file, run.run_id, run.display_name or run.run_id, live=False)

    def wait(self, seconds: float) -> list[Upload]:
        """Wait until all that was begun has ended, or cannot be expected to end.

        Args:
            seconds: How long to wait at most.

        Returns:
            All uploads since the last call; those that are not sent are given up.
        """
        with self._lock:
            begun, self._begun = self._begun, []
        ends = self._ends(begun, time.monotonic() + seconds)
        if not _exhausted(ends, QUIET_S):
            with progress("uploading to W&B", len(begun), "runs") as advance:
                done = 0
                for now_done in ends:
                    advance(now_done - done)
                    done = now_done
        return begun

    @staticmethod
    def _ends(begun: list[Upload], deadline: float) -> Iterator[int]:
        """Yield the number of ended uploads, again and again, until nobody waits any more."""
        while True:
            running = [upload for upload in begun if not upload.ended.is_set()]
            yield len(begun) - len(running)
            now = time.monotonic()
            failing = [now - (upload.failing_since or now) for upload in running]
            if not running or now > deadline or min(failing) > FAILING_S:
                return
            time.sleep(0.05)


def _exhausted(values: Iterator[int], seconds: float) -> bool:
    """Return whether an iterator ends within some seconds."""
    until = time.monotonic() + seconds
    return all(time.monotonic() <= until for _ in values)


def reason(problem: str) -> str:
    """Return what W&B says of a failure in few words."""
    if status := re.search(r"\b(4\d\d|5\d\d)\b", problem):
        refused = {"401": "it refuses the key", "403": "it refuses access"}
        return f"{refused.get(status[1], 'its server fails')} ({status[1]})"
    if re.search("connection refused|no such host|unreachable|connection reset", problem):
        return "its server cannot be reached"
    if re.search("[Tt]imeout|[Tt]imed out|deadline", problem):
        return "its server does not answer"
    if re.search("Failed to read|error getting next record", problem):
        return "its file is damaged"
    return problem.splitlines()[0]


def unsent(file: Path) -> Path:
    """Return a file with what the server does not have of a run's file: itself, or a part.

    Raises:
        Exception: The file is damaged, or the server does not say what it has.
    """
    begun = file.with_suffix(".wandb.syncstate").exists()
    found = RunFile(file)
    if found.run is None or (found.whole and not begun):
        return file
    known = -1
    if begun:
        run = found.run
        known = known_run(run.entity, run.project, run.run_id, ANSWER_S).last_step
    rest = file.with_name(file.stem + REST)
    found.write_rest(rest, known)
    return rest


uploads = Uploads()
"""Of this process, which has one service of wandb's too."""
