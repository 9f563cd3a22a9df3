"""Soundfonts: finding one, correcting its tuning for symusic, and loading it.

symusic 0.5.8 plays every sample at the pitch in its header and ignores the root key and tuning
that an instrument sets for it. Most soundfonts rely on these: a violin of TimGM6mb.sf2 would
sound one to three octaves too high. So a copy is made in which each use of a sample has a header
of its own with the full pitch.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.errors import IrmasError

SAMPLE_RATE = 44_100
"""Sample rate of IRMAS and of everything rendered, in Hz."""

# Generators of the SoundFont 2.04 specification, section 8.1.2.
COARSE_TUNE, FINE_TUNE, SAMPLE_ID, ROOT_KEY = 51, 52, 53, 58

INSTRUMENT = np.dtype([("name", "S20"), ("bag", "<u2")])
BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
GENERATOR = np.dtype([("kind", "<u2"), ("amount", "<i2")])
SAMPLE = np.dtype([
    ("name", "S20"), ("positions", "<u4", 4), ("rate", "<u4"),
    ("root", "u1"), ("cents", "i1"), ("link", "<u2"), ("type", "<u2"),
])  # fmt: skip


@contextmanager
def prepared_soundfonts(paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of copies of soundfonts that symusic plays in tune.

    Args:
        paths: General MIDI soundfonts; empty for the one that comes with pretty_midi.

    Raises:
        IrmasError: symusic or pretty_midi is not installed, or a soundfont is missing or
            unreadable.
    """
    with TemporaryDirectory(prefix="irmas-soundfonts-") as folder:
        copies = []
        for number, path in enumerate(paths or [default_soundfont()]):
            copy = Path(folder, str(number), path.name)
            copy.parent.mkdir()
            try:
                copy.write_bytes(_tuned(path.expanduser().read_bytes()))
                load_soundfont(str(copy))
            except FileNotFoundError as error:
                raise IrmasError(f"soundfont {path}: no such file") from error
            except OSError as error:
                raise IrmasError(f"soundfont {path}: {error.strerror}") from error
            except (ValueError, LookupError, struct.error, RuntimeError) as error:
                raise IrmasError(f"soundfont {path} is not a complete SoundFont 2 file") from error
            copies.append(str(copy))
        yield tuple(copies)


def default_soundfont() -> Path:
    """Return the path of the General MIDI soundfont that comes with pretty_midi.

    Raises:
        IrmasError: pretty_midi is not installed.
    """
    package = find_spec("pretty_midi")
    if package is None or package.origin is None:
        raise IrmasError(
            "no soundfont: name one, or install pretty_midi, which has one: "
            "pip install 'irmas-dist[demo]'"
        )
    return Path(package.origin).parent / "TimGM6mb.sf2"


@cache
def load_soundfont(path: str, program: int = 0, is_drum: bool = False) -> Any:
    """Return a symusic synthesizer that plays one program of a prepared soundfont.

    Each program has a synthesizer of its own, loaded once per process: in a shared one,
    programs with the same samples sound different depending on which is played first. It takes
    about 1 ms and 1 MB, because a soundfont is mapped into memory, not read.

    Raises:
        IrmasError: symusic is not installed.
    """
    try:
        import symusic
    except ImportError as error:
        raise IrmasError("rendering needs symusic: pip install 'irmas-dist[demo]'") from error
    return symusic.Synthesizer(path, SAMPLE_RATE)


def _tuned(soundfont: bytes) -> bytes:
    """Return a SoundFont 2 file in which sample headers alone define the tuning."""
    if soundfont[:4] != b"RIFF" or soundfont[8:12] != b"sfbk":
        raise ValueError("not a SoundFont 2 file")
    lists = dict(_chunks(soundfont[12:], named=True))
    chunks = dict(_chunks(lists[b"pdta"]))
    generators = np.frombuffer(chunks[b"igen"], GENERATOR).copy()
    samples = np.frombuffer(chunks[b"shdr"], SAMPLE)
    headers: list[Any] = []
    for first, end, defaults in _zones(chunks, generators):
        zone = generators[first:end]
        settings = defaults | _settings(zone)
        header = samples[settings[SAMPLE_ID]].copy()
        root = settings.get(ROOT_KEY, -1)
        # The pitch of the sample as recorded, in cents above MIDI note 0.
        pitch = 100 * (root if root >= 0 else int(header["root"])) - int(header["cents"])
        pitch -= 100 * settings.get(COARSE_TUNE, 0) + settings.get(FINE_TUNE, 0)
        header["root"], header["cents"] = min(max(-(-pitch // 100), 0), 127), -pitch % 100
        zone["amount"][zone["kind"] == SAMPLE_ID] = len(samples) - 1 + len(headers)
        headers.append(header)
    generators["amount"][np.isin(generators["kind"], (COARSE_TUNE, FINE_TUNE))] = 0
    generators["amount"][generators["kind"] == ROOT_KEY] = -1  # the header's
    chunks[b"igen"] = generators.tobytes()
    chunks[b"shdr"] = b"".join(
        header.tobytes() for header in [*samples[:-1], *headers, samples[-1]]
    )
    lists[b"pdta"] = b"".join(_chunk(name, data) for name, data in chunks.items())
    return _chunk(
        b"RIFF", b"sfbk" + b"".join(_chunk(b"LIST", name + data) for name, data in lists.items())
    )


def _zones(
    chunks: dict[bytes, bytes], generators: npt.NDArray[Any]
) -> Iterator[tuple[int, int, dict[int, int]]]:
    """Yield first and end generator of each zone with a sample, and the zone's defaults."""
    bags = np.frombuffer(chunks[b"ibag"], BAG)["generator"].tolist()
    instruments = np.frombuffer(chunks[b"inst"], INSTRUMENT)["bag"].tolist()
    for first, end in pairwise(instruments):
        defaults: dict[int, int] = {}
        for zone in range(first, end):
            settings = _settings(generators[bags[zone] : bags[zone + 1]])
            if SAMPLE_ID in settings:
                yield bags[zone], bags[zone + 1], defaults
            elif zone == first:
                defaults = settings


def _settings(zone: npt.NDArray[Any]) -> dict[int, int]:
    return dict(zip(zone["kind"].tolist(), zone["amount"].tolist(), strict=True))


def _chunks(data: bytes, named: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of RIFF chunks; of lists, the names inside them."""
    position = 0
    while position < len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + size]
        yield (content[:4], content[4:]) if named else (name, content)
        position += 8 + size + size % 2


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)
