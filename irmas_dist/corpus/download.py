"""Downloading IRMAS: its archives from Zenodo or a mirror, verified and extracted.

In the target, ``<name>.partial`` is an archive that is still arriving, ``<name>`` one whose md5
is right, and ``<stem>/`` the folder that was extracted from it. That folder appears whole or
not at all; its `MARKER` lists what is in it, so that a later run need not hash gigabytes to see
that there is nothing to do.
"""

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event, Lock
from typing import TypeVar

import requests
from requests.adapters import HTTPAdapter
from rich.markup import escape
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from irmas_dist import __version__, storage
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import progress, say

ZENODO_URL = "https://zenodo.org/record/1290750/files/{name}?download=1"
MARKER = ".download.json"
"""File in an extracted folder: the md5 of its archive, and its files with their sizes."""

RETRIES = 4
BACKOFF_S = 0.5
"""Retries wait 0, 2, 4, 8 times this long, or as long as the server asks for."""
PATIENCE_S = 60
"""Longest wait for a server: to connect, to send more, or before it may be asked again."""

_CHUNK_BYTES = 1 << 16
_EXPANSION = 1.1  # 16-bit music hardly shrinks in a zip; the exact size is known only from it

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Archive:
    """A zip file of the dataset, and the part of the dataset that is in it."""

    name: str
    md5: str
    part: str

    @property
    def stem(self) -> str:
        """The folder that the archive becomes."""
        return self.name.removesuffix(".zip")


ARCHIVES = (
    Archive("IRMAS-TrainingData.zip", "4fd9f5ed5a18d8e2687e6360b5f60afe", "training"),
    Archive("IRMAS-TestingData-Part1.zip", "5a2e65520dcedada565dff2050bb2a56", "testing"),
    Archive("IRMAS-TestingData-Part2.zip", "afb0c8ea92f34ee653693106be95c895", "testing"),
    Archive("IRMAS-TestingData-Part3.zip", "9b3fb2d0c89cdc98037121c25bd5b556", "testing"),
)


@dataclass(frozen=True)
class DownloadSummary:
    """What a download did.

    Attributes:
        path: Where the dataset is.
        fetched_bytes: What came over the network.
        extracted_files: Files that were extracted.
        skipped_archives: Archives whose files were all there already.
    """

    path: Path
    fetched_bytes: int
    extracted_files: int
    skipped_archives: tuple[str, ...]


def download(
    out: Path,
    *,
    base_url: str | None = None,
    parts: Collection[str] = ("training", "testing"),
    keep_archives: bool = False,
    archives: Sequence[Archive] = ARCHIVES,
) -> DownloadSummary:
    """Fetch and extract what is not there yet; go on where an earlier run was cut short.

    Args:
        out: Root of the tree; created unless it exists.
        base_url: A mirror that has each archive at ``<base_url>/<name>``; none means Zenodo.
        parts: Parts of the dataset to fetch.
        keep_archives: Leave the archives in ``out``, beside the folders extracted from them.
        archives: The dataset.

    Raises:
        IrmasError: The server does not give an archive or gives another one, the connection
            broke again and again, the disk is full, or an archive is not fit to be extracted.
    """
    chosen = [archive for archive in archives if archive.part in parts]
    missing = [archive for archive in chosen if not _is_extracted(archive, out)]
    fetched = files = 0
    if missing:
        storage.make_directory(out)
        fetched = _fetch(missing, out, base_url)
        files = _extract(missing, out, keep_archives)
    return DownloadSummary(
        path=out,
        fetched_bytes=fetched,
        extracted_files=files,
        skipped_archives=tuple(archive.name for archive in chosen if archive not in missing),
    )


def _is_extracted(archive: Archive, out: Path) -> bool:
    folder = out / archive.stem
    if not (folder / MARKER).exists():
        return False
    marker = storage.read_json(folder / MARKER)
    return marker["md5"] == archive.md5 and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in marker["files"].items()
    )


def _fetch(archives: Sequence[Archive], out: Path, base_url: str | None) -> int:
    """Bring archives into ``out``, all at a time, and return how many bytes were sent."""
    with ExitStack() as stack:
        transfers = [_Transfer(archive, out, base_url) for archive in archives]
        for transfer in transfers:
            stack.callback(transfer.close)
        whole = _in_threads(lambda transfer, _: transfer.recover(), transfers)
        due = [transfer for transfer, done in zip(transfers, whole, strict=True) if not done]
        if not due:
            return 0
        _in_threads(lambda transfer, _: transfer.connect(), due)
        sizes = sum(transfer.size or transfer.received for transfer in due)
        left = sizes - sum(transfer.received for transfer in due)
        _check_space(out, left + int(_EXPANSION * sizes), "to download and extract")
        with _bytes_progress("download", sizes) as advance:
            _in_threads(lambda transfer, stop: transfer.receive(advance, stop), due)
        return sum(transfer.fetched for transfer in due)


