"""Downloading IRMAS: its archives from Zenodo or a mirror, verified and extracted.

In the target, ``<name>.partial`` is an archive that is still arriving, ``<name>`` one whose md5
is right, and ``<stem>/`` the folder that was extracted from it. That folder appears whole or
not at all; a marker in it lists what is in it, so that a later run need not hash gigabytes to see
that there is nothing to do.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import requests
from requests.adapters import HTTPAdapter
from rich.markup import escape
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from irmas_dist import __version__, storage
from irmas_dist.corpus.irmas import ARCHIVES, ZENODO_URL, Archive
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.unpack import (
    CHUNK_BYTES,
    check_space,
    disk_errors,
    extract_archives,
    in_threads,
    is_extracted,
)
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import progress, say

RETRIES = 4
BACKOFF_S = 0.5
"""Retries wait 0, 2, 4, 8 times this long, or as long as the server asks for."""
PATIENCE_S = 60
"""Longest wait for a server: to connect, to send more, or before it may be asked again."""

_EXPANSION = 1.1  # 16-bit music hardly shrinks in a zip; the exact size is known only from it


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
    parts: Collection[str] = (TRAINING, TESTING),
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
    missing = [archive for archive in chosen if not is_extracted(archive, out)]
    fetched = files = 0
    if missing:
        storage.make_directory(out)
        fetched = _fetch(missing, out, base_url)
        files = extract_archives(missing, out, keep_archives)
    return DownloadSummary(
        path=out,
        fetched_bytes=fetched,
        extracted_files=files,
        skipped_archives=tuple(archive.name for archive in chosen if archive not in missing),
    )


def _fetch(archives: Sequence[Archive], out: Path, base_url: str | None) -> int:
    """Bring archives into ``out``, all at a time, and return how many bytes were sent."""
    with ExitStack() as stack:
        transfers = [_Transfer(archive, out, base_url) for archive in archives]
        for transfer in transfers:
            stack.callback(transfer.close)
        whole = in_threads(lambda transfer, _: transfer.recover(), transfers)
        due = [transfer for transfer, done in zip(transfers, whole, strict=True) if not done]
        if not due:
            return 0
        in_threads(lambda transfer, _: transfer.connect(), due)
        sizes = sum(transfer.size or transfer.received for transfer in due)
        left = sizes - sum(transfer.received for transfer in due)
        check_space(out, left + int(_EXPANSION * sizes), "to download and extract")
        with progress("download", sizes, "bytes") as advance:
            in_threads(lambda transfer, stop: transfer.receive(advance, stop), due)
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
        with disk_errors(self._partial):
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
        with disk_errors(self._partial), self._partial.open("ab") as file:
            try:
                for chunk in self._response.raw.stream(CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    self._digest.update(chunk)
                    self.received += len(chunk)
                    self.fetched += len(chunk)
                    advance(len(chunk))
                    if stop.is_set():
                        raise CancelledError
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
