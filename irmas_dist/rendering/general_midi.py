"""The instruments of General MIDI soundfonts: programs, ranges and ways of playing."""

from dataclasses import dataclass
from typing import Literal

from irmas_dist.errors import IrmasError

Texture = Literal["melody", "chords", "arpeggio"]


@dataclass(frozen=True)
class Playable:
    """How an instrument is played on a General MIDI synthesizer."""

    ranges: dict[int, tuple[int, int]]  # lowest and highest MIDI note by program (0 to 127)
    textures: tuple[Texture, ...] = ("melody",)  # what it can play
    vibrato_cents: float = 0.0  # widest vibrato to either side
    release_s: float = 0.15  # longest time in which a released note dies away
    kit: tuple[int, ...] = ()  # MIDI notes of the drums; programs are drum kits then


DRUM_KITS = (0, 8, 16, 24, 25, 32, 40)
"""Drum kits: programs of General MIDI's drum channel."""

KICK, SNARE, CLOSED_HAT, OPEN_HAT, RIDE = 36, 38, 42, 46, 51
"""MIDI notes of drums."""

DRUMS, CYMBALS = (KICK, SNARE), (CLOSED_HAT, OPEN_HAT, RIDE)
"""The parts of a drum kit."""

PLAYABLE: dict[str, Playable] = {
    "cel": Playable({42: (36, 76)}, vibrato_cents=25, release_s=0.25),
    "cla": Playable({71: (50, 89)}, vibrato_cents=6),
    "flu": Playable({72: (74, 98), 73: (60, 93), 75: (60, 88)}, vibrato_cents=20),
    "gac": Playable({24: (40, 79), 25: (40, 79)}, ("melody", "chords", "arpeggio"), release_s=0.3),
    "gel": Playable(
        {26: (40, 79), 27: (40, 84), 28: (40, 72), 29: (40, 84), 30: (40, 84), 31: (40, 76)},
        ("melody", "chords", "arpeggio"),
        vibrato_cents=15,
    ),
    "org": Playable(
        {16: (36, 91), 17: (36, 91), 18: (36, 91), 19: (36, 89), 20: (41, 89)},
        ("melody", "chords", "chords"),
    ),
    "pia": Playable(
        dict.fromkeys((0, 1, 2, 3), (28, 98)), ("melody", "chords", "arpeggio"), release_s=0.4
    ),
    "sax": Playable({64: (56, 85), 65: (49, 80), 66: (44, 75), 67: (37, 68)}, vibrato_cents=20),
    "tru": Playable({56: (54, 84), 59: (54, 82)}, vibrato_cents=15),
    "vio": Playable({40: (55, 93), 110: (55, 86)}, vibrato_cents=25, release_s=0.25),
    "voi": Playable(
        dict.fromkeys((52, 53, 54, 85, 91), (46, 79)),
        ("melody", "melody", "chords"),
        vibrato_cents=30,
        release_s=0.25,
    ),
    # Not in IRMAS: for backing, and for vocabularies that name them.
    "bas": Playable(dict.fromkeys((32, 33, 34, 35, 36, 38), (28, 48))),
    "har": Playable({46: (40, 88)}, ("melody", "arpeggio"), release_s=0.6),
    "hor": Playable({60: (43, 72)}),
    "vib": Playable({11: (53, 86)}, ("melody", "arpeggio"), release_s=0.6),
}
"""The instruments that can be rendered, by code."""

# Those of OpenMIC-2018. General MIDI has no mandolin and no ukulele: a shamisen and a hammered
# dulcimer stand in for the one, a koto and plucked violins for the other, in their registers.
_STRUMMED: tuple[Texture, ...] = ("melody", "chords", "arpeggio")
PLAYABLE |= {
    "accordion": Playable(dict.fromkeys((21, 23), (53, 89)), ("melody", "melody", "chords")),
    "banjo": Playable({105: (48, 81)}, ("melody", "arpeggio", "chords"), release_s=0.2),
    "bass": PLAYABLE["bas"],
    "cello": PLAYABLE["cel"],
    "clarinet": PLAYABLE["cla"],
    "cymbals": Playable(dict.fromkeys(DRUM_KITS, (KICK, RIDE)), release_s=0.1, kit=CYMBALS),
    "drums": Playable(dict.fromkeys(DRUM_KITS, (KICK, RIDE)), release_s=0.1, kit=DRUMS),
    "flute": PLAYABLE["flu"],
    "guitar": Playable(
        PLAYABLE["gac"].ranges | PLAYABLE["gel"].ranges, _STRUMMED, vibrato_cents=15, release_s=0.3
    ),
    "mallet_percussion": Playable(
        {9: (79, 103), 11: (53, 86), 12: (48, 91), 13: (65, 96)},
        ("melody", "arpeggio"),
        release_s=0.5,
    ),
    "mandolin": Playable(dict.fromkeys((15, 106), (55, 88)), _STRUMMED, release_s=0.2),
    "organ": PLAYABLE["org"],
    "piano": PLAYABLE["pia"],
    "saxophone": PLAYABLE["sax"],
    "synthesizer": Playable(
        dict.fromkeys((80, 81, 87, 88, 89, 90, 93, 95), (36, 91)), ("melody", "chords")
    ),
    "trombone": Playable({57: (40, 72)}, vibrato_cents=15),
    "trumpet": PLAYABLE["tru"],
    "ukulele": Playable(dict.fromkeys((45, 107), (60, 81)), _STRUMMED, release_s=0.2),
    "violin": PLAYABLE["vio"],
    "voice": PLAYABLE["voi"],
}

BACKING = ("bas", "har", "hor", "vib")
"""Instruments outside IRMAS that may play along without a label."""


def playable(code: str) -> Playable:
    """Return how the instrument ``code`` is played.

    Raises:
        IrmasError: No General MIDI program is known for it.
    """
    if code not in PLAYABLE:
        raise IrmasError(
            f"cannot render {code!r}: no General MIDI programs are known for it, "
            f"only for {', '.join(PLAYABLE)}"
        )
    return PLAYABLE[code]
