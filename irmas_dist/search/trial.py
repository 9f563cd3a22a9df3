"""A trial of one worker: a Learner as a Tune Trainable, in an actor that trials reuse."""

import math
import time
from typing import Any

import numpy as np
import torch
from ray import tune

from irmas_dist import storage
from irmas_dist.config.recipe import build_recipe
from irmas_dist.errors import IrmasError, StoreError, first_line, is_out_of_memory
from irmas_dist.evaluation.arrays import Labels, ScoreArray
from irmas_dist.evaluation.metrics import per_instrument
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import Vocabulary, hard_labels
from irmas_dist.models.cnn import parameter_count
from irmas_dist.search.sweep_directory import trial_directory
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import (
    CHECKPOINT_FILE,
    DamagedError,
    Pace,
    load_checkpoint,
    save_checkpoint,
    snapshot,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner

# In a trial's configuration:
TRIAL = "trial"  # its number in the study, and whether it is resumed

# In a result:
EPOCH = "epoch"  # completed epochs, including those before an interruption
FINISHED = "finished"  # whether the trial has completed its training
FAILED = "failed"  # the reason of a failure
THIS_EPOCH = "epoch_macro_f1"  # validation macro F1 of this epoch alone
INSTRUMENTS = "instruments"  # metrics and threshold of each instrument in the best epoch
SECOND = {"parameters": "parameters", "latency": "latency_ms"}
SECOND_TITLES = {"parameters": "parameters", "latency": "latency (ms)"}
"""Names of second objectives in a result, and in tables."""


class TrialLearner(Learner):
    """A Learner that keeps the validation scores of its best epoch."""

    _scores: np.ndarray
    _best_scores: np.ndarray | None = None
    _instruments: list[dict[str, Any]] | None = None

    def score_validation(self) -> tuple[np.ndarray, float]:
        """Score the validation clips, and keep the scores."""
        self._scores, loss = super().score_validation()
        return self._scores, loss

    def run_epoch(self) -> dict[str, float]:
        """Run an epoch, and keep its scores if it is the best."""
        metrics = super().run_epoch()
        if self.best_epoch == self.epoch:
            self._best_scores, self._instruments = self._scores, None
        return metrics

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state, which has no scores."""
        super().load_state_dict(state)
        self._best_scores = self._instruments = None

    def evaluate_instruments(self) -> list[dict[str, Any]]:
        """Return precision, recall, F1, AP and threshold of each instrument, best epoch."""
        if self._instruments is None:
            scores = self._best_scores
            if scores is None:  # The best epoch was before an interruption.
                latest = snapshot(self)
                self.restore_best()
                scores, _ = self.score_validation()
                self.load_state_dict(latest)
            labels = hard_labels(self.data.validation.labels)
            fitted = fit_thresholds(labels, scores, self.settings.thresholds)
            vocabulary = self.data.store.vocabulary
            self._instruments = instrument_results(labels, scores, fitted, vocabulary)
        return self._instruments


class LearnerTrial(tune.Trainable):
    """One trial; a step is an epoch.

    The training data come through `tune.with_parameters`: each node has them once, in the object
    store, where all its trials read them.

    Checkpoints are saved in the trial's directory, see `Pace`. A trial that fails because
    of its values ends with a result that has the reason: an exception would end the actor too,
    and the next trial would wait for a new one.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: TrainingData,
        recipe: dict[str, Any],
        root: str,
        gpu: bool = False,
        latency: bool = False,
        cpus: float = 1.0,
    ) -> None:
        """Build the first trial's Learner; the arguments are those of `distributed_trial`.

        ``gpu`` says whether Ray has assigned one, or a share of one: without, a process sees all
        of the node's. ``latency`` says whether to measure the network's latency. ``cpus`` are those
        that Ray has assigned.
        """
        self._data, self._recipe, self._root, self._latency = data, recipe, root, latency
        self._device = "cuda" if gpu else "cpu"
        torch.set_num_threads(max(int(cpus), 1))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        values = {name: value for name, value in config.items() if name != TRIAL}
        identity = config[TRIAL]
        self._directory = trial_directory(self._root, identity["number"])
        self._pace = Pace()
        self._failure: str | None = None
        self._store_error: StoreError | None = None
        self._unreported = False
        self._cpu_s, began = 0.0, time.process_time()
        self._release()
        try:
            settings = build_recipe(self._recipe, values, "the search space")
            if self._device == "cuda" and not torch.cuda.is_available():
                raise IrmasError("torch cannot use the GPU; --gpus 0 trains on CPUs")
            self._learner = TrialLearner(self._data, settings, device=self._device)
            self._facts: dict[str, Any] = {"parameters": parameter_count(self._learner.network)}
            if self._latency:
                self._facts[SECOND["latency"]] = latency_ms(self._learner)
            saved = storage.join(self._directory, CHECKPOINT_FILE)
            if identity["resume"] and storage.exists(saved):
                try:
                    load_checkpoint(self._directory, self._learner)
                    # Its driver may have died before it received the last saved epoch.
                    self._unreported = self._learner.epoch > 0
                except DamagedError as damaged:
                    say(f"{damaged}; the trial is trained again from its beginning")
            self._cpu_s = time.process_time() - began
        except StoreError as raised:  # For the first step: an error of `setup` has no cause.
            self._store_error = raised
        except (IrmasError, MemoryError, RuntimeError) as raised:
            self._failure = _reason(raised)

    def step(self) -> dict[str, Any]:
        """Train for one epoch.

        Returns:
            The epoch's metrics, and the best value so far of the metric by which trials are
            compared, so that a late bad epoch does not spoil a good trial.
        """
        if self._store_error is not None:
            raise self._store_error
        if self._failure is None and not self._unreported:
            began = time.process_time()
            try:
                self._learner.run_epoch()
                self._cpu_s += time.process_time() - began
            except (IrmasError, MemoryError, RuntimeError) as raised:
                self._failure = _reason(raised)
        if self._failure is not None:
            self._release()
            return failure(self._failure)
        self._unreported = False
        self._save_if_due()
        learner = self._learner
        best = learner.history[learner.best_epoch - 1][SELECTED_BY]
        ends = {FINISHED: learner.finished, "done": learner.finished, "cpu_s": self._cpu_s}
        instruments = {INSTRUMENTS: learner.evaluate_instruments()}
        return epoch_result(learner.history[-1], best, **ends, **instruments, **self._facts)

    def _release(self) -> None:
        """Return the memory of the Learner to the GPU, which other trials share.

        Not while an error is handled: its traceback refers to the Learner's tensors.
        """
        self._learner = None  # type: ignore[assignment]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _save_if_due(self) -> None:
        if self._pace.due or self._learner.finished:
            with self._pace.spending():
                save_checkpoint(self._directory, self._learner)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint for a scheduler that pauses trials."""
        save_checkpoint(checkpoint_dir, self._learner)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from a checkpoint, with this trial's learning rate and weight decay."""
        if self._failure is not None:  # The next step says so.
            return
        try:
            load_checkpoint(checkpoint, self._learner)
        except (IrmasError, MemoryError, RuntimeError) as raised:
            self._failure = _reason(raised)
        # It may be another trial's with another network; then the saved one is obsolete.
        self._pace = Pace()
        self._unreported = False


