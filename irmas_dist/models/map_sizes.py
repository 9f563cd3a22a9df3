"""The sizes of a network's maps, without torch: who is refused need not wait for it."""

from irmas_dist.config.model import ModelSettings
from irmas_dist.errors import IrmasError

Size = tuple[int, int]
"""Bands and frames."""


def map_sizes(settings: ModelSettings, bands: int, frames: int) -> list[Size]:
    """Return bands and frames of the maps after each block and its pooling.

    Raises:
        IrmasError: Kernels or pooling shrink a map to nothing, or to a single value that
            normalisation would make zero.
    """
    sizes: list[Size] = []
    height, width = bands, frames
    for index in range(settings.blocks):
        for _ in range(settings.convolutions):
            if settings.padding is not None:
                height += 2 * settings.padding - settings.kernel[0] + 1
                width += 2 * settings.padding - settings.kernel[1] + 1
            _check(settings, (bands, frames), index, (height, width))
        if ends_with_pooling(settings, index):
            height, width = height // settings.pool[0], width // settings.pool[1]
            _check(settings, (bands, frames), index, (height, width), pooled=True)
        sizes.append((height, width))
    return sizes


def ends_with_pooling(settings: ModelSettings, index: int) -> bool:
    """Return whether a block ends with pooling: a pooling head replaces that of the last one."""
    return index < settings.blocks - 1 or settings.head == "flatten"


def _check(
    settings: ModelSettings, window: Size, index: int, size: Size, *, pooled: bool = False
) -> None:
    """Refuse empty maps, and maps that normalisation would make all zero."""
    if min(size) < 1:
        left = "nothing"
    elif not pooled and settings.normalisation != "none" and size == (1, 1):
        left = f"a single value for model.normalisation={settings.normalisation}"
    else:
        return
    kernel, pool = (
        str(sides[0]) if sides[0] == sides[1] else str(list(sides))
        for sides in (settings.kernel, settings.pool)
    )
    shrinks = f"model.kernel={kernel} and model.padding={settings.padding}, "
    raise IrmasError(
        f"model.blocks={settings.blocks} with {shrinks if settings.padding is not None else ''}"
        f"model.pool={pool} leaves {left} in block {index + 1} of a window of {window[0]} bands "
        f"by {window[1]} frames; use fewer blocks, a smaller pool or a longer window"
    )
