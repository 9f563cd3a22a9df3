"""Reading trees in IRMAS's shape, IRMAS's own and anybody else's.

A tree of one's own needs no more than one of two shapes, or both side by side:

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
(``name__k``, or IRMAS's ``[code][genre]id__k``), excerpts of one song (``name-k``) and files
that are byte for byte the same share a group, which no split tears apart. The folder decides
over a label file, and no code is looked for anywhere but in its place.

Every file that could be audio, and every label file without audio, has a row; a row that
cannot be used says why in its ``problem``. Sample rate, channels and width may be anything.
"""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.audio_files import TreeFile, as_text, find_sources
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.headers import Measure, measure
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, read_labels, recording_of, song_of
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.terminal import progress

RAY_FROM_FILES = 50_000
"""Trees of at least this many files are read with Ray even when no cluster is named. A file of
IRMAS's size keeps a core busy for 1.3 ms, 0.4 ms of which the threads of one process cannot
share: they read 2,500 a second at most. Ray takes about 6 s to start, and on 4 cores has won
them back at about this number."""

STORE_READERS = 32
"""Files of an object store that are read at once."""

BATCH_FILES = 64
"""Files of one Ray task: about a tenth of a second of work at IRMAS's sizes."""


def index_tree(
    tree: str | Path, vocabulary: Vocabulary = IRMAS, address: str | None = None
) -> list[dict[str, Any]]:
    """Read every audio file under ``tree`` into rows of a manifest.

    Links to files and folders are followed; what is hidden is left out. Small trees are read
    by threads of this process, and trees of `RAY_FROM_FILES` files or more with Ray; the rows
    are the same.

    Args:
        tree: An IRMAS tree, whole or in part, or one in its shape; a path or URL.
        vocabulary: The instruments that folders and labels may name.
        address: The Ray cluster to read with, whatever the number of files; its nodes must
            have the tree at the same path. None reads on this machine.

    Returns:
        Rows by the columns of `manifest.SCHEMA`, every ``clip_id`` once.

    Raises:
        IrmasError: There is no such directory, no audio file in it, a folder that may not be
            read, or the cluster cannot be reached or cannot see the tree.
    """
    sources = find_sources(tree)
    with progress("index", len(sources), "files") as advance:
        if address or len(sources) >= RAY_FROM_FILES:
            rows = _read_with_ray(sources, tree, vocabulary, address, advance)
        else:
            rows = _read_with_threads(sources, vocabulary, storage.is_url(tree), advance)
    _tell_apart(rows)
    join_identical(rows)
    return rows


def describe(
    clip_id: str, folder: str, labels: str | bytes | None, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Return what a clip's place, name and labels say, with no file being opened.

    Args:
        clip_id: Path in the tree without suffix, Unicode NFC.
        folder: Name of the folder that it lies in.
        labels: What is in its label file; none when it has none.
        vocabulary: The instruments that folders and labels may name.

    Returns:
        The columns ``clip_id``, ``part``, ``instruments``, ``group`` and ``problem``.
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
            problem = "no label file beside it, and its folder is no instrument's"
        elif unknown:
            problem = f"unknown instrument in its label file: {unknown[0]!r}"
        elif not codes:
            problem = "its label file is empty"
    return {
        "clip_id": clip_id,
        "part": part,
        "instruments": codes,
        "group": group,
        "problem": problem,
    }


def _row(source: TreeFile, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """Return the row of a file; none for a text file without audio that names no instrument."""
    unreadable = labels = None
    if source.labels:
        try:
            with storage.open_file(source.labels) as file:
                labels = file.read()
        except OSError as error:
            unreadable = f"its label file cannot be read: {error.strerror or error}"
    row = describe(source.clip_id, source.folder, labels, vocabulary)
    facts = asdict(measure(source.path) if source.path else Measure())
    problem = unreadable or row["problem"] or facts["problem"]
    if source.path is None and not unreadable:
        if not any(code in vocabulary for code in read_labels(labels or b"")):
            return None  # a README, say
        problem = "label file without audio"
    place = str(source.path or source.labels)
    path = as_text(place)
    if path != place:
        problem = "its name is not UTF-8"
    return row | facts | {"path": path, "problem": problem}


def _read_with_threads(
    sources: list[TreeFile], vocabulary: Vocabulary, stored: bool, advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    rows = []
    # An object store takes its time for each answer, and has many at once.
    with ThreadPoolExecutor(STORE_READERS if stored else None) as pool:
        for row in pool.map(lambda source: _row(source, vocabulary), sources):
            rows.append(row)
            advance(1)
    return [row for row in rows if row]


def _read_with_ray(
    sources: list[TreeFile],
    tree: str | Path,
    vocabulary: Vocabulary,
    address: str | None,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    # Here, because it takes a second, and most trees are read without.
    import ray

    from irmas_dist.cluster.resources import cpu_count
    from irmas_dist.cluster.runtime import ray_running

    root = storage.absolute(tree)
    batches = [sources[at : at + BATCH_FILES] for at in range(0, len(sources), BATCH_FILES)]
    with ray_running(address):
        read = ray.remote(_read_batch).options(scheduling_strategy="SPREAD")
        at_once = max(8, 4 * cpu_count())
        running: dict[Any, int] = {}
        read_rows: dict[int, list[dict[str, Any]]] = {}
        pending = iter(enumerate(batches))
        while len(read_rows) < len(batches):
            for number, batch in islice(pending, at_once - len(running)):
                running[read.remote(batch, root, vocabulary)] = number
            done, _ = ray.wait(list(running))
            for task in done:
                rows = ray.get(task)
                if rows is None:
                    raise IrmasError(
                        f"a node of the cluster does not see {root}; "
                        "put the tree on storage that all nodes share, or index it without Ray"
                    )
                number = running.pop(task)
                read_rows[number] = rows
                advance(len(batches[number]))
    return [row for number in range(len(batches)) for row in read_rows[number]]


def _read_batch(
    sources: list[TreeFile], tree: str, vocabulary: Vocabulary
) -> list[dict[str, Any]] | None:
    """Return the rows of some files; none when this node does not have the tree."""
    if not storage.is_url(tree) and not Path(tree).is_dir():
        return None
    rows = (_row(source, vocabulary) for source in sources)
    return [row for row in rows if row]


def _tell_apart(rows: list[dict[str, Any]]) -> None:
    """Leave a ``clip_id`` to one of those that have it, and report the others.

    A usable row goes first, then the order of paths decides.
    """
    named: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        named[row["clip_id"]].append(row)
    for clip_id, namesakes in list(named.items()):
        namesakes.sort(key=lambda row: (row["problem"] is not None, row["path"]))
        for number, row in enumerate(namesakes[1:], start=2):
            while (other := f"{clip_id} ({number})") in named:
                number += 1
            named[other] = [row]
            row["clip_id"] = other
            row["problem"] = row["problem"] or (
                f"another file has the same name: {namesakes[0]['path']}; rename one"
            )