def _reason(error: Exception) -> str:
    """Return why a trial failed; raise what is no failure of the trial alone."""
    if isinstance(error, IrmasError) and not isinstance(error, StoreError):
        return str(error)
    if is_out_of_memory(error):
        return f"out of memory: {first_line(error)}"
    raise error


def failure(reason: str) -> dict[str, Any]:
    """Return the result of a trial that failed."""
    return {FAILED: reason, SELECTED_BY: math.nan, EPOCH: 0, "done": True}


def epoch_result(metrics: dict[str, float], best: float, **more: Any) -> dict[str, Any]:
    """Return the result of an epoch: its metrics, the best macro F1 so far, and more values."""
    result = {EPOCH: int(metrics["epoch"]), SELECTED_BY: best, THIS_EPOCH: metrics[SELECTED_BY]}
    return {**metrics, **result, **more}


def instrument_results(
    labels: Labels, scores: ScoreArray, thresholds: ScoreArray, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return precision, recall, F1, AP and threshold of each instrument."""
    rows = per_instrument(labels, scores, decide(scores, thresholds), vocabulary)
    return [
        row | {"threshold": float(threshold)}
        for row, threshold in zip(rows, thresholds, strict=True)
    ]


@torch.no_grad()
def latency_ms(learner: Learner) -> float:
    """Return the median time in milliseconds of the network for one window."""
    bands = learner.data.store.settings.bands
    window = torch.zeros(1, bands, learner.frames, device=learner.device)
    network = learner.network.eval()
    times = []
    for _ in range(23):
        began = time.perf_counter()
        network(window).sum().item()  # waits for the device
        times.append(time.perf_counter() - began)
    return 1_000 * float(np.median(times[3:]))  # The first ones warm up.
