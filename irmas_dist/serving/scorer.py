"""A subprocess that scores windows: its network takes nothing from the replica's event loop.

PyTorch takes the interpreter's lock back after each operation, for which a thread of the replica
and its event loop would wait in turns.
"""

import sys
import traceback
from typing import Any

import numpy as np
import torch

from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving import messages
from irmas_dist.serving.models import ServedModel


class Scorer:
    """The models of a replica, by their digests.

    Args:
        device: Where to score.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._predictors: dict[str, Predictor] = {}

    def answer(self, header: dict[str, Any], windows: np.ndarray) -> bytes:
        """Do what a message asks for: ``load`` a model, ``keep`` some alone, or ``score``.

        Raises:
            IrmasError: A model cannot be loaded, or has changed.
            torch.AcceleratorError: The device has failed.
        """
        match header["kind"]:
            case "load":
                directory, digest = header["directory"], header["digest"]
                if digest not in self._predictors:
                    predictor = Predictor.load(directory, self._device)
                    ServedModel.read("", directory, digest)
                    self._predictors[digest] = predictor
            case "keep":
                kept = header["digests"]
                self._predictors = {key: self._predictors[key] for key in kept}
            case "score":
                scores = self._predictors[header["digest"]].score_batches(windows)
                return messages.as_bytes("scores", scores)
        return messages.as_bytes("done")


def _main(device: str, threads: str) -> None:
    """Answer messages until standard input ends, or the device fails."""
    torch.set_num_threads(int(threads))
    scorer, answers = Scorer(device), sys.stdout.buffer
    while asked := messages.read(sys.stdin.buffer):
        try:
            answer = scorer.answer(*asked)
        except torch.AcceleratorError:
            raise
        except IrmasError as error:
            answer = messages.as_bytes("refused", message=str(error))
        except (RuntimeError, MemoryError) as error:  # of a device that works
            traceback.print_exc()
            answer = messages.as_bytes("error", message=f"{type(error).__name__}: {error}")
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
