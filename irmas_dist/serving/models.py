"""Models that are served, each of one version, which a digest names."""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.inference.combination import Combination
from irmas_dist.storage.results import MODEL_FILE, WEIGHTS_FILE
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.validation_rule import validated_on

FILES = (MODEL_FILE, WEIGHTS_FILE)
"""What makes a model what it is."""

FIGURES = ("val_micro_f1", "val_macro_f1", "val_lrap")
"""What clients are told of the model's validation."""

COUNTS = ("training_clips", "validation_clips", "validation_mixtures")
"""What they are told of the clips that it was made from."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One version of a model, which a `scorer` has loaded.

    Attributes:
        name: Its name for clients.
        directory: The model directory.
        digest: Of its files.
        description: The content of ``model.json``.
    """

    name: str
    directory: str
    digest: str
    description: ModelDescription

    @classmethod
    def read(
        cls, name: str, directory: str | os.PathLike[str], digest: str | None = None
    ) -> tuple["ServedModel", bytes]:
        """Read a model.

        Args:
            name: See the attributes.
            directory: Likewise.
            digest: What it is expected to be, if anything.

        Returns:
            The model, and its weights.

        Raises:
            IrmasError: There is no finished model, or it is another one than expected.
        """
        description = read_description(directory)
        files = [storage.read_bytes(storage.join(directory, file)) for file in FILES]
        found = digest_of(files)
        if digest not in (None, found):
            raise IrmasError(f"{directory} has changed since it was deployed: deploy it again")
        return cls(name, storage.absolute(directory), found, description), files[-1]

    @cached_property
    def combination(self) -> Combination:
        """How the scores of its members become those of clips."""
        return Combination(self.description)

    @cached_property
    def reading(self) -> dict[str, Any]:
        """What a reader is told: feature settings as JSON, and frames of windows and their hop."""
        windows = self.description.windows
        return {
            "settings": self.description.features.model_dump_json(),
            "frames": windows.frames,
            "hop_frames": windows.hop_frames,
        }

    def as_config(self) -> dict[str, str]:
        """Say which it is, for the configuration of a deployment."""
        return {"directory": self.directory, **self.version}

    @property
    def version(self) -> dict[str, str]:
        """Say which it is, for clients."""
        return {"name": self.name, "digest": self.digest}

    def facts(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        description = self.description
        return {
            **self.version,
            # In the order of scores: JavaScript puts the keys of objects that are numbers first.
            "codes": description.vocabulary.codes,
            "instruments": description.instruments,
            # With 0 where it is so fitted, silence would have the instrument.
            "thresholds": dict(
                zip(description.instruments, description.threshold_array().tolist(), strict=True)
            ),
            "relative": description.relative,
            "thresholds_from": description.thresholds_from,
            "validated_on": validated_on(description.recipe, description.data),
            # Those of an adapted model are of what it was before.
            "validation": {
                key.removeprefix("val_"): description.scores[key]
                for key in FIGURES
                if math.isfinite(description.scores.get(key, math.nan)) and not description.adapted
            },
            "adapted_to": description.adapted_to,
            "sample_rate": description.features.sample_rate,
            "downmix": description.features.downmix,
            "window_s": description.windows.frames / description.features.frames_per_second,
            "hop_s": description.windows.hop_frames / description.features.frames_per_second,
            "parameters": description.parameters,
            "members": len(description.parts),
            # Members of an ensemble have their own.
            **{
                key: None if description.members else getattr(description.data, key)
                for key in COUNTS
            },
        }


def read_models(directories: Mapping[str, str]) -> list[ServedModel]:
    """Read models by their names, and load each once, so that no replica meets a damaged one.

    Raises:
        IrmasError: There is no finished model, or it is damaged.
    """
    from irmas_dist.training.model_directory import build_network  # imports torch: not in replicas

    found = []
    for name, directory in directories.items():
        model, weights = ServedModel.read(name, directory)
        build_network(model.description, weights, directory)
        found.append(model)
    return found


def digest_of(files: Iterable[bytes]) -> str:
    """Return the digest of the contents of a model's `FILES`."""
    found = hashlib.sha256()
    for content in files:
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()[:16]
