"""Plans of training examples: everything random about an epoch, drawn ahead on the host.

A plan covers the whole epoch, whatever the number of workers, as plain arrays that devices carry
out. The examples are therefore the same on any number of workers, and after a resume.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from irmas_dist.config.augment import NOISE_LIMIT_DB, AugmentSettings, MixSettings
from irmas_dist.features.clips import Clips
from irmas_dist.instruments import PRESENT

DECIBEL = float(np.log(10) / 10)
"""One decibel of power as a natural logarithm."""

NOISE_COLOUR_DB = 10.0
"""Standard deviation over the bands of the spectrum of added noise."""

REDRAWS = 4
"""How often a further source is drawn again when the example has its instrument already."""

PER_EXAMPLE = ("noise", "colours", "band_masks", "frame_masks")
"""Fields of `Mixtures` with a row for each example; the others have one for each source."""

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixtures:
    """Plan of examples: which windows are added, and how each is changed.

    Attributes:
        first: Index of each example's first source, and the total at the end: (examples + 1,).
        clips: Index of the clip of each source, shape (sources,).
        offsets: First frame of each source's window within its clip, shape (sources,).
        levels: Level of each source, natural logarithm of power, shape (sources,).
        curves: Amplitudes of the cosines that equalise each source, natural logarithm of power,
            shape (sources, order).
        pitches: Frequency ratio of each source to its clip, shape (sources,).
        tempi: Tempo ratio of each source to its clip, shape (sources,).
        noise: Power ratio of the noise to each example, 0 for none, shape (examples,).
        colours: As ``curves``, of each example's noise, shape (examples, order).
        band_masks: First and past-the-last band of each mask, shape (examples, masks, 2).
        frame_masks: First and past-the-last frame of each mask, shape (examples, masks, 2).
    """

    first: Int64
    clips: Int64
    offsets: Int64
    levels: Float32
    curves: Float32
    pitches: Float32
    tempi: Float32
    noise: Float32
    colours: Float32
    band_masks: Int64
    frame_masks: Int64

    def __len__(self) -> int:
        return len(self.first) - 1

    def part(self, low: int, high: int) -> "Mixtures":
        """Return examples ``low`` up to but not including ``high``."""
        first = self.first[low : high + 1]
        sources, examples = slice(first[0], first[-1]), slice(low, high)
        values = {
            field.name: getattr(self, field.name)[
                examples if field.name in PER_EXAMPLE else sources
            ]
            for field in fields(self)
        }
        return Mixtures(**values | {"first": first - first[0]})


SMALL = 0.25
"""Share of a pool's clips of the first store up to which a further store is small beside it."""


