"""Adapt a model to unlabelled audio of its user (source-free domain adaptation).

Audio of rooms, microphones and players that training had none of moves the maps of a network
and the logits of its instruments, of each by another amount: thresholds that were right on
validation clips are off. Three corrections need no label of the audio:

* The statistics of batch normalisation become a mean of those of training and of those of the
  audio (Li et al., "Adaptive batch normalization for practical domain adaptation", Pattern
  Recognition 80, 2018; a share as by Schneider et al., "Improving robustness against common
  corruptions by covariate shift adaptation", NeurIPS 2020). They are those of a pass in which all
  layers are normalised by the audio: taken layer by layer, of the maps that arrive, they give a
  macro F1 that is .004 better, and more wrong instruments to clips of one.
* The logits of each instrument are brought nearer to the mean and deviation that they have on the
  validation clips, by a scale and an offset in the last layer.
* Scores then mean what they mean in validation, and thresholds are fitted to what they promise of
  the audio, see `expected_thresholds`.

The second and third assume that each instrument plays about as often as in validation. Where only
few do, they would invent the others. So they are left out where the likeliest instruments of the
clips are too few, unless the prevalence of each is known. Both have limits: see `CONCENTRATED`.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.evaluation.scores import Scores
from irmas_dist.features.clips import Clips
from irmas_dist.inference.adaptability import how_far, require_adaptable, thresholds_before
from irmas_dist.inference.batch_statistics import CPU, audible_windows, mix_statistics
from irmas_dist.inference.expected_thresholds import expected_thresholds
from irmas_dist.inference.logit_matching import (
    Float64,
    logits_of,
    match_moments,
    moments,
    prevalence_weights,
)
from irmas_dist.models.cnn import CNN
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.records import AdaptationRecord
from irmas_dist.training.validation_rule import for_adapted
from irmas_dist.training.windows import (
    DeviceClips,
    WindowOutputs,
    covering_windows,
    score_windows,
)

RELIABLE_CLIPS = 50
"""Clips below which statistics are too uncertain to go by."""

FEW_CLIPS = 25
"""Validation clips that stand for a prevalence, effectively, below which a line says so."""


@dataclass(frozen=True)
class Adapted:
    """An adapted model, not written yet.

    Attributes:
        description: With ``adapted``, what was done, and thresholds that suit it.
        network: With changed statistics and last layer, in evaluation mode, on the CPU.
        notes: What the user should know, a line each.
    """

    description: ModelDescription
    network: CNN
    notes: list[str] = field(default_factory=list)


def adapt_network(
    description: ModelDescription,
    network: CNN,
    validation: Scores,
    clips: Clips,
    to: str,
    settings: AdaptationSettings,
) -> Adapted:
    """Adapt a network to clips, whose labels are not looked at.

    Args:
        description: Of the model.
        network: Its network, in evaluation mode, on the CPU; not changed.
        validation: Its scores of the validation clips.
        clips: What it is adapted to.
        to: Where these are from.
        settings: How far it follows them.

    Raises:
        IrmasError: The model is an adapted one, a prevalence is of no instrument or not from 0 to
            1, or nothing is audible.
    """
    require_adaptable(description, settings)
    network, notes = copy.deepcopy(network), []
    windows = audible_windows(description, clips)
    mixed = mix_statistics(description, network, clips, windows, settings.share)
    if settings.share and not mixed:
        notes.append("the network has no batch normalisation: its statistics are left as they are")
    outputs = _outputs(description, network, clips)
    scores = _scores(description, outputs, clips)
    distinct = _distinct(scores)
    if len(distinct) < RELIABLE_CLIPS:
        notes.append(
            f"few audible clips to adapt to: {len(distinct)}; from about {RELIABLE_CLIPS} on it is "
            "reliable"
        )
    weights = prevalence_weights(validation, settings.prevalence)
    effective = weights.sum() ** 2 / (weights**2).sum()
    if settings.prevalence and effective < FEW_CLIPS:
        notes.append(
            f"the stated prevalence is effectively that of {effective:.0f} of the validation "
            "clips, which are few to adapt by"
        )
    matched, reason = how_far(description, validation, weights, scores, len(distinct), settings)
    if reason:
        notes.append(f"logits are not matched: {reason}")
    share = settings.share if mixed else 0.0
    rule = for_adapted(description.validation_settings, share, matched)
    present = np.array([settings.prevalence.get(code, 1.0) > 0 for code in description.instruments])
    thresholds, origin = thresholds_before(
        description, validation, weights, present, rule, settings
    )
    scale, offset = np.ones(len(present)), np.zeros(len(present))
    if matched:
        audible = validation.scores.any(axis=1)
        goal = moments(logits_of(validation.scores[audible]), weights[audible])
        scale, offset, scores = _match(description, outputs, clips, goal, present, matched)
        _scale_logits(network, scale, offset)
        distinct = _distinct(scores)
        thresholds = expected_thresholds(validation, weights, distinct, rule, thresholds)
        origin += f", moved to suit {len(distinct)} clips of {to}"
    record = AdaptationRecord(
        to=to,
        clips=len(clips),
        share=share,
        match=matched,
        prevalence=settings.prevalence,
        scale=description.vocabulary.by_code(scale),
        offset=description.vocabulary.by_code(offset),
        notes=tuple(notes),
    )
    # What is logged of it is not to replace what the run has of the model as it was.
    changed = {
        "adapted": record, "run": None, "thresholds_from": origin,
        "thresholds": description.vocabulary.by_code(thresholds),
    }  # fmt: skip
    return Adapted(description.model_copy(update=changed), network, notes)


def _distinct(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the scores of audible clips, of copies of one those of the first."""
    audible = scores[scores.any(axis=1)]
    # Rounded, as copies may be scored in batches of other sizes.
    _, first = np.unique(audible.round(4), axis=0, return_index=True)
    return audible[np.sort(first)]


