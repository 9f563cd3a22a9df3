"""The likeliest instruments and the logits of clips, compared with those of validation clips."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import UNKNOWN

ROUNDS = 30
"""Steps in which the scale and offset of windows are found that give clips their moments."""

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Moments = tuple[Float64, Float64]
"""Mean and standard deviation of each instrument's logits, each of shape (instruments,)."""

FITTED_TO = 0.02
"""How near shares of clips must come to the prevalence that is stated."""


def effective_instruments(scores: Float32, weights: Float64) -> float:
    """Return of how many instruments, effectively, the likeliest of each clip is one."""
    audible = scores.any(axis=1)
    counts = np.bincount(
        scores[audible].argmax(axis=1), weights[audible], minlength=scores.shape[1]
    )
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def prevalence_weights(validation: Scores, prevalence: Mapping[str, float]) -> Float64:
    """Return weights of the validation clips by which instruments are as frequent as they are.

    By iterative proportional fitting, which needs few rounds for weights that are near. Frequent
    among the clips of which it is known whether the instrument plays; others keep their weight.

    Raises:
        IrmasError: An instrument that is to play in some clips does so in none, or in all; or no
            weights make all as frequent as they are to be.
    """
    weights = np.ones(len(validation.labels))
    columns = {
        code: validation.labels[:, validation.vocabulary.codes.index(code)] for code in prevalence
    }

    def share_of(code: str) -> float:
        present, known = columns[code] == 1, columns[code] != UNKNOWN
        return float(weights[present].sum() / max(weights[known].sum(), 1e-12))

    for _ in range(200 if prevalence else 0):
        for code, share in prevalence.items():
            present, absent = columns[code] == 1, columns[code] == 0
            now = share_of(code)
            if 0 < now < 1:
                kept = np.clip(share, 1e-6, 1 - 1e-6)
                weights[present] *= kept / now
                weights[absent] *= (1 - kept) / (1 - now)
            elif round(now) != share:
                where = "all" if now else "none"
                raise IrmasError(
                    f"--prevalence {code}={share:g}: it plays in {where} of the model's validation "
                    "clips, which cannot stand for so many; leave it out"
                )
    for code, share in prevalence.items():
        if abs(share_of(code) - share) > FITTED_TO:
            raise IrmasError(
                f"--prevalence: in no selection of the model's validation clips, which have few "
                f"instruments each, is all of this true: {code}={share:g} would be "
                f"{share_of(code):.2f}; leave some out"
            )
    return weights / weights.mean()


def logits_of(scores: Float32) -> Float64:
    """Return the logits of scores, which are finite for 0 and 1 too."""
    return np.asarray(logit(np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)))


def moments(logits: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """Return the weighted mean and standard deviation of each column."""
    mean = np.average(logits, axis=0, weights=weights)
    return mean, np.sqrt(np.average((logits - mean) ** 2, axis=0, weights=weights)) + 1e-6


def match_moments(
    logits: Float64, score: Callable[[Float64], Float32], goal: Moments, share: float
) -> Moments:
    """Return the scale and offset of window logits that bring those of clips nearer to a goal.

    Args:
        logits: Of windows, shape (windows, instruments).
        score: Returns the scores of clips, shape (clips, instruments), from logits of windows;
            all are 0 of a silent clip, which does not count.
        goal: The moments of the clips' logits to go to.
        share: How far, from 0 to 1.
    """

    def of_clips(scale: Float64, offset: Float64) -> Moments:
        scores = score(logits * scale + offset)
        audible = scores[scores.any(axis=1)]
        return moments(logits_of(audible), np.ones(len(audible)))

    scale, offset = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    mean, deviation = of_clips(scale, offset)
    wanted_mean = share * goal[0] + (1 - share) * mean
    wanted_deviation = share * goal[1] + (1 - share) * deviation
    for _ in range(ROUNDS):
        ratio = np.clip(wanted_deviation / deviation, 0.5, 2.0)
        scale, offset = scale * ratio, offset * ratio + wanted_mean - mean * ratio
        mean, deviation = of_clips(scale, offset)
    return scale, offset
