"""Downloading a data set: its archives from Zenodo or a mirror, verified and extracted.

In the target directory, ``<name>.partial`` is an archive whose download is unfinished, ``<name>``
one whose md5 is verified, and ``<folder>/`` the folder extracted from it. That folder appears
atomically, with a marker that lists its files, so that a later run need not hash gigabytes to
find that nothing is missing.
"""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from irmas_dist import __version__
from irmas_dist.corpus.archives import ZENODO_URL, Archive
from irmas_dist.corpus.unpack import (
    CHUNK_BYTES,
    check_space,
    disk_errors,
    extract_archives,
    in_threads,
    is_extracted,
)
from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import lock_directory
from irmas_dist.terminal import Advance, progress, say

RETRIES = 4
BACKOFF_S = 0.5
"""Retries wait 0, 2, 4, 8 times this long, or as long as the server asks for."""
PATIENCE_S = 60
"""Longest wait for a server: to connect, to send more, or before the next retry."""

_EXPANSION = 1.1  # music hardly shrinks in an archive; only the archive gives the exact size


@dataclass(frozen=True)
class DownloadSummary:
    """What a download did."""

    path: Path  # root of the tree
    fetched_bytes: int  # received over the network
    extracted_files: int
    skipped_archives: tuple[str, ...]  # extracted before


def download(
    out: Path,
    archives: Sequence[Archive],
    *,
    base_url: str | None = None,
    parts: Collection[str] | None = None,
    keep_archives: bool = False,
) -> DownloadSummary:
    """Fetch and extract what is missing; resume an interrupted download.

    Args:
        out: Root of the tree; created unless it exists.
        archives: The data set.
        base_url: A mirror that has each archive at ``<base_url>/<name>``; None means Zenodo.
        parts: Parts of the data set to fetch, where its archives have one each; None: all.
        keep_archives: Leave the archives in ``out``, beside the folders extracted from them.

    Raises:
        IrmasError: The server does not send an archive or sends another file, the connection
            breaks again and again, the disk is full, or an archive is not safe to extract.
    """
    chosen = [archive for archive in archives if not parts or archive.part in parts]
    missing = [archive for archive in chosen if not is_extracted(archive, out)]
    fetched = files = 0
    if missing:
        with lock_directory(out):
            fetched = _fetch(missing, out, base_url)
            files = extract_archives(missing, out, keep_archives)
    return DownloadSummary(
        path=out,
        fetched_bytes=fetched,
        extracted_files=files,
        skipped_archives=tuple(archive.name for archive in chosen if archive not in missing),
    )


def _fetch(archives: Sequence[Archive], out: Path, base_url: str | None) -> int:
    """Bring archives into ``out``, all in parallel, and return the number of bytes received."""
    with ExitStack() as stack:
        transfers = [_Transfer(archive, out, base_url) for archive in archives]
        for transfer in transfers:
            stack.callback(transfer.session.close)
        with disk_errors(out):
            complete = in_threads(lambda transfer, _: transfer.recover(), transfers)
        due = [transfer for transfer, done in zip(transfers, complete, strict=True) if not done]
        if not due:
            return 0
        in_threads(lambda transfer, _: transfer.connect(), due)
        sizes = sum(transfer.size or transfer.received for transfer in due)
        left = sizes - sum(transfer.received for transfer in due)
        check_space(out, left + int(_EXPANSION * sizes), "to download and extract", len(due))
        with progress("download", sizes, "bytes") as advance:
            in_threads(lambda transfer, stop: transfer.receive(advance, stop), due)
        return sum(transfer.fetched for transfer in due)


