"""A trial: a Learner as a Tune Trainable, in an actor that is reused from trial to trial."""

from typing import Any

import torch
from ray import tune

from irmas_dist.config import build_recipe
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.progress import load_progress, save_progress
from irmas_dist.training.task import Task

FINISHED = "finished"
"""In a result: whether the trial came to its own end, rather than being stopped."""

THIS_EPOCH = "epoch_macro_f1"
"""In a result: this epoch's own value of what trials are compared by."""


class LearnerTrial(tune.Trainable):
    """One trial; a step is an epoch.

    The task and the recipe come through `tune.with_parameters`: the features lie once on
    each node, in the object store, and every trial there reads them in place.
    """

    def setup(self, config: dict[str, Any], task: Task, recipe: dict[str, Any]) -> None:
        """Make the first trial's Learner, and keep what the next ones need."""
        self._task, self._recipe = task, recipe
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial without starting another process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        settings = build_recipe(self._recipe, config, "the search space")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._learner = Learner(self._task, settings, device=device)

    def step(self) -> dict[str, Any]:
        """Train for one epoch.

        Returns:
            The epoch's metrics, with the best value so far under the metric that trials are
            compared by, so that a late bad epoch does not spoil a good trial.
        """
        learner = self._learner
        metrics: dict[str, Any] = learner.run_epoch()
        best = learner.history[learner.best_epoch - 1][SELECTED_BY]
        return {
            **metrics,
            SELECTED_BY: best,
            THIS_EPOCH: metrics[SELECTED_BY],
            FINISHED: learner.finished,
            "done": learner.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that is needed to resume."""
        save_progress(checkpoint_dir, self._learner)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume."""
        load_progress(checkpoint, self._learner)