@dataclass(frozen=True)
class StoreWeights:
    """How often the clips of several stores are drawn, which lie one store after the other.

    For every example that begins with a clip of the first store, a store has as many that begin
    with one of its clips as its weight; the other sources of a mixture come from the stores in
    the same proportion. An epoch is one pass over the first store.

    Attributes:
        counts: Clips of each store, at least one.
        weights: Of each store; that of the first is 1.
        before: Clips of the first store in earlier parts of an epoch, see `divided`.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...]
    before: int = 0

    @classmethod
    def of_one(cls, clips: int) -> "StoreWeights":
        """Return those of a single store."""
        return cls((clips,), (1.0,))

    @property
    def of_clips(self) -> npt.NDArray[np.float64]:
        """How often each clip begins an example, relative to one of the first store."""
        often = [self.counts[0] * w / n for n, w in zip(self.counts, self.weights, strict=True)]
        return np.repeat(np.array(often), self.counts)

    def divided(self, pools: int) -> list["StoreWeights"]:
        """Return those of ``pools`` parts, or fewer, so that each has clips of each store.

        The clips of a store are shared out equally. All those of a small further store are in each
        part, in which few of them would begin many examples: where it has fewer clips than there
        are parts, or at most `SMALL` of what a part has of the first.
        """
        pools = min(pools, self.counts[0])
        cuts = [
            [count] * pools
            if count < pools or (store and count <= SMALL * self.counts[0] / pools)
            else np.diff(np.arange(pools + 1) * count // pools).tolist()
            for store, count in enumerate(self.counts)
        ]
        before = np.cumsum(cuts[0]) - cuts[0]
        return [
            StoreWeights(tuple(counts), self.weights, first)
            for first, *counts in zip(before.tolist(), *cuts, strict=True)
        ]

    def examples(self, windows_per_clip: int) -> list[int]:
        """Return how many examples begin with a clip of each store.

        Summed over all parts, these are the counts of the undivided epoch.
        """
        first = self.before * windows_per_clip
        past = first + self.counts[0] * windows_per_clip
        return [round(past * weight) - round(first * weight) for weight in self.weights]

    def lead(self, windows_per_clip: int, rng: np.random.Generator) -> Int64:
        """Draw the first source of each example of an epoch.

        Every clip of the first store is one as often; those of another are so to within one.
        """
        wanted = self.examples(windows_per_clip)
        firsts = np.cumsum(self.counts) - self.counts
        leads = [np.tile(np.arange(self.counts[0]), windows_per_clip)]
        for first, count, examples in zip(firsts[1:], self.counts[1:], wanted[1:], strict=True):
            leads.append(first + np.resize(rng.permutation(count), examples))
        return rng.permutation(np.concatenate(leads))

    def draw(self, size: int, rng: np.random.Generator) -> Int64:
        """Draw clips: the store by its weight, and one of its clips."""
        if len(self.counts) == 1:
            return rng.integers(self.counts[0], size=size)
        shares = np.array(self.weights) / sum(self.weights)
        store = rng.choice(len(shares), size=size, p=shares)
        counts: Int64 = np.array(self.counts, np.int64)
        firsts: Int64 = np.cumsum(counts) - counts
        return firsts[store] + rng.integers(counts[store])


def plan_epoch(
    clips: Clips,
    bands: int,
    frames: int,
    windows_per_clip: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
    stores: StoreWeights | None = None,
) -> Mixtures:
    """Draw the training examples of one epoch, in random order.

    Every clip of a single store is the first source of ``windows_per_clip`` examples; of several,
    `StoreWeights` says how many. Further sources are clips of other instruments than the example's
    so far, if a few draws find any. They are added while that brings their instruments nearer to as
    many as were drawn for the example, and every second time where it neither does nor takes them
    further, so that the number of labels follows the settings where clips have several; a clip of
    which none is known counts as one.

    Args:
        clips: What to draw from; only labels and lengths are used.
        bands: Mel bands of an example.
        frames: Length of an example.
        windows_per_clip: Examples of which each clip of the first store is the first source.
        settings: Random changes.
        rng: Source of all randomness.
        stores: Of the clips; None for a single store.
    """
    stores = stores or StoreWeights.of_one(len(clips))
    lead = stores.lead(windows_per_clip, rng)
    return plan_mixtures(clips, lead, bands, frames, settings, rng, stores)


def plan_mixtures(
    clips: Clips,
    lead: Int64,
    bands: int,
    frames: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
    stores: StoreWeights | None = None,
) -> Mixtures:
    """Draw one example for each of the clips ``lead``; the arguments are `plan_epoch`'s."""
    examples = len(lead)
    stores = stores or StoreWeights.of_one(len(clips))
    most = len(settings.mix.counts)
    weights = np.asarray(settings.mix.counts) / sum(settings.mix.counts)
    count = rng.choice(most, size=examples, p=weights) + 1
    sources = np.empty((examples, most), np.int64)
    sources[:, 0] = lead
    plays = clips.labels >= PRESENT
    instruments = np.maximum(plays.sum(axis=1), 1)
    labels, total = plays[lead], instruments[lead]
    used = np.ones((examples, most), np.bool_)
    # They are in random order. Pairs, as every second of all mixtures for validation is equalised.
    every_second = np.arange(examples) // 2 % 2 == 0
    for position in range(1, most):
        drawn = stores.draw(examples, rng)
        for _ in range(REDRAWS):
            again = np.flatnonzero((plays[drawn] & labels).any(axis=1))
            drawn[again] = stores.draw(len(again), rng)
        sources[:, position] = drawn
        missing = count - total
        beyond = instruments[drawn] - missing
        used[:, position] = (missing > beyond) | ((missing == beyond) & every_second)
        labels |= plays[drawn] & used[:, position, None]
        total = total + instruments[drawn] * used[:, position]
    flat = sources[used]
    level = rng.uniform(-settings.mix.level_db, 0.0, size=(examples, most))
    level[:, 0] *= most > 1  # with mixing off, only gain_db changes levels
    level += rng.uniform(-settings.gain_db, settings.gain_db, size=(examples, 1))
    tempi = rng.uniform(1 - settings.tempo, 1 + settings.tempo, size=len(flat))
    octaves = rng.uniform(-settings.pitch_semitones, settings.pitch_semitones, len(flat)) / 12
    span = np.ceil((frames - 1) * tempi).astype(np.int64) + 1
    last_offset = np.maximum(clips.lengths[flat] - span, 0)
    ratio = rng.uniform(settings.noise_snr_db, NOISE_LIMIT_DB, size=examples)
    order = settings.equalise_order
    return Mixtures(
        first=np.concatenate([[0], np.cumsum(used.sum(axis=1))]),
        clips=flat,
        offsets=(rng.random(len(flat)) * (last_offset + 1)).astype(np.int64),
        levels=(level[used] * DECIBEL).astype(np.float32),
        curves=_cosines(len(flat), order, settings.equalise_db, rng),
        pitches=np.exp2(octaves).astype(np.float32),
        tempi=tempi.astype(np.float32),
        noise=(np.exp(-ratio * DECIBEL) * (settings.noise_snr_db > 0)).astype(np.float32),
        colours=_cosines(examples, order, NOISE_COLOUR_DB, rng),
        band_masks=_spans(examples, settings.frequency_masks, bands, settings.frequency_mask, rng),
        frame_masks=_spans(examples, settings.time_masks, frames, settings.time_mask, rng),
    )


def _cosines(count: int, order: int, deviation_db: float, rng: np.random.Generator) -> Float32:
    """Draw amplitudes of cosines over the bands, decreasing with frequency, (count, order).

    The variance of the k-th is proportional to 1/k; the mean square of their sum, over bands and
    draws, is the square of ``deviation_db``.
    """
    weights = 1 / np.arange(1, order + 1)
    deviation = deviation_db * DECIBEL * np.sqrt(2 * weights / weights.sum())
    return (rng.standard_normal((count, order)) * deviation).astype(np.float32)


def _spans(examples: int, masks: int, size: int, widest: int, rng: np.random.Generator) -> Int64:
    """Draw spans of up to ``widest`` within ``size``: first and past-the-last."""
    width = rng.integers(0, min(widest, size) + 1, size=(examples, masks))
    low = (rng.random((examples, masks)) * (size - width + 1)).astype(np.int64)
    return np.stack([low, low + width], axis=2)


def mixing_alone(
    mix: MixSettings, equalise_db: float = 0.0, pitch_semitones: float = 0.0
) -> AugmentSettings:
    """Return the settings that mix clips and change nothing else than what is given."""
    return AugmentSettings(
        mix=mix, gain_db=0.0, equalise_db=equalise_db, pitch_semitones=pitch_semitones
    )