class _Transfer:
    """An archive that is arriving: what there is of it, the digest of that, and its source."""

    def __init__(self, archive: Archive, out: Path, base_url: str | None) -> None:
        self.received = self.fetched = 0
        self.size: int | None = None
        self._archive = archive
        self._url = ZENODO_URL.format(name=archive.name)
        if base_url is not None:
            self._url = f"{base_url.rstrip('/')}/{archive.name}"
        # requests honours proxies and certificate settings; urllib3's Retry does the waiting.
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_retries()))
        # Zenodo slows down clients that do not name themselves; ranges and md5 mean raw bytes.
        self._session.headers["User-Agent"] = f"irmas-dist/{__version__}"
        self._session.headers["Accept-Encoding"] = "identity"
        self._target = out / archive.name
        self._partial = out / f"{archive.name}.partial"
        self._source = out / f"{archive.name}.partial.json"
        self._digest = hashlib.md5()

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def recover(self) -> bool:
        """Look at what earlier runs left; return whether the archive is whole."""
        if self._target.exists():
            with self._target.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            if md5 != self._archive.md5:
                raise IrmasError(
                    f"{self._target} has md5 {md5} and not {self._archive.md5}; "
                    "delete it and run the command again"
                )
            return True
        if self._partial.exists():
            with self._partial.open("rb") as file:
                self._digest = hashlib.file_digest(file, "md5")
                self.received = file.tell()
            if self._digest.hexdigest() == self._archive.md5:
                self._finish()
                return True
        return False

    def connect(self) -> int:
        """Ask for what is missing; return how many bytes must be fetched again after all."""
        headers = {}
        if self.received:
            headers["Range"] = f"bytes={self.received}-"
            if etag := self._known_etag():
                headers["If-Range"] = etag
        self._response = self._get(headers)
        if headers and self._response.status_code != 200 and not self._continues():
            self._response = self._get({})
        lost = 0
        if self._response.status_code == 200:
            if self.received:
                say(escape(f"{self._url}: cannot be resumed, starting again"))
            lost = self._start_over()
        length = self._response.headers.get("Content-Length")
        self.size = self.received + int(length) if length else None
        return lost

    def _get(self, headers: dict[str, str]) -> requests.Response:
        try:
            response = self._session.get(
                self._url, headers=headers, stream=True, timeout=PATIENCE_S
            )
        except requests.RequestException as error:
            raise IrmasError(
                f"{self._url}: {_root_cause(error)}; check the network or --base-url and run "
                "the command again, what has arrived is kept"
            ) from error
        # 416 refuses a range, not the file.
        if response.ok or (headers and response.status_code == 416):
            return response
        advice = (
            f"also after {RETRIES} retries; run the command again later, what has arrived is kept"
            if response.status_code in _retries().status_forcelist
            else "name a mirror that has it with --base-url"
        )
        raise IrmasError(
            f"{self._url}: the server answered {response.status_code} {response.reason}, {advice}"
        )

    def _continues(self) -> bool:
        """Return whether the response goes on with the file of which a part is here."""
        begins = self._response.headers.get("Content-Range", "")
        etag = self._response.headers.get("ETag")
        return (
            self._response.status_code == 206
            and begins.startswith(f"bytes {self.received}-")
            and (etag is None or self._known_etag() in (None, etag))
        )

    def _known_etag(self) -> str | None:
        """Return the validator of what is here; of another mirror's file, only md5 can judge."""
        if not self._source.exists():
            return None
        source = storage.read_json(self._source)
        return source["etag"] if source["url"] == self._url else None

    def _start_over(self) -> int:
        with _disk_errors(self._partial):
            self._partial.unlink(missing_ok=True)
        etag = self._response.headers.get("ETag", "W/")
        strong = None if etag.startswith("W/") else etag  # If-Range takes no weak ones
        storage.write_json(self._source, {"url": self._url, "etag": strong})
        lost, self.received, self._digest = self.received, 0, hashlib.md5()
        return lost

    def receive(self, advance: Callable[[int], None], stop: Event) -> None:
        """Write what the server sends, asking again after a dropped connection, and verify it."""
        advance(self.received)
        retries = _retries()
        while dropped := self._copy(advance, stop):
            try:
                retries = retries.increment("GET", self._url, error=dropped)
            except MaxRetryError as error:
                raise IrmasError(
                    f"{self._url}: the connection broke {RETRIES + 1} times, "
                    f"{_root_cause(dropped)}; run the command again to resume the download"
                ) from error
            retries.sleep()
            advance(-self.connect())
        md5 = self._digest.hexdigest()
        if md5 != self._archive.md5:
            self._partial.unlink()
            self._source.unlink()
            raise IrmasError(
                f"{self._url}: what arrived has md5 {md5} and not {self._archive.md5}, and was "
                "deleted; run the command again, or name a mirror with --base-url"
            )
        self._finish()

    def _copy(self, advance: Callable[[int], None], stop: Event) -> HTTPError | None:
        """Write the body of the response; return the error that cut it short."""
        with _disk_errors(self._partial), self._partial.open("ab") as file:
            try:
                for chunk in self._response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    if stop.is_set():
                        raise CancelledError
                    file.write(chunk)
                    self._digest.update(chunk)
                    self.received += len(chunk)
                    self.fetched += len(chunk)
                    advance(len(chunk))
            except HTTPError as error:
                return error
        return None

    def _finish(self) -> None:
        self._partial.replace(self._target)
        self._source.unlink(missing_ok=True)


