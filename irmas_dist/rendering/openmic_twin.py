"""A twin of OpenMIC-2018: as many clips and labels of each part and instrument as it has.

Its folders, tables and names are exact, and so are the numbers of clips, of present and of absent
labels. The keys of its clips, how many clips an artist has (1 to 5), how many instruments play in a
clip (1 to 5) and how sure listeners were are drawn, since no file of the data set says so here.

Any fraction has nearly the same share of each label: they are dealt to the clips in an order in
which each kind of label, such as "no banjo", comes at equal distances.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irmas_dist import storage
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.corpus.openmic import (
    CLIP_S,
    CLIPS,
    FOLDER,
    KNOWN,
    LABELS,
    METADATA,
    OPENMIC,
    PARTITIONS,
    clip_path,
)
from irmas_dist.rendering.performance import GROOVES
from irmas_dist.rendering.recordings import Clip, Recording, generator

RECORDINGS = 155_000
"""About how many recordings the numbers of the Free Music Archive go up to."""

START_STEP_MS = 3_840
"""Clips begin at a multiple of this in their recording."""

INSTRUMENTS = {1: 3, 2: 5, 3: 6, 4: 4, 5: 2}
"""Relative number of clips in which so many instruments play."""

SURE = {1.0: 12, 0.66: 5, 0.34: 3}
"""Relative number of labels on which listeners agreed so far."""


@dataclass(frozen=True)
class OpenMicClip:
    """A clip of the twin.

    Attributes:
        key: Its sample key.
        part: Its partition.
        artist: Number of its artist.
        known: Whether an instrument plays, by code, as far as the labels say.
        plays: Codes of all that play in it, labelled or not.
    """

    key: str
    part: str
    artist: int
    known: dict[str, bool]
    plays: tuple[str, ...]


def openmic_clips(fraction: float = 1.0, seed: int = 0) -> list[OpenMicClip]:
    """Return the clips of a twin.

    Args:
        fraction: Share of the clips of each part, from 0 to 1; at least so many that each
            instrument is present in one and absent from another. Any larger fraction has the
            same clips and more.
        seed: Seed of every choice.
    """
    rng = generator(seed, "keys")
    tracks = iter(rng.choice(RECORDINGS, size=sum(CLIPS.values()), replace=False).tolist())
    clips = []
    artist = 0
    for part, number in CLIPS.items():
        rng = generator(seed, part)
        known_by_clip = _deal(part, number, rng)
        taken = max(round(fraction * number), _covering(known_by_clip))
        left = 0  # clips of the present artist
        for known in known_by_clip[:taken]:
            if left == 0:
                artist, left = artist + 1, int(rng.integers(1, 6))
            left -= 1
            start = START_STEP_MS * int(rng.exponential(30))
            key = f"{next(tracks):06d}_{start}"
            clips.append(OpenMicClip(key, part, artist, known, _plays(known, rng)))
        for _ in known_by_clip[taken:]:
            next(tracks)
        artist = 100_000  # those of the next part, whatever the fraction
    return clips


def _deal(part: str, clips: int, rng: np.random.Generator) -> list[dict[str, bool]]:
    """Deal all labels of a part to its clips: one to four each, none twice."""
    kinds = [
        ((code, present), count)
        for code, known in KNOWN.items()
        for present, count in ((True, known[part].present), (False, known[part].absent))
    ]
    places = np.concatenate([(np.arange(count) + 0.5) / count for _, count in kinds])
    labels = [kind for kind, count in kinds for _ in range(count)]
    labels = [labels[index] for index in np.lexsort((rng.random(len(places)), places))]
    # Two each, of every other pair of clips one and three, and the rest at equal distances.
    sizes = np.full(clips, 2)
    uneven = rng.random(clips // 2) < 0.5
    sizes[: clips // 2 * 2 : 2][uneven] -= 1
    sizes[1::2][uneven] += 1
    rest = len(labels) - int(sizes.sum())
    sizes[((np.arange(rest) + 0.5) * clips / rest).astype(int)] += 1
    owner = np.repeat(np.arange(clips), sizes).tolist()
    known: list[dict[str, bool]] = [{} for _ in range(clips)]
    waiting: list[tuple[int, tuple[str, bool]]] = []
    for clip, (code, present) in zip(owner, labels, strict=True):
        if code in known[clip]:
            waiting.append((clip, (code, present)))
        else:
            known[clip][code] = present
    for clip, (code, present) in waiting:
        _exchange(known, clip, code, present)
    return known


def _exchange(known: list[dict[str, bool]], clip: int, code: str, present: bool) -> None:
    """Give a clip a label that it can have, and the one that it cannot to the nearest such clip."""
    for distance in range(1, len(known)):
        for other in (clip - distance, clip + distance):
            if 0 <= other < len(known) and code not in known[other]:
                for theirs in known[other]:
                    if theirs not in known[clip]:
                        known[clip][theirs] = known[other].pop(theirs)
                        known[other][code] = present
                        return


def _covering(known: Sequence[dict[str, bool]]) -> int:
    """Return how many of the first clips have each instrument both present and absent."""
    missing = {(code, present) for code in KNOWN for present in (True, False)}
    for number, labels in enumerate(known):
        missing -= labels.items()
        if not missing:
            return number + 1
    return len(known)


def _plays(known: dict[str, bool], rng: np.random.Generator) -> tuple[str, ...]:
    """Return all that play: what is labelled as present, and others of which nobody says so."""
    plays = [code for code, present in known.items() if present]
    chances = np.array(list(INSTRUMENTS.values())) / sum(INSTRUMENTS.values())
    more = int(rng.choice(list(INSTRUMENTS), p=chances)) - len(plays)
    others = [code for code in KNOWN if code not in known]
    if more > 0:
        popularity = np.array([float(KNOWN[code][TESTING].present) for code in others])
        drawn = rng.choice(others, size=more, replace=False, p=popularity / popularity.sum())
        plays += drawn.tolist()
    return tuple(sorted(plays))


def openmic_recordings(clips: Sequence[OpenMicClip], seed: int) -> list[Recording]:
    """Return the recordings of a twin, one clip of each."""
    grooves = list(GROOVES)
    return [
        Recording(
            key=f"openmic/{clip.key}",
            clips=(Clip(f"{FOLDER}/{clip_path(clip.key)}", clip.plays, CLIP_S, passage=0),),
            drums=False,  # drums and cymbals are labels here
            genre=grooves[generator(seed, "groove", clip.key).integers(len(grooves))],
            label_files=False,
            testing=clip.part == TESTING,
        )
        for clip in clips
    ]


def write_tables(out: Path, clips: Sequence[OpenMicClip]) -> None:
    """Write the tables of a twin: labels, partitions, artists and the list of instruments."""
    by_key = sorted(clips, key=lambda clip: clip.key)
    labels: list[tuple[object, ...]] = [("sample_key", "instrument", "relevance", "num_responses")]
    artists: list[tuple[object, ...]] = [("track_id", "artist_id", "sample_key", "start_time")]
    for clip in by_key:
        track, start = clip.key.split("_")
        artists.append((int(track), clip.artist, clip.key, int(start) / 1000))
        rng = generator(0, "relevance", clip.key)
        chances = np.array(list(SURE.values())) / sum(SURE.values())
        for code, present in sorted(clip.known.items()):
            sure = float(rng.choice(list(SURE), p=chances)) - rng.uniform(0, 0.02)
            relevance = 0.5 + (sure if present else -sure) / 2
            labels.append((clip.key, code, f"{relevance:.5f}", 3))
    files = {
        LABELS: _csv(labels),
        METADATA: _csv(artists),
        "class-map.json": json.dumps({code: i for i, code in enumerate(OPENMIC.codes)}, indent=4),
    }
    for part, name in PARTITIONS.items():
        files[name] = "".join(f"{clip.key}\n" for clip in by_key if clip.part == part)
    for name, text in files.items():
        with storage.write_atomically(out / FOLDER / name) as stream:
            stream.write(text.encode())


def _csv(rows: Sequence[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
