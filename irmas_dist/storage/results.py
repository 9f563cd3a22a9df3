"""What a directory holds the result of, so that no stage writes into that of another."""

import os

from irmas_dist import storage
from irmas_dist.errors import IrmasError

RESULTS = {
    "features.json": "a feature store",
    "model.json": "a model",
    "sweep.json": "a sweep",
}
"""The file that each stage writes into its directory, and what that holds."""

FILES = (
    *RESULTS, "model.safetensors", "validation.parquet", "scores.parquet", "begun.json", "study.db"
)  # fmt: skip
"""Files by which such a directory is used again."""


def refuse_result_file(path: str) -> None:
    """Refuse to replace a file of a stage's result by a file of another kind.

    Args:
        path: Path or URL of the file that is to be written.

    Raises:
        IrmasError: It exists, and is one of `FILES` in such a directory.
    """
    directory, _, name = path.replace(os.sep, "/").rpartition("/")
    if name not in FILES or not storage.exists(path):
        return
    for result, what in RESULTS.items():
        if storage.exists(storage.join(directory or ".", result)):
            raise IrmasError(f"{path} belongs to {what}: name another file")


def refuse_other_results(directory: str, own: str) -> None:
    """Refuse a directory, a path or URL, that holds the result of another stage.

    Args:
        directory: Where a stage is to write.
        own: The file of `RESULTS` that it writes.

    Raises:
        IrmasError: There is another of these files.
    """
    for name, what in RESULTS.items():
        if name != own and storage.exists(storage.join(directory, name)):
            raise IrmasError(f"{directory} holds {what}: name another directory")
