"""An epoch of steps as one array: packed on the host, sent to the device once, read row by row.

A row holds everything that a worker needs for one part of a step. All rows are as wide as the
epoch's largest needs: what remains is filled with sources that are added to an example which
nobody reads. The shapes of a step therefore depend on its `StepSize` alone, of which an epoch has
at most two, and a step can be captured as a CUDA graph.
"""

import itertools
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irmas_dist.training.sampling import PER_EXAMPLE, Mixtures

PER_SOURCE = {"clips": 0, "offsets": 0, "levels": 0, "curves": 0, "pitches": 1, "tempi": 1}
"""Fields with a row for each source, and what fills unused ones."""

CAPACITY_STEP = 16
"""Capacities are multiples of this number of sources, so that few epochs need a larger one."""


class Changes(NamedTuple):
    """Which changes occur in a plan; the others are not computed."""

    pitch: bool
    tempo: bool
    noise: bool
    band_masks: bool
    frame_masks: bool
    padding: bool
    """Windows that extend past the end of their clip."""

    @classmethod
    def of(cls, plan: Mixtures, lengths: npt.NDArray[np.int64], frames: int) -> "Changes":
        """Return the changes of a plan whose clips have ``lengths`` and windows ``frames``."""
        end = plan.offsets + np.ceil((frames - 1) * plan.tempi).astype(np.int64) + 1
        masks = (plan.band_masks, plan.frame_masks)
        bands, times = (bool((spans[..., 1] > spans[..., 0]).any()) for spans in masks)
        return cls(
            pitch=bool((plan.pitches != 1).any()),
            tempo=bool((plan.tempi != 1).any()),
            noise=bool(plan.noise.any()),
            band_masks=bands,
            frame_masks=times,
            padding=bool((end > lengths[plan.clips]).any()),
        )


@dataclass(frozen=True)
class DeviceMixtures:
    """Planned examples on a device; other attributes are those of `Mixtures`, in 32 bits.

    Attributes:
        example: The example to which each source is added, shape (sources,); ``count`` for
            sources that only fill the row.
        count: Number of examples.
        changes: Which changes occur.
    """

    clips: Tensor
    offsets: Tensor
    example: Tensor
    levels: Tensor
    curves: Tensor
    pitches: Tensor
    tempi: Tensor
    noise: Tensor
    colours: Tensor
    band_masks: Tensor
    frame_masks: Tensor
    count: int
    changes: Changes


class StepSize(NamedTuple):
    """The numbers that fix the shapes of a worker's step.

    Attributes:
        examples: Examples of the step, over all workers.
        parts: This worker's examples in each part.
    """

    examples: int
    parts: tuple[int, ...]


class _Field(NamedTuple):
    """Place of a field in a row: one value, or an array of ``shape``, per source or example."""

    first: int
    shape: tuple[int, ...]
    per_source: bool
    real: bool

    @property
    def words(self) -> int:
        return int(np.prod(self.shape, dtype=int))


class Layout(NamedTuple):
    """Places of all fields in a row of 32-bit words.

    Attributes:
        sources: Sources for which a row has space.
        examples: Examples for which a row has space.
        width: Words in a row.
        fields: Name and place of each field, in order.
    """

    sources: int
    examples: int
    width: int
    fields: tuple[tuple[str, _Field], ...]

    @classmethod
    def of(cls, plan: Mixtures, sources: int, examples: int) -> "Layout":
        """Return the layout of rows for so many sources and examples of a plan."""
        places: list[tuple[str, _Field]] = []
        width = 0
        for name in ("example", *PER_SOURCE, *PER_EXAMPLE):
            values = plan.clips if name == "example" else getattr(plan, name)
            per_source = name not in PER_EXAMPLE
            field = _Field(width, values.shape[1:], per_source, values.dtype.kind == "f")
            places.append((name, field))
            width += field.words * (sources if per_source else examples)
        return cls(sources, examples, width, tuple(places))

    def unpack(self, row: Tensor, sources: int, examples: int, changes: Changes) -> DeviceMixtures:
        """Return the first ``sources`` and ``examples`` of a row on the device, without a copy."""
        values: dict[str, Any] = {}
        for name, field in self.fields:
            count = sources if field.per_source else examples
            words = row[field.first : field.first + count * field.words]
            typed = words.view(torch.float32) if field.real else words
            values[name] = typed.view(count, *field.shape)
        return DeviceMixtures(**values, count=examples, changes=changes)


