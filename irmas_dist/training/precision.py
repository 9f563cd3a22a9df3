"""How a device computes: bfloat16 where it supports it, compiled on request."""

import os
import shutil
from threading import Lock

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


class WithoutTF32:
    """A context with convolutions in float32 proper, so that a GPU gives a CPU's results.

    By default a GPU rounds their inputs to TF32, which has 10 bits of 23. The setting is the
    process's: threads may be in the context at once, and the last to leave it restores it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
        self._before = "none"

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._convolutions.fp32_precision
                self._convolutions.fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._convolutions.fp32_precision = self._before


without_tf32 = WithoutTF32()


def is_gpu_failure(error: BaseException) -> bool:
    """Return whether an error is that of a GPU that cannot be used."""
    # Without a driver, torch raises a plain RuntimeError.
    return isinstance(error, torch.AcceleratorError) or "NVIDIA driver" in str(error)


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
        IrmasError: There is no compiler: on a CPU one of C++ is needed, on a GPU one of C.
    """
    needed, variable, known = "a C compiler on a GPU", "CC", ["gcc", "clang"]
    if device.type == "cpu":
        needed, variable, known = "a C++ compiler on a CPU", "CXX", ["g++"]
    named = [os.environ[variable]] if variable in os.environ else known
    if not any(map(shutil.which, named)):
        raise IrmasError(
            f"training.compile=true needs {needed} and there is none; install {known[0]}, set "
            f"{variable} to another, or leave it out"
        )
    network.compile()
