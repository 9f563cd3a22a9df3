"""Epochs of the recipe ``irmas`` on one core: with batch normalisation, and with ibn.

Interleaved, each in processor time; stated are the ratios of ibn to batch normalisation. About a
minute. Writes ``benchmarks/results/norms.json``.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from processes.arguments import parser_of
from processes.machine import machine
from processes.noise import noise

from irmas_dist.config.recipe import load_recipe
from irmas_dist.training.learner import Learner

RESULTS = Path(__file__).parent / "results"
STEPS = 12


def learner_with(normalisation: str) -> Learner:
    """Return one that has trained for an epoch."""
    recipe = load_recipe("irmas", [f"model.normalisation={normalisation}"])
    learner = Learner(noise(recipe, STEPS * recipe.training.batch_size), recipe, device="cpu")
    learner.train_epoch()
    return learner


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    learners = [learner_with(one) for one in ("batch", "ibn")]
    ratios = []
    for _ in range(given.epochs):
        seconds = []
        for learner in learners:
            began = time.process_time()
            learner.train_epoch()
            seconds.append(time.process_time() - began)
        ratios.append(seconds[1] / seconds[0])
    quartiles = np.quantile(ratios, (0.25, 0.5, 0.75)).round(2).tolist()
    print(f"{machine()}\nibn to batch normalisation, quartiles of the ratio: {quartiles}")
    RESULTS.mkdir(exist_ok=True)
    written = {"machine": machine(), "quartiles": quartiles, "ratios": ratios}
    (RESULTS / "norms.json").write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