class _Transfer:
    """The download of one archive: its connection, and the bytes received so far.

    Attributes:
        session: Connection to the server.
        received: Bytes of the archive on disk.
        fetched: Bytes received over the network.
        size: Size of the archive in bytes; None when the server does not state it.
    """

    def __init__(self, archive: Archive, out: Path, base_url: str | None) -> None:
        self.received = self.fetched = 0
        self.size: int | None = None
        self._archive = archive
        self._url = ZENODO_URL.format(record=archive.record, name=archive.name)
        if base_url is not None:
            self._url = f"{base_url.rstrip('/')}/{archive.name}"
        # requests honours proxies and certificate settings; urllib3's Retry does the waiting.
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=_retries()))
        # Zenodo slows down clients without a name; ranges and md5 are of the raw bytes.
        self.session.headers["User-Agent"] = f"irmas-dist/{__version__}"
        self.session.headers["Accept-Encoding"] = "identity"
        self._target = out / archive.name
        self._partial = out / f"{archive.name}.partial"
        self._digest = hashlib.md5()
        self._ended: int | None = None  # where the last answer of unknown size did

    def recover(self) -> bool:
        """Read what earlier runs left; return whether the archive is complete."""
        if self._target.exists():
            with self._target.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            if md5 != self._archive.md5:
                raise IrmasError(
                    f"{self._target} has md5 {md5}, not {self._archive.md5}; "
                    "delete it and run the command again"
                )
            return True
        if self._partial.exists():
            with self._partial.open("rb") as file:
                self._digest = hashlib.file_digest(file, "md5")
                self.received = file.tell()
            if self._verified():
                self._partial.replace(self._target)
                return True
        return False

    def connect(self) -> None:
        """Request the missing bytes; the md5 shows whether they belong to those received."""
        response = self._get({"Range": f"bytes={self.received}-"} if self.received else {})
        if response.status_code == 416 and self.received == self._ended:
            raise self._wrong()
        begins = response.headers.get("Content-Range", "")
        if response.status_code != 200 and not begins.startswith(f"bytes {self.received}-"):
            response = self._get({})
        if response.status_code == 200:
            if self.received:
                say(f"{self._url}: cannot be resumed, starting again")
            with disk_errors(self._partial):
                self._partial.unlink(missing_ok=True)
            self.received, self._digest = 0, hashlib.md5()
        # As urllib3 parsed it: None, too, for a length that is no number.
        length = response.raw.length_remaining
        self.size = None if length is None else self.received + length
        self._response = response

    def _get(self, headers: dict[str, str]) -> requests.Response:
        try:
            response = self.session.get(self._url, headers=headers, stream=True, timeout=PATIENCE_S)
        except requests.RequestException as error:
            raise IrmasError(
                f"{self._url}: {_root_cause(error)}; check the network or --base-url and run "
                "the command again to resume"
            ) from error
        if response.ok and response.headers.get("Content-Type", "").startswith("text/html"):
            raise IrmasError(
                f"{self._url}: a web page answers instead of the archive, as of a network that "
                "wants a login, or a server in maintenance; run the command again later to resume"
            )
        # 416 refuses a range, not the file.
        if response.ok or (headers and response.status_code == 416):
            return response
        advice = (
            f"also after {RETRIES} retries; run the command again later to resume"
            if response.status_code in _retries().status_forcelist
            else "name a mirror that has it with --base-url"
        )
        raise IrmasError(
            f"{self._url}: the server answered {response.status_code} {response.reason}, {advice}"
        )

    def receive(self, advance: Advance, stop: Event) -> None:
        """Write what the server sends, reconnecting when the connection breaks, and verify it."""
        advance(self.received, earlier=True)
        retries = _retries()
        while broken := self._copy(advance, stop):
            try:
                retries = retries.increment("GET", self._url, error=broken)
            except MaxRetryError as error:
                raise IrmasError(
                    f"{self._url}: the connection broke {RETRIES + 1} times, "
                    f"{_root_cause(broken)}; run the command again to resume the download"
                ) from error
            retries.sleep()
            before = self.received
            self.connect()
            advance(self.received - before)
        if not self._verified():
            raise self._wrong()
        with disk_errors(self._target):
            self._partial.replace(self._target)

    def _wrong(self) -> IrmasError:
        """Delete what was received, and return the error for it."""
        with disk_errors(self._partial):
            self._partial.unlink()
        return IrmasError(
            f"{self._url}: the file received has md5 {self._digest.hexdigest()}, not "
            f"{self._archive.md5}, and was deleted; run the command again, or name a mirror "
            "with --base-url"
        )

    def _copy(self, advance: Advance, stop: Event) -> HTTPError | None:
        """Write the body of the response; return the error that interrupted it."""
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
        # Of unknown size, an answer that was cut looks whole; one that is ends there again.
        ended, self._ended = self._ended, self.received
        if self.size is None and self.received != ended and not self._verified():
            return HTTPError("its answer ended before the archive did")
        return None

    def _verified(self) -> bool:
        return self._digest.hexdigest() == self._archive.md5


def _retries() -> Retry:
    return Retry(
        total=RETRIES,
        backoff_factor=BACKOFF_S,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        retry_after_max=PATIENCE_S,
    )


def _root_cause(error: BaseException) -> str:
    """Return the innermost error below those of urllib3 and requests, in one phrase."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error)
