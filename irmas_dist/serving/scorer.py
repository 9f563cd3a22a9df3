"""A subprocess that scores windows with the models of a replica.

In a thread of the replica PyTorch would take the interpreter's lock back after each operation, and
wait for the event loop each time. Requests and answers are `messages`, one after the other.
"""

import ctypes
import logging
import signal
import sys
from typing import Any

import numpy as np
import torch

from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving import messages
from irmas_dist.serving.haproxy import DIE_WITH_PARENT
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.model_directory import build_network


class Scorer:
    """The models of a replica, by their digests.

    Args:
        device: Where to score.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._predictors: dict[str, Predictor] = {}

    def answer(self, header: dict[str, Any], values: np.ndarray) -> bytes:
        """Do what a message asks for: ``load`` a model, ``keep`` some alone, or ``score`` windows.

        Raises:
            IrmasError: A model is damaged.
            KeyError: It has not been loaded.
        """
        match header["kind"]:
            case "load":
                description = ModelDescription.model_validate(header["description"])
                network = build_network(description, values.tobytes(), header["directory"])
                predictor = Predictor(description, network, self._device)
                self._predictors[header["digest"]] = predictor
            case "keep":
                kept = header["digests"]
                self._predictors = {key: self._predictors[key] for key in kept}
            case "score":
                scores = self._predictors[header["digest"]].score_batches(values)
                return messages.as_bytes("scores", scores)
        return messages.as_bytes("done")


def _main(device: str, threads: str) -> None:
    """Answer messages until standard input ends, or the device fails."""
    if sys.platform == "linux":  # also in the middle of a batch
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    torch.set_num_threads(int(threads))
    scorer, answers = Scorer(device), sys.stdout.buffer
    while asked := messages.read(sys.stdin.buffer):
        try:
            answer = scorer.answer(*asked)
        except torch.AcceleratorError:  # No later call would survive it.
            raise
        except IrmasError as error:
            answer = messages.as_bytes("refused", message=str(error))
        except Exception as error:
            logging.getLogger(__name__).exception("message of the kind %s", asked[0]["kind"])
            answer = messages.as_bytes("error", message=f"{type(error).__name__}: {error}")
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
