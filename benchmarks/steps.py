"""Training steps: what they launch, and what they ask of the device.

For recipes that come with the package, by ``torch.profiler``: operations of a step (on a GPU,
kernels and graphs that the host launches), and reads of values from the device in an epoch of 4 and
of 8 steps, which are as many where a step asks nothing. A minute or two on a CPU; nothing is
timed. Writes ``benchmarks/results/steps.json``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from processes.arguments import parser_of
from processes.machine import machine
from processes.noise import noise
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from irmas_dist.config.recipe import load_recipe
from irmas_dist.training.learner import Learner

RESULTS = Path(__file__).parent / "results"
RECIPES = ("irmas", "irmas-gpu", "han2016", "seed")
STEPS = (4, 8)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAUNCHES = (
    *("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"),
    "cudaGraphLaunch",
)
READS = {
    "cpu": ("aten::_local_scalar_dense", "aten::nonzero"),
    "cuda": ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize"),
}
"""Operations whose results the host has to wait for; on a GPU, all that waits for it."""


def in_cpu_adam(event: FunctionEvent) -> bool:
    """Whether an event is within Adam's fused kernel for CPUs, which reads its counts of steps."""
    parent = event.cpu_parent
    while parent is not None and parent.name != "aten::_fused_adam_":
        parent = parent.cpu_parent
    return parent is not None


def epoch_of(recipe_name: str, steps: int) -> tuple[int, int]:
    """Return what an epoch launches, and how often it reads a value."""
    recipe = load_recipe(recipe_name, [])
    data = noise(recipe, steps * recipe.training.batch_size)
    learner = Learner(data, recipe, device=DEVICE)
    learner.train_epoch()  # Captures, where steps are captured.
    activities = [ProfilerActivity.CPU]
    if DEVICE == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        learner.train_epoch()
    events = profiler.events()
    reads = sum(event.name in READS[DEVICE] and not in_cpu_adam(event) for event in events)
    if DEVICE == "cuda":
        return sum(event.name in LAUNCHES for event in events), reads
    operations = [event for event in events if event.name.startswith("aten::")]
    within = {id(event.cpu_parent) for event in operations if event.cpu_parent}
    return sum(id(event) not in within for event in operations), reads


def main() -> None:
    """Count, print and write."""
    parser_of(__doc__).parse_args()
    results: dict[str, Any] = {"machine": machine()}
    print(results["machine"])
    for name in RECIPES:
        (few, reads_few), (many, reads_many) = (epoch_of(name, steps) for steps in STEPS)
        launched = (many - few) / (STEPS[1] - STEPS[0])
        results[name] = {"launched": launched, "reads": [reads_few, reads_many]}
        print(
            f"{name}: {launched:.0f} {'launches' if DEVICE == 'cuda' else 'operations'} a step; "
            f"reads in an epoch of {STEPS[0]} and {STEPS[1]} steps: {reads_few} and {reads_many}",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "steps.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
