"""Training steps captured as CUDA graphs: hundreds of kernels, launched at once.

At a batch of 64 windows a step has some 200 small kernels, which Python launches more slowly than
a GPU computes them. Captured, they are replayed by one call.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from irmas_dist.config.training import TrainingSettings, graph_needs
from irmas_dist.errors import IrmasError
from irmas_dist.training.step import TrainingStep
from irmas_dist.training.steps import PlannedSteps, StepSize
from irmas_dist.training.windows import DeviceClips

WARM_UP = 3
"""How often work is done on the capturing stream before it is captured, as PyTorch's documentation
of CUDA graphs asks for: this initialises libraries and the optimiser's state."""

Result = TypeVar("Result")


def capture(
    step: TrainingStep, settings: TrainingSettings, pool: DeviceClips | None, device: torch.device
) -> "GraphSteps | None":
    """Return what takes steps by graphs, where that is possible and wanted; else None.

    Args:
        step: What to capture.
        settings: Whether it is wanted.
        pool: Clips of which all examples are made, or None for clips that are streamed.
        device: Where steps compute.

    Raises:
        IrmasError: It is not possible, and ``settings.graph`` is "on".
    """
    needs = {
        "a GPU": device.type == "cuda",
        "one worker": step.workers == 1,
        "training.compile=false": not settings.compile,
        "clips that fit into the GPU's memory": pool is not None and pool.is_on_device,
    }
    missing = [need for need, is_met in needs.items() if not is_met]
    if settings.graph == "off" or (settings.graph == "auto" and missing):
        return None
    if missing or pool is None:
        raise IrmasError(graph_needs(missing))
    return GraphSteps(step, pool)


class Repeated(Generic[Result]):
    """Work on a GPU that is always the same: done a few times, then captured and replayed.

    Args:
        stream: On which it is done until it is captured.
        prepare: Called before it is captured.
    """

    def __init__(
        self, stream: torch.cuda.Stream, prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._stream, self._prepare = stream, prepare
        self._done = 0
        self._captured: tuple[torch.cuda.CUDAGraph, Result] | None = None

    def __call__(self, work: Callable[[], Result]) -> Result:
        """Do the work, and return what it returns.

        Args:
            work: Reads and writes the same tensors every time, and asks the device nothing. What
                it returns is overwritten by the next replay. It is not kept, since it may be its
                owner's, whose memory on the GPU a reference cycle would hold.
        """
        if self._captured:
            graph, result = self._captured
            graph.replay()
            return result
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = work()
        current.wait_stream(self._stream)
        self._done += 1
        if self._done == WARM_UP:
            self._prepare()
            graph = torch.cuda.CUDAGraph()
            # Meanwhile another thread may pin the memory of the next epoch's plan.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._captured = graph, work()
        return result


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of this process on which all work is captured.

    cuBLAS keeps a workspace for every stream that it was used on, until the process ends.
    """
    return torch.cuda.Stream(device)


class GraphSteps:
    """Takes the steps of epochs by replaying graphs, one for each size of a step.

    A graph reads the rows and learning rates of an epoch, and the number of the step, from the
    places where they were when it was captured. Epochs with another layout or other changes are
    captured anew.

    Args:
        step: What to capture.
        pool: Clips of which all examples are made, on the GPU.
    """

    def __init__(self, step: TrainingStep, pool: DeviceClips) -> None:
        self._step, self._pool, self._device = step, pool, pool.device
        self._stream = capture_stream(self._device)
        self._number = torch.zeros(1, dtype=torch.int64, device=self._device)
        self.reset()

    def reset(self) -> None:
        """Forget the graphs of steps, as tensors that they read or write were replaced."""
        self._steps: dict[StepSize, Repeated[None]] = {}
        self._captured_for: tuple[object, ...] = ()
        self._rows = self._rates = torch.empty(0)

    def repeated(self) -> Repeated[Any]:
        """Return what does further work, by a graph of its own."""
        return Repeated(self._stream)

    def run(self, pool: DeviceClips, plan: PlannedSteps, rates: Tensor) -> None:
        """Take all planned steps; the arguments are those of `TrainingStep.run`."""
        assert pool is self._pool
        key = (plan.layout, plan.changes, plan.rows.shape)
        if key != self._captured_for:
            self.reset()
            self._captured_for = key
            self._rows = torch.empty(plan.rows.shape, dtype=torch.int32, device=self._device)
            self._rates = torch.empty_like(rates, device=self._device)
        self._rows.copy_(plan.rows, non_blocking=True)
        self._rates.copy_(rates.pin_memory(), non_blocking=True)
        self._number.zero_()
        for size in plan.sizes:
            if size not in self._steps:
                # Gradients must be allocated inside the graph.
                self._steps[size] = Repeated(self._stream, self._step.optimisation.begin)
            self._steps[size](partial(self._take, plan, size))

    def _take(self, plan: PlannedSteps, size: StepSize) -> None:
        """Take the next step, of this size, with all the sources for which rows have space."""
        rows = self._rows.index_select(0, self._number)[0]
        lr = self._rates.index_select(0, self._number)[0]
        sources = (plan.layout.sources,) * len(size.parts)
        self._step(self._pool, rows, lr, plan, size, sources)
        self._number.add_(1)
