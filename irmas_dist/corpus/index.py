"""Indexing trees in IRMAS's shape, IRMAS's own and any other.

A tree has one of two shapes, or both side by side:

* Training: a folder per instrument, named by its code, with the clips in it::

      my-tree/pia/anything.wav
      my-tree/vio/sonata__1.wav      clips 1 and 2 of one recording
      my-tree/vio/sonata__2.wav

* Testing: audio anywhere else, with a text file of the same name beside it that has one code
  a line::

      my-tree/concert/trio-1.wav     excerpts 1 and 2 of one song
      my-tree/concert/trio-1.txt
      my-tree/concert/trio-2.wav
      my-tree/concert/trio-2.txt

The codes are those of the recipe's ``corpus.instruments``. Clips of one recording
(``name__k``, or IRMAS's ``[code][genre]id__k``), excerpts of one song (``name-k``) and
byte-identical files share a group, which no split divides. The folder takes precedence over a
label file.

A third shape is OpenMIC-2018's, whose tables say what is known of each clip (`openmic_labels`).

Every file that could be audio, and everything labelled without audio, has a row; the ``problem``
of an unusable file is the reason. Any number of channels and sample width is fine.
"""

import stat
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.audio_files import TreeFile, find_files
from irmas_dist.corpus.facts import AudioFacts, read_facts
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, read_labels, recording_of, song_of
from irmas_dist.corpus.openmic_labels import find_openmic
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.terminal import progress

RAY_FROM_FILES = 50_000
"""Trees of at least this many files are read with Ray even when no cluster is named. A file of
IRMAS's size takes 1 to 2 ms of a core, a third of which hold Python's lock, so that one process
reads at most 2,500 a second. On 4 cores, the 6 s that Ray takes to start pay off from here."""

STORE_READERS = 32
"""Files of an object store that are read in parallel."""

LONGEST_LABELS = 1 << 16
"""Bytes of a text file that are read: label files have a few words."""

BATCH_FILES = 64
"""Files per Ray task: about a tenth of a second of work at IRMAS's sizes."""

Entry = tuple[TreeFile, dict[str, Any] | None]
"""A file of a tree, and what a table says of it, by the columns of `parse_clip`."""


def index_tree(
    tree: str | Path,
    vocabulary: Vocabulary = IRMAS,
    address: str | None = None,
    part: str | None = None,
) -> list[dict[str, Any]]:
    """Read every audio file under ``tree`` into rows of a manifest.

    Links are followed as by `find_files`; hidden files and folders are left out. Small trees are
    read by threads of this process, and trees of `RAY_FROM_FILES` files or more with Ray; the rows
    are the same.

    Args:
        tree: All or part of an IRMAS tree, or one in its shape, or OpenMIC-2018; a path or URL.
        vocabulary: The instruments that folders and labels may name.
        address: The Ray cluster to read with, whatever the number of files; its nodes must
            have the tree at the same path. None reads on this machine.
        part: That of clips with a label file; None: the testing part.

    Returns:
        Rows by the columns of `manifest.SCHEMA`, every ``clip_id`` once, and in ``note`` what is
        unusual of a usable file's audio (`mixdown`).

    Raises:
        IrmasError: The directory is missing, holds no audio file or has a folder that cannot be
            read, a table of OpenMIC-2018 is wrong, a part is given and no clip has a label file,
            or the cluster cannot be reached or cannot see the tree.
    """
    files = find_files(tree, vocabulary.codes)
    openmic = find_openmic(tree, vocabulary)
    entries: list[Entry] = [
        (file, openmic.of(file.clip_id) if openmic and file.path else None) for file in files
    ]
    labelled = set[str]()
    if part:
        labelled |= {
            file.clip_id
            for file, given in entries
            if file.path and file.labels and given is None and file.folder not in vocabulary
        }
        if not labelled:
            raise IrmasError(f"--part {part} is of clips with a label file: {tree} has none")
    with progress("index", len(files), "files") as advance:
        if address or len(files) >= RAY_FROM_FILES:
            read = _read_with_ray(entries, storage.absolute(tree), vocabulary, address)
        else:
            read = _read_with_threads(entries, vocabulary, storage.is_url(tree))
        rows = []
        for row in read:
            advance(1)
            if row:
                rows.append(row)
    for row in rows:
        if row["clip_id"] in labelled:
            row["part"] = part
    if openmic:
        rows += openmic.without_audio({file.clip_id for file in files if file.path})
    settle_identities(rows)
    return rows


