"""A trial: a Learner as a Tune Trainable, in an actor that is reused from trial to trial."""

import math
import time
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from ray import tune

from irmas_dist import storage
from irmas_dist.config.recipe import build_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.arrays import Labels, ScoreArray
from irmas_dist.evaluation.metrics import per_instrument
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import parameter_count
from irmas_dist.search.sweep_directory import progress_directory
from irmas_dist.training.checkpoint import FILE_NAME, load_progress, save_progress
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner

TRIAL = "trial"
"""In a trial's configuration: its number in the study, and whether it is to be resumed."""

EPOCH = "epoch"
"""In a result: epochs done, those before an interruption included."""

FINISHED = "finished"
"""In a result: whether the trial came to its own end, rather than being stopped."""

FAILED = "failed"
"""In a result: why the trial cannot go on."""

THIS_EPOCH = "epoch_macro_f1"
"""In a result: this epoch's own value of what trials are compared by."""

INSTRUMENTS = "instruments"
"""In a result: how well each instrument was recognised in the best epoch."""

SAVING_SHARE = 0.02
"""Share of its time that a trial spends on saving its progress."""


class TrialLearner(Learner):
    """A Learner that remembers the scores of its best epoch."""

    _scores: np.ndarray
    best_scores: np.ndarray | None = None

    def score_validation(self) -> tuple[np.ndarray, float]:
        """Score as a Learner does, and remember it."""
        self._scores, loss = super().score_validation()
        return self._scores, loss

    def run_epoch(self) -> dict[str, float]:
        """Run an epoch as a Learner does."""
        metrics = super().run_epoch()
        if self.best_epoch == self.epoch:
            self.best_scores = self._scores
        return metrics

    def judge_instruments(self) -> list[dict[str, Any]]:
        """Return precision, recall, F1, AP and threshold of each instrument, best epoch."""
        if self.best_scores is None:  # the best epoch was before an interruption
            now = deepcopy(self.state_dict())
            self.restore_best()
            self.best_scores, _ = self.score_validation()
            self.load_state_dict(now)
        labels = self.data.validation.labels
        fitted = fit_thresholds(labels, self.best_scores, self.settings.thresholds)
        vocabulary = self.data.store.vocabulary
        return instrument_rows(labels, self.best_scores, fitted, vocabulary)


class LearnerTrial(tune.Trainable):
    """One trial; a step is an epoch.

    The task and the recipe come through `tune.with_parameters`: the features lie once on
    each node, in the object store, and every trial there reads them in place.

    Progress is saved where a later driver finds it by the trial's number, as often as costs
    a fiftieth of the time. What is wrong with a trial itself ends it with a result that says
    so, not by an exception: that would end the actor as well, and the next trial would have
    to wait for a new one.
    """

    def setup(
        self,
        config: dict[str, Any],
        task: TrainingData,
        recipe: dict[str, Any],
        progress: str,
        latency: bool = False,
    ) -> None:
        """Make the first trial's Learner, and keep what the next ones need."""
        self._task, self._recipe = task, recipe
        self._progress_root, self._latency = progress, latency
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial without starting another process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        values = {name: value for name, value in config.items() if name != TRIAL}
        identity = config[TRIAL]
        self._place = progress_directory(self._progress_root, identity["number"])
        self._saved, self._saving_s = time.monotonic(), 0.0
        self._refused: str | None = None
        self._untold = False
        self._cpu_s, began = 0.0, time.process_time()
        try:
            self._settings = build_recipe(self._recipe, values, "the search space")
            self._learner = TrialLearner(self._task, self._settings, device=device())
            self._facts: dict[str, Any] = {"parameters": parameter_count(self._learner.network)}
            if self._latency:
                self._facts["latency_ms"] = latency_ms(self._learner)
            if identity["resume"]:
                resume(self._learner, self._place)
                # Its driver may have died before it heard of the last epoch saved.
                self._untold = self._learner.epoch > 0
            self._cpu_s = time.process_time() - began
        except (IrmasError, torch.OutOfMemoryError) as error:
            self._refuse(error)

    def step(self) -> dict[str, Any]:
        """Train for one epoch.

        Returns:
            The epoch's metrics, with the best value so far under the metric that trials are
            compared by, so that a late bad epoch does not spoil a good trial.
        """
        if self._refused is None:
            try:
                if not self._untold:
                    began = time.process_time()
                    self._learner.run_epoch()
                    self._cpu_s += time.process_time() - began
            except (IrmasError, torch.OutOfMemoryError) as error:
                self._refuse(error)
        if self._refused is not None:
            return {FAILED: self._refused, SELECTED_BY: math.nan, EPOCH: 0, "done": True}
        self._untold = False
        self._save_now_and_then()
        return {**describe_epoch(self._learner), **self._facts, "cpu_s": self._cpu_s}

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, IrmasError):
            self._refused = str(error)
        else:
            self._refused = f"out of GPU memory: {str(error).splitlines()[0]}"
        self._learner = None  # type: ignore[assignment]  # frees its memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _save_now_and_then(self) -> None:
        began = time.monotonic()
        due = began - self._saved >= self._saving_s / SAVING_SHARE
        if due or self._learner.finished:
            save_progress(self._place, self._learner)
            self._saved = time.monotonic()
            self._saving_s = self._saved - began

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that is needed to resume, for schedulers that pause trials."""
        save_progress(checkpoint_dir, self._learner)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume; the learning rate and the weight decay are this trial's, not the file's."""
        load_progress(checkpoint, self._learner)
        # It may be another trial's, with another network: what was saved before is of no use.
        self._saved = -math.inf


def describe_epoch(learner: TrialLearner) -> dict[str, Any]:
    """Return the result of a Learner's last epoch."""
    metrics = learner.history[-1]
    best = learner.history[learner.best_epoch - 1][SELECTED_BY]
    return {
        **metrics,
        EPOCH: learner.epoch,
        SELECTED_BY: best,
        THIS_EPOCH: metrics[SELECTED_BY],
        FINISHED: learner.finished,
        INSTRUMENTS: learner.judge_instruments(),
        "done": learner.finished,
    }


def instrument_rows(
    labels: Labels, scores: ScoreArray, thresholds: ScoreArray, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return how well each instrument is recognised, and at which threshold."""
    rows = per_instrument(labels, scores, decide(scores, thresholds), vocabulary)
    return [
        row | {"threshold": float(threshold)}
        for row, threshold in zip(rows, thresholds, strict=True)
    ]


def resume(learner: Learner, place: str) -> None:
    """Go on from the progress at a path or URL, if there is any."""
    if storage.exists(storage.join(place, FILE_NAME)):
        load_progress(place, learner)


def device() -> str:
    """Return where this process is to compute."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def latency_ms(learner: Learner, runs: int = 20) -> float:
    """Return the median time in milliseconds that the network takes for one window."""
    bands = learner.data.store.settings.bands
    window = torch.zeros(1, bands, learner.frames, device=learner.device)
    network = learner.network.eval()
    times = []
    for _ in range(runs + 3):
        began = time.perf_counter()
        network(window).sum().item()  # waits for the device
        times.append(time.perf_counter() - began)
    return 1_000 * float(np.median(times[3:]))
