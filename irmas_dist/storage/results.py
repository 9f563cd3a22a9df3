"""What a directory holds the result of, so that no stage writes into that of another."""

from irmas_dist import storage
from irmas_dist.errors import IrmasError

RESULTS = {
    "features.json": "a feature store",
    "model.json": "a model",
    "sweep.json": "a sweep",
}
"""The file that each stage writes into its directory, and what that holds."""


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