@dataclass(frozen=True)
class PlannedSteps:
    """Steps of one worker, packed on the host.

    Attributes:
        rows: 32-bit words on the host, shape (steps, parts, width).
        sizes: Of each step.
        sources: Number of sources in each part of each step.
        layout: Of the rows.
        changes: Which changes occur in any step.
    """

    rows: Tensor
    sizes: list[StepSize]
    sources: list[tuple[int, ...]]
    layout: Layout
    changes: Changes

    def to_device(self, device: torch.device) -> Tensor:
        """Send the rows; from pinned memory without waiting for them to arrive."""
        return self.rows.to(device, non_blocking=True)


def pack_steps(
    plan: Mixtures,
    changes: Changes,
    *,
    steps: int,
    rank: int = 0,
    workers: int = 1,
    parts: int = 1,
    capacity: int = 0,
    pinned: bool = False,
) -> PlannedSteps:
    """Divide a plan into steps, and pack this worker's share of each.

    Args:
        plan: Examples of all workers.
        changes: Which changes occur in it.
        steps: Into how many steps to divide it; their sizes differ by at most one example.
        rank: This worker's number.
        workers: Number of workers, each of which has an equal share of every step.
        parts: Into how many parts each share is divided, if it has as many examples.
        capacity: Smallest number of sources for which rows have space.
        pinned: Whether to pack them into memory from which a GPU copies by itself.
    """
    sizes: list[StepSize] = []
    bounds: list[list[int]] = []
    for step in range(steps):
        low, high = _share(0, len(plan), step, steps)
        first, last = _share(low, high, rank, workers)
        count = min(parts, max(last - first, 1))
        cuts = [first, *(_share(first, last, part, count)[1] for part in range(count))]
        bounds.append(cuts)
        sizes.append(StepSize(high - low, tuple(np.diff(cuts).tolist())))
    sources = [tuple(np.diff(plan.first[cuts]).tolist()) for cuts in bounds]
    most = max(max(each) for each in sources)
    layout = Layout.of(
        plan,
        max(-(-most // CAPACITY_STEP) * CAPACITY_STEP, capacity),
        max(max(size.parts) for size in sizes),
    )
    shape = (steps, max(map(len, sources)), layout.width)
    rows = torch.zeros(shape, dtype=torch.int32, pin_memory=pinned)
    written = rows.numpy()
    for step, cuts in enumerate(bounds):
        for part, (low, high) in enumerate(itertools.pairwise(cuts)):
            _fill(written[step, part], layout, plan, low, high)
    return PlannedSteps(rows, sizes, sources, layout, changes)


def on_device(plan: Mixtures, changes: Changes, device: torch.device) -> DeviceMixtures:
    """Send a whole plan to a device."""
    packed = pack_steps(plan, changes, steps=1)
    row = packed.to_device(device)[0, 0]
    return packed.layout.unpack(row, len(plan.clips), len(plan), changes)


def _share(low: int, high: int, number: int, shares: int) -> tuple[int, int]:
    """Return the bounds of one of ``shares`` consecutive parts, equal to within one."""
    size = high - low
    return low + size * number // shares, low + size * (number + 1) // shares


def _fill(row: npt.NDArray[np.int32], layout: Layout, plan: Mixtures, low: int, high: int) -> None:
    """Write examples ``low`` up to but not including ``high`` into a row."""
    first = plan.first[low : high + 1]
    for name, field in layout.fields:
        if name == "example":
            values: npt.NDArray[Any] = np.repeat(np.arange(high - low), np.diff(first))
            filler: float = high - low
        elif field.per_source:
            values = getattr(plan, name)[first[0] : first[-1]]
            filler = PER_SOURCE[name]
        else:
            values = getattr(plan, name)[low:high]
            filler = 0
        space = field.words * (layout.sources if field.per_source else layout.examples)
        place = row[field.first : field.first + space]
        if field.real:
            place = place.view(np.float32)
        used = values.size
        place[:used] = values.ravel()
        place[used:] = filler


assert {field.name for field in fields(Mixtures)} == {"first", *PER_SOURCE, *PER_EXAMPLE}
