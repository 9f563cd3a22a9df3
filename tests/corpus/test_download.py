"""Downloading: what is fetched, resumed and refused, from a faulty server."""

import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import soundfile

from irmas_dist.corpus.archives import ZENODO_URL, Archive
from irmas_dist.corpus.download import RETRIES, DownloadSummary, download
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.irmas import ARCHIVES
from irmas_dist.errors import IrmasError
from tests.corpus.archives import grow, tarred, tree, zipped

NOISE = random.Random(0).randbytes(2_000_000)  # nothing makes it smaller


class Mirror(ThreadingHTTPServer):
    """Serves archives from memory, with the faults that are set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[dict[str, Any]] = []
        self.refusals: list[int] = []
        """Statuses of the next responses; after them, files are sent."""
        self.drops: list[int] = []
        """Bytes after which the next responses end; later ones are complete."""
        self.ranges = True
        self.tells_length = True
        self.length: str | None = None
        """Length that every answer states instead of its own."""
        self.answers_from: int | None = None
        """First byte of the answer to any request for a range."""
        self.retry_after: str | None = None
        self.page: bytes | None = None
        """A web page that answers every request."""
        self.pace_s = 0.0
        """Pause after each 64 KiB."""
        self.barrier: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/irmas"

    def sent(self) -> list[int]:
        return [request["sent"] for request in self.requests]

    def asked(self, header: str) -> list[Any]:
        return [request.get(header) for request in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients may hang up


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror = self.server
        seen = {"path": self.path, "sent": 0}
        seen |= dict(self.headers.items())
        mirror.requests.append(seen)
        if mirror.barrier:
            mirror.barrier.wait(timeout=10)
        body = mirror.files.get(self.path.split("?")[0].rsplit("/", 1)[-1])
        refusal = mirror.refusals.pop(0) if mirror.refusals else 200
        if body is None or refusal != 200:
            self.send_response(404 if body is None else refusal)
            if mirror.retry_after:
                self.send_header("Retry-After", mirror.retry_after)
            self.end_headers()
            return
        if mirror.page is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(mirror.page)))
            self.end_headers()
            self.wfile.write(mirror.page)
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not mirror.ranges:
            start = 0
        if mirror.answers_from is not None and self.headers["Range"]:
            start = mirror.answers_from
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if mirror.tells_length:
            self.send_header("Content-Length", mirror.length or str(len(body) - start))
        self.end_headers()
        end = start + mirror.drops.pop(0) if mirror.drops else len(body)
        for piece in range(start, min(end, len(body)), 1 << 16):
            self.wfile.write(body[piece : min(piece + (1 << 16), end)])
            time.sleep(mirror.pace_s)
        seen["sent"] = len(body[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr("irmas_dist.corpus.download.BACKOFF_S", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def offer(
    mirror: Mirror,
    name: str,
    content: bytes,
    part: str | None = "training",
    inner: str | None = None,
) -> Archive:
    mirror.files[name] = content
    return Archive(name, hashlib.md5(content).hexdigest(), part, ARCHIVES[0].record, inner)


def fetch(out: Path, mirror: Mirror, *archives: Archive, **options: Any) -> DownloadSummary:
    return download(out, archives, base_url=mirror.url, **options)


def refusal(out: Path, mirror: Mirror, *archives: Archive, **options: Any) -> str:
    with pytest.raises(IrmasError) as caught:
        fetch(out, mirror, *archives, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def noise(mirror: Mirror) -> Archive:
    """An archive of two megabytes that becomes ``noise/cel/a.wav``."""
    return offer(mirror, "noise.zip", zipped({"noise/cel/a.wav": NOISE}))


# Fetching and extracting


def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, [0.0] * 441, 44_100, format="WAV")
    return buffer.getvalue()


@pytest.mark.parametrize("outer", [True, False], ids=["outer folder", "no outer folder"])
def test_index_reads_the_extracted_tree(tmp_path: Path, mirror: Mirror, outer: bool) -> None:
    contents = {
        "IRMAS-TrainingData": {"IRMAS-TrainingData/cel/[cel][cla]0001__1.wav": wav()},
        "IRMAS-TestingData-Part1": {"Part1/a song-1.wav": wav(), "Part1/a song-1.txt": b"pia\t\n"},
        "IRMAS-TestingData-Part2": {
            "IRTestingData-Part2/[b], #2-3.wav": wav(),
            "IRTestingData-Part2/[b], #2-3.txt": b"sax\t\n",
        },
    }
    if outer:
        for stem in ("IRMAS-TestingData-Part1", "IRMAS-TestingData-Part2"):
            contents[stem] = {f"{stem}/{name}": data for name, data in contents[stem].items()}
    archives = [
        offer(mirror, f"{stem}.zip", zipped(entries), stem[6:].split("Data")[0].lower())
        for stem, entries in contents.items()
    ]
    summary = fetch(tmp_path, mirror, *archives)
    rows = index_tree(tmp_path)
    assert {(row["clip_id"], row["part"], *row["instruments"], row["problem"]) for row in rows} == {
        ("IRMAS-TrainingData/cel/[cel][cla]0001__1", "training", "cel", None),
        ("IRMAS-TestingData-Part1/Part1/a song-1", "testing", "pia", None),
        ("IRMAS-TestingData-Part2/IRTestingData-Part2/[b], #2-3", "testing", "sax", None),
    }
    assert summary == DownloadSummary(
        path=tmp_path,
        fetched_bytes=sum(map(len, mirror.files.values())),
        extracted_files=5,
        skipped_archives=(),
    )


def test_zenodo_is_used_unless_a_mirror_is_given(
    tmp_path: Path, mirror: Mirror, noise: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ZENODO_URL.format(record=ARCHIVES[0].record, name=ARCHIVES[0].name) == (
        "https://zenodo.org/record/1290750/files/IRMAS-TrainingData.zip?download=1"
    )
    local = ZENODO_URL.replace("https://zenodo.org", f"http://127.0.0.1:{mirror.server_port}")
    monkeypatch.setattr("irmas_dist.corpus.download.ZENODO_URL", local)
    download(tmp_path / "a", [noise])
    download(tmp_path / "b", [noise], base_url=mirror.url + "/")
    assert mirror.asked("path") == [
        "/record/1290750/files/noise.zip?download=1",
        "/irmas/noise.zip",
    ]
    assert all(agent.startswith("irmas-dist/") for agent in mirror.asked("User-Agent"))
    assert set(mirror.asked("Accept-Encoding")) == {"identity"}  # the md5 is of raw bytes


def test_only_the_requested_parts_are_fetched(tmp_path: Path, mirror: Mirror) -> None:
    training = offer(mirror, "train.zip", zipped({"train/a.wav": b"a"}), "training")
    testing = offer(mirror, "test.zip", zipped({"test/a.wav": b"a"}), "testing")
    fetch(tmp_path, mirror, training, testing, parts=["testing"])
    assert mirror.asked("path") == ["/irmas/test.zip"]
    assert fetch(tmp_path, mirror, training, testing).skipped_archives == ("test.zip",)


def test_archives_are_fetched_at_the_same_time(tmp_path: Path, mirror: Mirror) -> None:
    archives = [offer(mirror, f"{n}.zip", zipped({f"{n}/a.wav": b"a"})) for n in range(4)]
    mirror.barrier = threading.Barrier(4)  # no request is answered before all four have arrived
    assert fetch(tmp_path, mirror, *archives).extracted_files == 4


def test_an_archive_of_both_parts_is_a_compressed_tar_file(tmp_path: Path, mirror: Mirror) -> None:
    content = tarred({"set/audio/000/a.ogg": NOISE, "set/labels.csv": b"x"})
    archive = offer(mirror, "set-v1.tgz", content, part=None, inner="set")
    mirror.drops = [700_000]
    assert fetch(tmp_path, mirror, archive).extracted_files == 2
    assert mirror.asked("Range") == [None, "bytes=700000-"]
    assert (tmp_path / "set" / "audio" / "000" / "a.ogg").read_bytes() == NOISE
    assert tree(tmp_path) == {"set/audio/000/a.ogg", "set/labels.csv", "set/.download.json"}
    assert fetch(tmp_path, mirror, archive).skipped_archives == ("set-v1.tgz",)
    assert len(mirror.requests) == 2


# Repeated runs


def test_a_second_run_does_nothing(tmp_path: Path, mirror: Mirror, noise: Archive) -> None:
    fetch(tmp_path, mirror, noise)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fetch(tmp_path, mirror, noise) == DownloadSummary(tmp_path, 0, 0, ("noise.zip",))
    assert len(mirror.requests) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_damaged_folder_is_repaired_and_other_files_in_it_stay(
    tmp_path: Path, mirror: Mirror, damage: Any
) -> None:
    archive = offer(mirror, "a.zip", zipped({"a/b/1.wav": b"one", "a/b/2.wav": b"two, longer"}))
    fetch(tmp_path, mirror, archive)
    whole = tree(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    damage(tmp_path / "a" / "b" / "2.wav")
    assert fetch(tmp_path, mirror, archive).extracted_files == 2
    assert tree(tmp_path) == whole | {"a/notes.txt"}
    assert (tmp_path / "a" / "b" / "2.wav").read_bytes() == b"two, longer"
    assert fetch(tmp_path, mirror, archive).skipped_archives == ("a.zip",)


def test_archive_of_another_version_is_fetched(tmp_path: Path, mirror: Mirror) -> None:
    fetch(tmp_path, mirror, offer(mirror, "a.zip", zipped({"a/b.wav": b"old"})))
    fetch(tmp_path, mirror, offer(mirror, "a.zip", zipped({"a/b.wav": b"new"})))
    assert (tmp_path / "a" / "b.wav").read_bytes() == b"new"


def test_archive_is_deleted_after_extraction_unless_it_is_kept(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    fetch(tmp_path / "gone", mirror, noise)
    assert tree(tmp_path / "gone") == {"noise/cel/a.wav", "noise/.download.json"}
    fetch(tmp_path / "kept", mirror, noise, keep_archives=True)
    assert tree(tmp_path / "kept") == tree(tmp_path / "gone") | {"noise.zip"}


def test_existing_archive_is_not_fetched(tmp_path: Path, mirror: Mirror) -> None:
    content = zipped({"a/b.wav": b"x"})
    archive = offer(mirror, "a.zip", content)
    (tmp_path / "a.zip").write_bytes(content)
    assert fetch(tmp_path, mirror, archive) == DownloadSummary(tmp_path, 0, 1, ())
    assert mirror.requests == []

    (tmp_path / "a" / "b.wav").unlink()
    (tmp_path / "a.zip").write_bytes(b"incomplete")
    assert f"{tmp_path / 'a.zip'} has md5" in refusal(tmp_path, mirror, archive)
    assert (tmp_path / "a.zip").exists()


# Connections that break


def test_dropped_connection_is_resumed(tmp_path: Path, mirror: Mirror, noise: Archive) -> None:
    mirror.drops = [700_000, 600_000]
    summary = fetch(tmp_path, mirror, noise)
    size = len(mirror.files["noise.zip"])
    assert mirror.asked("Range") == [None, "bytes=700000-", "bytes=1300000-"]
    assert mirror.sent() == [700_000, 600_000, size - 1_300_000]
    assert summary.fetched_bytes == size
    assert (tmp_path / "noise" / "cel" / "a.wav").read_bytes() == NOISE


def test_next_run_resumes_after_a_broken_connection(
    tmp_path: Path, mirror: Mirror, noise: Archive, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror.drops = [100_000] * (RETRIES + 1)
    message = refusal(tmp_path, mirror, noise)
    assert f"{mirror.url}/noise.zip: the connection broke {RETRIES + 1} times" in message
    assert "run the command again to resume" in message
    have = 100_000 * (RETRIES + 1)
    assert tree(tmp_path) == {"noise.zip.partial"}
    assert (tmp_path / "noise.zip.partial").stat().st_size == have

    mirror.requests.clear()
    summary = fetch(tmp_path, mirror, noise)
    assert mirror.asked("Range") == [f"bytes={have}-"]
    size = len(mirror.files["noise.zip"])
    assert mirror.sent() == [size - have] == [summary.fetched_bytes]
    assert f"download: {size} of {size} bytes" in capfd.readouterr().err.replace(",", "")
    assert tree(tmp_path) == {"noise/cel/a.wav", "noise/.download.json"}


def test_server_without_ranges_sends_all_again(
    tmp_path: Path, mirror: Mirror, noise: Archive, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror.ranges = False
    mirror.drops = [700_000]
    summary = fetch(tmp_path, mirror, noise)
    assert mirror.asked("Range") == [None, "bytes=700000-"]
    assert summary.fetched_bytes == 700_000 + len(mirror.files["noise.zip"])
    assert (tmp_path / "noise" / "cel" / "a.wav").read_bytes() == NOISE
    size = len(mirror.files["noise.zip"])
    output = capfd.readouterr().err.replace(",", "")
    assert "cannot be resumed starting again" in output
    assert f"download: {size} of {size} bytes" in output


def test_complete_partial_file_is_renamed_and_not_fetched(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    (tmp_path / "noise.zip.partial").write_bytes(mirror.files["noise.zip"])
    fetch(tmp_path, mirror, noise)
    assert mirror.requests == []


def test_partial_file_that_is_too_long_is_fetched_again(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    (tmp_path / "noise.zip.partial").write_bytes(mirror.files["noise.zip"] + b"more")
    fetch(tmp_path, mirror, noise)
    assert [bool(asked) for asked in mirror.asked("Range")] == [True, False]


def test_answer_that_begins_elsewhere_is_not_appended(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    mirror.answers_from = 1
    mirror.drops = [700_000]
    fetch(tmp_path, mirror, noise)
    assert mirror.asked("Range") == [None, "bytes=700000-", None]


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 5_000])
def test_a_length_that_is_no_number_is_not_known(
    tmp_path: Path, mirror: Mirror, noise: Archive, length: str
) -> None:
    mirror.length = length
    assert fetch(tmp_path, mirror, noise).extracted_files == 1


def test_first_failure_stops_the_other_downloads(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    mirror.files["bad.zip"] = b"bad"
    mirror.pace_s = 0.03
    message = refusal(tmp_path, mirror, noise, Archive("bad.zip", "0" * 32, "training", 1))
    assert "/bad.zip: the file received has md5" in message
    assert tree(tmp_path) == {"noise.zip.partial"}
    mirror.pace_s = 0.0
    summary = fetch(tmp_path, mirror, noise)
    assert 0 < summary.fetched_bytes < len(mirror.files["noise.zip"])


def test_another_mirror_resumes_too(tmp_path: Path, mirror: Mirror, noise: Archive) -> None:
    mirror.drops = [100_000] * (RETRIES + 1)
    refusal(tmp_path, mirror, noise)
    mirror.requests.clear()
    download(tmp_path, [noise], base_url=f"{mirror.url}/elsewhere")
    assert mirror.asked("Range") == [f"bytes={100_000 * (RETRIES + 1)}-"]


# Wrong content


def test_content_that_changed_meanwhile_is_not_mixed(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    right = mirror.files["noise.zip"]
    mirror.files["noise.zip"] = bytes(len(right))
    mirror.drops = [100_000] * (RETRIES + 1)
    refusal(tmp_path, mirror, noise)
    mirror.files["noise.zip"] = right
    assert "was deleted" in refusal(tmp_path, mirror, noise)
    assert tree(tmp_path) == set()
    assert fetch(tmp_path, mirror, noise).extracted_files == 1
    assert (tmp_path / "noise" / "cel" / "a.wav").read_bytes() == NOISE


def test_a_web_page_in_place_of_the_archive_costs_nothing_that_was_received(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    mirror.drops = [100_000] * (RETRIES + 1)
    refusal(tmp_path, mirror, noise)
    have = (tmp_path / "noise.zip.partial").stat().st_size
    mirror.page = b"<html>please log in"
    assert "a web page answers instead of the archive" in refusal(tmp_path, mirror, noise)
    assert (tmp_path / "noise.zip.partial").stat().st_size == have
    mirror.page = None
    mirror.requests.clear()
    fetch(tmp_path, mirror, noise)
    assert mirror.asked("Range") == [f"bytes={have}-"]


def test_wrong_checksum_is_reported_and_the_file_deleted(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    right = mirror.files["noise.zip"]
    mirror.files["noise.zip"] = b"\0" + right[1:]
    wrong = hashlib.md5(mirror.files["noise.zip"]).hexdigest()
    message = refusal(tmp_path, mirror, noise)
    assert f"has md5 {wrong}, not {noise.md5}, and was deleted; run" in message
    assert tree(tmp_path) == set()
    mirror.files["noise.zip"] = right
    assert fetch(tmp_path, mirror, noise).extracted_files == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_of_unknown_size_that_was_cut_is_resumed(
    tmp_path: Path, mirror: Mirror, noise: Archive, ranges: bool
) -> None:
    mirror.tells_length, mirror.ranges = False, ranges
    mirror.drops = [700_000, 800_000]
    assert fetch(tmp_path, mirror, noise).extracted_files == 1
    again = ["bytes=700000-", "bytes=1500000-" if ranges else "bytes=800000-"]
    assert mirror.asked("Range") == [None, *again]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_wrong_file_of_unknown_size_is_asked_for_once_more(
    tmp_path: Path, mirror: Mirror, noise: Archive, ranges: bool
) -> None:
    mirror.tells_length, mirror.ranges = False, ranges
    content = mirror.files["noise.zip"] = mirror.files["noise.zip"][:-1]
    assert "and was deleted; run" in refusal(tmp_path, mirror, noise)
    assert mirror.asked("Range") == [None, f"bytes={len(content)}-"]
    assert tree(tmp_path) == set()


# Servers that refuse


def test_missing_archive_is_requested_once_and_others_are_not_begun(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    message = refusal(tmp_path, mirror, noise, Archive("gone.zip", "0" * 32, "training", 1))
    assert f"{mirror.url}/gone.zip: the server answered 404 Not Found" in message
    assert "--base-url" in message
    assert len(mirror.requests) == 2
    assert "noise.zip" not in tree(tmp_path)


def test_request_to_a_busy_server_is_repeated(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    mirror.refusals = [503, 429]
    fetch(tmp_path, mirror, noise)
    assert len(mirror.requests) == 3


def test_wait_that_the_server_asks_for_is_limited(
    tmp_path: Path, mirror: Mirror, noise: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irmas_dist.corpus.download.PATIENCE_S", 1)
    mirror.refusals = [429]
    mirror.retry_after = "3600"
    started = time.monotonic()
    fetch(tmp_path, mirror, noise)
    assert 1.0 <= time.monotonic() - started < 10.0


def test_server_that_stays_busy_is_given_up(tmp_path: Path, mirror: Mirror, noise: Archive) -> None:
    mirror.refusals = [503] * (RETRIES + 1)
    message = refusal(tmp_path, mirror, noise)
    assert f"the server answered 503 Service Unavailable, also after {RETRIES} retries" in message
    assert len(mirror.requests) == RETRIES + 1
    assert fetch(tmp_path, mirror, noise).extracted_files == 1


def test_no_server(tmp_path: Path, mirror: Mirror, noise: Archive) -> None:
    with pytest.raises(IrmasError, match=r"^http://127\.0\.0\.1:1/noise\.zip: Connection refused;"):
        download(tmp_path, [noise], base_url="http://127.0.0.1:1")
    with pytest.raises(IrmasError, match="No connection adapters were found"):
        download(tmp_path, [noise], base_url="ftp://127.0.0.1")


# Disks that are full, and other things in the way


@pytest.mark.parametrize("name", ["noise.zip", "noise.zip.partial"])
def test_a_folder_in_place_of_an_archive_is_named(
    tmp_path: Path, mirror: Mirror, noise: Archive, name: str
) -> None:
    (tmp_path / name).mkdir()
    message = refusal(tmp_path, mirror, noise)
    assert message.startswith(f"{tmp_path / name}: Is a directory; fix it")


def test_a_file_in_place_of_the_folder_is_named(
    tmp_path: Path, mirror: Mirror, noise: Archive
) -> None:
    (tmp_path / "noise").touch()
    message = refusal(tmp_path, mirror, noise)
    assert message.startswith(f"{tmp_path / 'noise'}: File exists; fix it")
    assert tree(tmp_path) == {"noise", "noise.zip"}


def test_space_is_checked_before_anything_is_written(
    small_disk: Path, mirror: Mirror, noise: Archive
) -> None:
    message = refusal(small_disk, mirror, noise)
    assert f"{small_disk}: 4.2 MB are needed to download and extract, 1.0 MB are free" in message
    assert tree(small_disk) == set()
    grow(small_disk)
    assert fetch(small_disk, mirror, noise).extracted_files == 1


def test_full_disk_keeps_the_received_bytes(
    small_disk: Path, mirror: Mirror, noise: Archive
) -> None:
    mirror.tells_length = False
    message = refusal(small_disk, mirror, noise)
    assert message.startswith(f"{small_disk / 'noise.zip.partial'}: No space left on device;")
    have = (small_disk / "noise.zip.partial").stat().st_size
    assert have > 500_000
    grow(small_disk)
    mirror.requests.clear()
    fetch(small_disk, mirror, noise)
    assert mirror.asked("Range") == [f"bytes={have}-"]
    assert (small_disk / "noise" / "cel" / "a.wav").read_bytes() == NOISE