def _match(
    description: ModelDescription,
    outputs: WindowOutputs,
    clips: Clips,
    goal: tuple[Float64, Float64],
    present: npt.NDArray[np.bool_],
    share: float,
) -> tuple[Float64, Float64, npt.NDArray[np.float32]]:
    """Return the scale and offset of each instrument's logits, and the scores that they give.

    Args:
        description: Of the model.
        outputs: Of the windows of the clips.
        clips: The clips to adapt to.
        goal: Mean and deviation of the logits of each instrument that are to be reached.
        present: Which instruments play at all; the logits of the others are left as they are.
        share: How far they are brought to these, from 0 to 1.
    """

    def scored(logits: Float64) -> npt.NDArray[np.float32]:
        changed = outputs._replace(logits=torch.from_numpy(logits).float())
        return _scores(description, changed, clips)

    logits = outputs.logits.numpy().astype(np.float64)
    scale, offset = match_moments(logits, scored, goal, share)
    scale, offset = np.where(present, scale, 1.0), np.where(present, offset, 0.0)
    return scale, offset, scored(logits * scale + offset)


def _outputs(description: ModelDescription, network: CNN, clips: Clips) -> WindowOutputs:
    shape, normalisation = description.windows, description.normalisation
    windows = covering_windows(clips.lengths, shape.frames, shape.hop_frames)
    return score_windows(
        network, Standardise(normalisation.mean, normalisation.std), DeviceClips(clips, CPU),
        windows.to_device(CPU), shape.frames, description.features,
    )  # fmt: skip


def _scores(
    description: ModelDescription, outputs: WindowOutputs, clips: Clips
) -> npt.NDArray[np.float32]:
    """Return the scores of the clips, shape (clips, instruments)."""
    shape = description.windows
    covering = covering_windows(clips.lengths, shape.frames, shape.hop_frames)
    return outputs.of_clips(covering, shape.aggregation)


@torch.no_grad()
def _scale_logits(network: CNN, scale: Float64, offset: Float64) -> None:
    """Change the last layer so that its logits are scaled, and then moved."""
    last = network.layers[-1]
    assert isinstance(last, nn.Linear)
    factor = torch.from_numpy(scale).to(last.weight.dtype)
    last.weight.mul_(factor[:, None])
    last.bias.mul_(factor).add_(torch.from_numpy(offset).to(last.bias.dtype))
