"""Settings of the network, and which of them go together."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from irmas_dist.config.base import Settings


def _both_sides(value: Any) -> Any:
    """Expand one number to both sides."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, list | tuple) and len(value) == 2:
        return value
    raise ValueError("should be a whole number, or two of them: over frequency and over time")


Side = Annotated[int, Field(ge=1, le=15)]
Sides = Annotated[tuple[Side, Side], BeforeValidator(_both_sides)]
"""Sides over [frequency, time]; one number is both."""


class DropoutSettings(Settings):
    """Dropout rates in training, by place."""

    blocks: float = Field(0.1, ge=0.0, lt=1.0)
    """Rate of single activations after the pooling of each block."""
    dense: float = Field(0.2, ge=0.0, lt=1.0)
    """Rate before the output layer."""
    maps: float = Field(0.0, ge=0.0, lt=1.0)
    """Rate of whole maps after the pooling of each block (Tompson et al. 2015, SpatialDropout)."""
    head: float = Field(0.0, ge=0.0, lt=1.0)
    """Rate between the head and the dense layer."""


class ModelSettings(Settings):
    """Architecture of the network."""

    blocks: int = Field(4, ge=1, le=8)
    """Blocks of convolutions, each with its pooling."""
    width: int = Field(24, ge=1, le=1_024)
    """Channels of the first block; each further block has twice as many."""
    channels: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] | None = None
    """Channels of every block, instead of `width`."""
    convolutions: int = Field(1, ge=1, le=4)
    """Convolutions in a block."""
    kernel: Sides = (3, 3)
    """Sides of the convolution kernels over [frequency, time], or one number for both."""
    padding: int | None = Field(None, ge=0, le=8)
    """Zeros around a map on each side; by default its size is kept, which takes odd kernels."""
    residual: bool = False
    """Whether a block's input is added to its output (He et al. 2016)."""
    squeeze_excite: bool = False
    """Whether each block weights its channels by the means of all (Hu et al. 2018)."""
    normalisation: Literal["none", "batch", "group", "instance", "ibn"] = "ibn"
    """Normalisation after each convolution; group has 8 groups (Wu and He 2018), or the
    greatest common divisor of 8 and the channels. ibn is batch, but after the first convolution of
    each block before the last it is instance for half of the channels (Pan et al. 2018)."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu"
    """Non-linearity; the leaky one has slope 0.33, as in Han et al."""
    pool: Sides = (2, 2)
    """Sides of the pooling after each block over [frequency, time], or one number for both."""
    pooling: Literal["max", "average"] = "max"
    """Pooling after each block."""
    head: Literal["flatten", "max", "average", "attention"] = "average"
    """How the last maps become one vector: flattened; the largest or the mean value of each; or
    their mean over frequency, weighted over time by attention (Kong et al. 2019)."""
    dense: int = Field(128, ge=0, le=8_192)
    """Units of the dense layer before the output; 0 leaves it out."""
    dropout: DropoutSettings = DropoutSettings()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every block."""
        return self.channels or tuple(self.width * 2**block for block in range(self.blocks))

    @model_validator(mode="after")
    def _go_together(self) -> "ModelSettings":
        if self.channels is not None and len(self.channels) != self.blocks:
            raise ValueError(
                f"channels has {len(self.channels)} entries and blocks is {self.blocks}; "
                "give the channels of every block"
            )
        if self.padding is None and not all(side % 2 for side in self.kernel):
            raise ValueError(
                f"kernel={list(self.kernel)} has an even side and cannot keep the size of a map; "
                "make it odd, or give padding"
            )
        if self.residual and self.padding is not None:
            raise ValueError(
                f"a residual block keeps the size of its maps, so padding must be null, "
                f"not {self.padding}"
            )
        return self
