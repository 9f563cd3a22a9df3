"""The model directory of a sweep's best trial."""

from pathlib import Path

import torch

from irmas_dist import storage
from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import first_line, is_out_of_memory
from irmas_dist.search.study import TrialRow
from irmas_dist.search.sweep_directory import SweepRecord, trial_directory, trials_root
from irmas_dist.search.wandb_runs import trial_run_id
from irmas_dist.storage.results import BEST_FILE, MODEL_FILE, holds
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import CHECKPOINT_FILE, DamagedError, load_checkpoint
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.loop import Trained, finish
from irmas_dist.training.model_description import read_description, write_description
from irmas_dist.training.model_directory import save_model
from irmas_dist.training.precision import available_device, is_gpu_failure


def write_best_model(
    data: TrainingData, recipe: Recipe, best: TrialRow, out: Path, record: SweepRecord
) -> str | None:
    """Write the model directory of the best trial, from its own or from its checkpoint."""
    directory = trial_directory(trials_root(out, record), best["number"])
    model = str(out / "model")
    run = trial_run_id(record.identity, best["number"])
    if holds(model, MODEL_FILE) and read_description(model).run == run:
        return model  # Its thresholds may have been fitted again since.
    if holds(directory, MODEL_FILE):
        # The last makes it a model.
        for name in sorted(storage.list_files(directory), key=lambda name: name == MODEL_FILE):
            with storage.write_atomically(storage.join(model, name)) as stream:
                stream.write(storage.read_bytes(storage.join(directory, name)))
        changed = {"recipe": recipe.model_dump(mode="json"), "run": run}
        write_description(model, read_description(model).model_copy(update=changed))
        return model
    if not storage.exists(storage.join(directory, CHECKPOINT_FILE)):
        return None
    # It only scores here, on whatever this machine has, unless trials are to leave the GPU alone.
    cpu = torch.device("cpu")
    device = cpu if record.settings.gpus == 0 else available_device()
    try:
        try:
            weights, description, validation = _describe_checkpoint(data, recipe, directory, device)
        except RuntimeError as error:
            if device == cpu or not (is_gpu_failure(error) or is_out_of_memory(error)):
                raise
            reason = first_line(error)
            say(f"the best trial is scored on the CPU, as the GPU cannot be used ({reason})")
            weights, description, validation = _describe_checkpoint(data, recipe, directory, cpu)
    except DamagedError as damaged:
        say(f"{damaged}; the best trial has no model: train {BEST_FILE}")
        return None
    description = description.model_copy(update={"run": run})
    save_model(model, weights, description, validation, data.all_known)
    return model


def _describe_checkpoint(
    data: TrainingData, recipe: Recipe, directory: str, device: torch.device
) -> Trained:
    """Return the model in a trial's checkpoint."""
    plain = recipe.training.model_copy(update={"graph": "off", "compile": False})
    learner = Learner(data, recipe.model_copy(update={"training": plain}), device=device)
    load_checkpoint(directory, learner)
    return finish(learner, recipe.model_dump(mode="json"))
