"""Scores of a trained model for samples, files, and clips of a feature store."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from irmas_dist.config.base import differences
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import Samples
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.features.clips import Clips, read_clips
from irmas_dist.features.logmel import LogMel, log_mel, log_mel_blocks
from irmas_dist.features.store import StoreInfo, read_info
from irmas_dist.features.window_stream import windows_of
from irmas_dist.inference.fuse import fused
from irmas_dist.inference.members import Members
from irmas_dist.inference.timeline import Timeline, timeline_of
from irmas_dist.instruments import hard_labels
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.model_directory import load_network
from irmas_dist.training.precision import available_device, without_tf32
from irmas_dist.training.windows import DeviceClips, covering_windows, score_windows

BATCH_WINDOWS = {"cpu": 32, "cuda": 512}
"""Windows in a batch, by device; larger ones take more memory and no less time."""


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """A file that was read, to be scored in another process.

    Attributes:
        mel: Its log-mel spectrogram, shape (bands, frames).
        notes: What is unusual of the audio.
    """

    mel: LogMel
    notes: list[str]


def read_spectrogram(path: str | os.PathLike[str], settings: LogMelSettings) -> Spectrogram:
    """Read and transform a file as `Predictor.timeline` does.

    Raises:
        AudioError: The file is missing, or cannot be decoded.
    """
    notes: list[str] = []
    blocks = list(log_mel_blocks(path, settings, notes.append))
    mel: Any = np.concatenate(blocks, axis=1)
    return Spectrogram(mel, notes)


def matching_store(description: ModelDescription, location: str) -> StoreInfo:
    """Return what is known of a feature store that a model can score.

    Raises:
        IrmasError: Its spectrograms are not like those that the model was trained with.
    """
    info = read_info(location)
    if differ := differences(info.settings, description.features):
        raise IrmasError(
            f"{location} was made with other feature settings than the model was trained with: "
            f"{differ}; extract the audio again with the model as --config"
        )
    return info


class Predictor:
    """A trained model, loaded for inference; of an ensemble, scores are means over its members.

        predictor = Predictor.load("runs/demo/model")
        scores = predictor(samples, sample_rate)   # {"cel": 0.02, "cla": 0.71, …}

    Args:
        description: The content of ``model.json``.
        network: With its weights, in evaluation mode; a copy with fused layers is used.
        device: The device to compute on; ``auto`` takes a GPU if there is one.

    Attributes:
        batch_windows: Windows that are scored at once.
    """

    def __init__(
        self,
        description: ModelDescription,
        network: CNN | Ensemble,
        device: torch.device | str = "auto",
    ) -> None:
        self.description = description
        self._device = available_device() if device == "auto" else torch.device(device)
        self.batch_windows = BATCH_WINDOWS["cuda" if self._device.type == "cuda" else "cpu"]
        self.network = fused(network).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._members = Members(description, self.network, self._device)

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], device: torch.device | str = "auto"
    ) -> "Predictor":
        """Load a model directory, to compute on a device as in the constructor.

        Raises:
            IrmasError: There is no finished model here, or it is damaged.
        """
        description = read_description(directory)
        return cls(description, load_network(directory, description), device)

    def __call__(self, samples: Samples, sample_rate: int) -> dict[str, float]:
        """Score audio.

        Args:
            samples: Shape (samples,) or (samples, channels), int16 or float in [-1, 1].
            sample_rate: In Hz, any.

        Returns:
            Score from 0 to 1 by instrument code. Silence (`corpus.mixdown`) scores 0.

        Raises:
            AudioError: There are no samples, they have another shape or type, or some are NaN or
                infinite; or the rate is none.
        """
        return self._timeline([log_mel(samples, self.description.features, sample_rate)], []).scores

    def file(self, path: str | os.PathLike[str]) -> dict[str, float]:
        """Return the score of an audio file by instrument code.

        Raises:
            AudioError: The file is missing, or cannot be decoded.
        """
        return self.timeline(path).scores

    def timeline(self, path: str | os.PathLike[str]) -> Timeline:
        """Score every window of an audio file, and the file as a whole.

        Takes about 100 MB beside the network, however long the file is; with features of the
        librosa backend, memory grows with the file.

        Args:
            path: Path or URL of a file in any format that libsndfile reads, of any rate.

        Raises:
            AudioError: The file is missing, or cannot be decoded.
        """
        notes: list[str] = []
        pieces = log_mel_blocks(path, self.description.features, notes.append)
        return self._timeline(pieces, notes)

    def timelines(self, spectrograms: Iterable[Spectrogram]) -> list[Timeline]:
        """Score files that were read, windows of several in a batch; the same as `timeline`."""
        read = list(spectrograms)
        offsets: list[list[int]] = [[] for _ in read]
        scores = self._scored(
            window
            for one, firsts in zip(read, offsets, strict=True)
            for window in self._windows([one.mel], firsts, one.notes)
        )
        ends = np.cumsum([len(firsts) for firsts in offsets])
        return [
            timeline_of(
                self.description, self._members, firsts, scores[end - len(firsts) : end], one.notes
            )
            for firsts, end, one in zip(offsets, ends, read, strict=True)
        ]

    def decide(self, scores: dict[str, float]) -> list[str]:
        """Return the codes of the instruments whose score reaches their threshold."""
        return self.description.decide(scores)

    def score_store(self, location: str, part: str) -> Scores:
        """Score all clips of one part of a feature store.

        Raises:
            IrmasError: The store has other feature settings or instruments than the model.
        """
        info, vocabulary = matching_store(self.description, location), self.description.vocabulary
        if info.vocabulary.codes != vocabulary.codes:
            theirs = ", ".join(info.vocabulary.codes)
            raise IrmasError(
                f"{location} has other instruments than the model: {theirs}; "
                "index and extract the audio again with the model as --config, or say which are "
                "the same: --map"
            )
        clips = read_clips(location, part)
        return Scores(
            clips.clip_ids, clips.parts, clips.groups, hard_labels(clips.labels),
            scores=self.score_clips(clips), vocabulary=vocabulary,
        )  # fmt: skip

    def score_clips(self, clips: Clips) -> np.ndarray:
        """Score clips in memory: float32, shape (clips, instruments)."""
        windows = self.description.windows
        covering = covering_windows(clips.lengths, windows.frames, windows.hop_frames)
        resident, places = DeviceClips(clips, self._device), covering.to_device(self._device)
        with without_tf32:
            scored = [
                score_windows(
                    network, standardise, resident, places, windows.frames,
                    self.description.features,
                ).scores()
                for network, standardise in self._members.networks
            ]  # fmt: skip
        return self._members.aggregated(np.stack(scored, axis=1), covering.bounds)

    def _timeline(self, pieces: Iterable[LogMel], notes: list[str]) -> Timeline:
        """Score a spectrogram that comes in pieces of shape (bands, frames).

        ``notes`` holds what has been said of the audio once all pieces have been read.
        """
        offsets: list[int] = []
        scores = self._scored(self._windows(pieces, offsets, notes))
        return timeline_of(self.description, self._members, offsets, scores, notes)

    def _windows(
        self, pieces: Iterable[LogMel], offsets: list[int], notes: list[str]
    ) -> Iterator[npt.NDArray[Any]]:
        """Yield the windows of a spectrogram, and add the first frame of each to ``offsets``."""
        windows, floor = self.description.windows, self.description.features.log_floor
        frames, hop = windows.frames, windows.hop_frames
        for first, window in windows_of(pieces, frames, hop, floor, notes.append):
            offsets.append(first)
            yield window

    def _scored(self, windows: Iterator[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Score windows in batches, of which one is in memory at a time; see `_scores`."""
        # One buffer: an array for each batch would fragment the memory.
        scores = bytearray()
        while batch := list(islice(windows, self.batch_windows)):
            scores += self._scores(batch).tobytes()
        shape = (-1, len(self._members), len(self.description.vocabulary))
        return np.frombuffer(scores, np.float32).reshape(shape)

    def score_batches(self, windows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Score windows, shape (windows, bands, frames), as many at once as the device likes.

        Returns:
            The scores of each member, shape (windows, members, instruments); 0 of silent windows.
        """
        size = self.batch_windows
        firsts = range(0, len(windows), size)
        return np.concatenate([self._scores(windows[low : low + size]) for low in firsts])

    @torch.inference_mode()
    def _scores(self, windows: Any) -> npt.NDArray[np.float32]:
        """Score windows, each of shape (bands, frames); those of silent ones are 0.

        Returns:
            The scores of each member, shape (windows, members, instruments).
        """
        stacked = np.stack(windows, dtype=np.float32)
        scores = self._members.scores(torch.from_numpy(stacked).to(self._device))
        scores[stacked.max(axis=(1, 2)) <= self.description.features.silence] = 0
        return scores
