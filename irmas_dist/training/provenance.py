"""What made a model: versions of packages, the commit of the code, and what it was judged by."""

import importlib.metadata
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import irmas_dist
from irmas_dist.config.decisions import RELATIVE_RULES, AggregationRule, ThresholdSettings

RECORDED_VERSIONS = ("irmas-dist", "torch", "ray", "numpy", "scipy", "soundfile", "soxr")
"""Packages whose version may change a result."""


def versions() -> dict[str, str]:
    """Return the version of each package that may change a result; unknown if not installed.

    Code that runs from a source tree, as that of a job may, has no version.
    """
    installed = {}
    for name in RECORDED_VERSIONS:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "unknown"
    return installed


def commit() -> str | None:
    """Return the git commit of this package, with ``-dirty`` when files differ from it.

    Returns:
        None when the package is not in its own git checkout, or git is not installed.
    """
    package = Path(irmas_dist.__file__).parent
    if not (package.parent / ".git").exists():
        return None
    # Without optional locks, which would refresh the index and so write into the checkout.
    command = ["git", "--no-optional-locks", "-C", str(package.parent), "describe", "--always",
               "--dirty", "--abbrev=40", "--exclude=*"]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def learnt_stores(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the identities of the stores that a model, or one that it started from, learnt from.

    Args:
        data: As in ``model.json``.
    """
    learnt: Mapping[str, Any] | None = data
    while learnt:
        yield learnt.get("store", "")
        yield from (one["store"] for one in learnt.get("also", ()))
        learnt = learnt.get("init", {}).get("data")


def for_validation(
    settings: ThresholdSettings,
    aggregations: Sequence[AggregationRule],
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
) -> ThresholdSettings:
    """Return how thresholds are fitted to a model's validation clips.

    Only mixtures of held-out groups have more evidence than other sources. Clips to validate on,
    held-out clips as they are, and held-out sources stand for what is to come. Scores that are
    relative to the surest instrument have no log-odds.

    Args:
        settings: As in the recipe, or instead of it.
        aggregations: Of the windows of the model, or of each of an ensemble's.
        recipe: As in ``model.json``.
        data: As in ``model.json``.
    """
    validation = recipe.get("validation", {})
    mixed = validation.get("mixed", True) and not data.get("validated_on")
    by_group = validation.get("by", "group") == "group"
    relative = all(rule in RELATIVE_RULES for rule in aggregations)
    if mixed and by_group and not relative:
        return settings
    return settings.model_copy(update={"evidence": 1.0})


def for_adapted(settings: ThresholdSettings, share: float, match: float) -> ThresholdSettings:
    """Return how thresholds of an adapted model are fitted to its validation clips.

    What its network has listened to is no other source any more; where logits are matched, too,
    thresholds are those of expected figures.

    Args:
        settings: As from `for_validation`.
        share: Of the statistics of batch normalisation that are the audio's.
        match: How far logits are matched.
    """
    return settings.model_copy(update={"evidence": 1.0}) if share and not match else settings


def threshold_origin(
    settings: ThresholdSettings,
    clips: int,
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
) -> str:
    """Describe the clips of fitted thresholds, and how they were fitted.

    Args:
        settings: As from `for_validation`.
        clips: Number of validation clips.
        recipe: As in ``model.json``.
        data: As in ``model.json``.
    """
    evidence = f"; evidence {settings.evidence:g}" if settings.evidence < 1 else ""
    return f"{clips} {validated_on(recipe, data)} ({settings.summary}{evidence})"


def store_sizes(data: Mapping[str, Any]) -> list[int]:
    """Return the number of validation clips of each store that a model was validated on, in order.

    Args:
        data: As in ``model.json``.
    """
    return [one["clips"] for one in data.get("validated_on", ())]


def validated_on(recipe: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Describe the validation clips of a model."""
    if stores := len(data.get("validated_on", ())):
        return f"clips of {'a store' if stores == 1 else f'{stores} stores'} to validate on"
    mixed = recipe.get("validation", {}).get("mixed", True)
    if data.get("own_validation"):
        return "mixtures of validation clips" if mixed else "validation clips"
    return "mixtures of held-out training clips" if mixed else "held-out clips"