def parse_clip(
    clip_id: str, folder: str, labels: str | bytes | None, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Return the part, instruments and group of a clip, from its path and labels alone.

    Args:
        clip_id: Path in the tree without suffix, Unicode NFC.
        folder: Name of the folder that holds it.
        labels: Content of its label file; None when it has none.
        vocabulary: The instruments that folders and labels may name.

    Returns:
        The columns ``clip_id``, ``part``, ``instruments``, ``unknown``, ``group`` and ``problem``.
    """
    stem = clip_id.rpartition("/")[2]
    problem = None
    if folder in vocabulary:
        part, codes = TRAINING, [folder]
        recording = recording_of(stem)
        group = f"recording {recording}" if recording else f"file {clip_id}"
        name = parse_training_name(stem)
        if name and name.instrument != folder:
            problem = f"name and folder disagree: {name.instrument} in the folder of {folder}"
    else:
        part, codes = TESTING, [] if labels is None else read_labels(labels)
        group = f"song {song_of(stem)}"
        unknown = [code for code in codes if code not in vocabulary]
        if labels is None:
            problem = "no label file beside it, and its folder names no instrument"
        elif unknown:
            problem = f"unknown instrument in its label file: {unknown[0]!r}"
        elif not codes:
            problem = "its label file is empty"
    row = {"clip_id": clip_id, "part": part, "instruments": codes, "unknown": []}
    return row | {"group": group, "problem": problem}


def _row(entry: Entry, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """Return the row of a file; None for a text file without audio that names no instrument."""
    file, given = entry
    unreadable = labels = None
    if file.labels:
        try:
            labels = _label_text(file.labels)
        except OSError as error:
            unreadable = f"its label file cannot be read: {error.strerror or error}"
    row = given or parse_clip(file.clip_id, file.folder, labels, vocabulary)
    facts = asdict(read_facts(file.path) if file.path else AudioFacts())
    problem = unreadable or row["problem"] or facts["problem"]
    if file.path is None and not unreadable:
        if not any(code in vocabulary for code in read_labels(labels or b"")):
            return None  # a README, for example
        problem = "label file without audio"
    location = str(file.path or file.labels)
    path = storage.as_text(location)
    if path != location:
        problem = "its name is not UTF-8"
    return row | facts | {"path": path, "problem": problem}


def _label_text(location: str) -> bytes:
    """Return the beginning of a label file: others than these are longer.

    Raises:
        OSError: It cannot be read, or is a pipe, which might never end, or a device.
    """
    if not storage.is_url(location) and not stat.S_ISREG(Path(location).stat().st_mode):
        raise OSError("not a file")
    with storage.open_file(location) as stream:
        content: bytes = stream.read(LONGEST_LABELS)
        return content


def _read_with_threads(
    entries: list[Entry], vocabulary: Vocabulary, stored: bool
) -> Iterator[dict[str, Any] | None]:
    # An object store answers slowly, and many requests in parallel.
    with ThreadPoolExecutor(STORE_READERS if stored else None) as pool:
        yield from pool.map(lambda entry: _row(entry, vocabulary), entries)


def _read_with_ray(
    entries: list[Entry], root: str, vocabulary: Vocabulary, address: str | None
) -> Iterator[dict[str, Any] | None]:
    # Imported here because it takes a second, and most trees are read without Ray.
    import ray

    from irmas_dist.cluster.resources import wait_for_core
    from irmas_dist.cluster.runtime import ray_running

    with ray_running(address):
        wait_for_core()
        read = ray.remote(_read_batch).options(scheduling_strategy="SPREAD")
        starts = range(0, len(entries), BATCH_FILES)
        for task in [
            read.remote(entries[at : at + BATCH_FILES], root, vocabulary) for at in starts
        ]:
            batch = ray.get(task)
            if batch is None:
                raise IrmasError(
                    f"a node of the cluster does not see {root}; "
                    "put the tree on storage that all nodes share, or index it without Ray"
                )
            yield from batch


def _read_batch(
    entries: list[Entry], root: str, vocabulary: Vocabulary
) -> list[dict[str, Any] | None] | None:
    """Return the rows of some files; None when this node does not have the tree."""
    if not storage.is_url(root) and not Path(root).is_dir():
        return None
    return [_row(entry, vocabulary) for entry in entries]


def settle_identities(rows: list[dict[str, Any]]) -> None:
    """Make every ``clip_id`` unique, and join the groups of identical files, in place."""
    _make_ids_unique(rows)
    join_identical(rows)


def _make_ids_unique(rows: list[dict[str, Any]]) -> None:
    """Number the rows that share a ``clip_id``, and make all but the first unusable.

    Usable rows come first, then the order of paths decides.
    """
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_id[row["clip_id"]].append(row)
    for clip_id, same_id in list(by_id.items()):
        same_id.sort(key=lambda row: (row["problem"] is not None, row["path"]))
        for number, row in enumerate(same_id[1:], start=2):
            while (other := f"{clip_id} ({number})") in by_id:
                number += 1
            by_id[other] = [row]
            row["clip_id"] = other
            row["problem"] = row["problem"] or (
                f"another file has the same name: {same_id[0]['path']}; rename one"
            )
