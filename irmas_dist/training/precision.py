"""How a device computes: bfloat16 where it supports it, compiled on request."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from irmas_dist.config.training import Precision
from irmas_dist.errors import IrmasError


class Autocast:
    """The context in which a network computes: weights and losses stay float32.

    Args:
        precision: Of the arithmetic.
        device: Where to compute; it is asked once what it supports.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._device = device.type
        auto = precision == "auto"
        self._enabled = computes_in_bfloat16(device) if auto else precision == "bfloat16"

    def __call__(self) -> torch.autocast:
        """Return the context, to be entered once."""
        return torch.autocast(self._device, torch.bfloat16, enabled=self._enabled)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Run the block with convolutions in float32 proper, so that a GPU gives a CPU's results.

    By default a GPU rounds their inputs to TF32, which has 10 bits of 23.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def available_device() -> torch.device:
    """Return the GPU of this process if it has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether the device supports bfloat16 natively.

    A CPU without it emulates it, more than ten times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile the network with ``torch.compile`` when it is first called.

    Raises:
        IrmasError: Compiling for a CPU needs a C++ compiler, and there is none.
    """
    if device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise IrmasError(
            "training.compile=true needs a C++ compiler on a CPU and there is none; "
            "install g++, set CXX to another, or leave it out"
        )
    network.compile()