def _retries() -> Retry:
    return Retry(
        total=RETRIES,
        backoff_factor=BACKOFF_S,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        retry_after_max=PATIENCE_S,
    )


def _root_cause(error: BaseException) -> str:
    """Return what lies under the wrappings of urllib3 and requests, in one phrase."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error)


def _extract(archives: Sequence[Archive], out: Path, keep_archives: bool) -> int:
    """Extract archives that are in ``out``, and return the number of their files."""
    contents = {archive: _members(out / archive.name, archive.stem) for archive in archives}
    size = sum(info.file_size for members in contents.values() for info in members.values())
    _check_space(out, size, "to extract")
    with _bytes_progress("extract", size) as advance:

        def extract(archive: Archive, stop: Event) -> None:
            _extract_one(archive, contents[archive], out, advance, stop)
            if not keep_archives:
                (out / archive.name).unlink()

        _in_threads(extract, archives)
    return sum(len(members) for members in contents.values())


def _members(path: Path, folder: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their paths below ``folder``, without macOS's junk.

    Raises:
        IrmasError: One of them is a link, or would lie outside of the folder.
    """
    members = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = PurePosixPath(_name(info))
            if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(info.external_attr >> 16):
                raise IrmasError(
                    f"{path}: the entry {_name(info)!r} is a link or leads out of the folder; "
                    "nothing was extracted, delete the archive and fetch it from elsewhere"
                )
            if not (info.is_dir() or any(_is_junk(component) for component in name.parts)):
                members[name] = info
    if all(name.parts[0] == folder for name in members):
        return {name.relative_to(folder): info for name, info in members.items()}
    return members


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name; macOS writes UTF-8 and leaves out the flag that says so."""
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _is_junk(component: str) -> bool:
    return component in {"__MACOSX", ".DS_Store"} or component.startswith("._")


def _extract_one(
    archive: Archive,
    members: dict[PurePosixPath, zipfile.ZipInfo],
    out: Path,
    advance: Callable[[int], None],
    stop: Event,
) -> None:
    """Extract one archive into a folder beside its own, and rename that when it is whole."""
    beside = out / f".{archive.stem}.partial"
    marker = {
        "archive": archive.name,
        "md5": archive.md5,
        "files": {str(name): info.file_size for name, info in members.items()},
    }
    with _disk_errors(beside), ExitStack() as stack:
        shutil.rmtree(beside, ignore_errors=True)
        stack.callback(shutil.rmtree, beside, ignore_errors=True)
        zipped = stack.enter_context(zipfile.ZipFile(out / archive.name))
        for name, info in members.items():
            if stop.is_set():
                raise CancelledError
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(info) as packed, (beside / name).open("wb") as file:
                shutil.copyfileobj(packed, file, _CHUNK_BYTES)
            advance(info.file_size)
        storage.write_json(beside / MARKER, marker)
        _put(beside, out / archive.stem, [*members, PurePosixPath(MARKER)])


def _put(beside: Path, folder: Path, names: Sequence[PurePosixPath]) -> None:
    """Rename a folder; into one that exists, move its files one by one, the marker last."""
    if not folder.exists():
        beside.rename(folder)
        return
    (folder / MARKER).unlink(missing_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).replace(folder / name)


def _check_space(out: Path, needed: int, purpose: str) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise IrmasError(
            f"{out}: {needed / 1e6:,.1f} MB are needed {purpose}, {free / 1e6:,.1f} MB are free; "
            "free some space, or fetch one part at a time with --part"
        )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IrmasError(
            f"{path}: {error.strerror or error}; mend that and run the command again, "
            "archives and parts of them that have arrived are kept"
        ) from error


@contextmanager
def _bytes_progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress that threads may advance."""
    lock = Lock()
    with progress(description, total, "bytes") as advance:

        def locked(count: int) -> None:
            with lock:
                advance(count)

        yield locked


def _in_threads(work: Callable[[T, Event], R], items: Sequence[T]) -> list[R]:
    """Do work in a thread per item; the first error, or an interrupt, asks all others to stop."""
    stop = Event()
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
    return [future.result() for future in futures]
