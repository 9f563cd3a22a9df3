"""Archives that a data set is published as, on Zenodo."""

from dataclasses import dataclass

ZENODO_URL = "https://zenodo.org/record/{record}/files/{name}?download=1"


@dataclass(frozen=True)
class Archive:
    """An archive of a data set: a zip file, or a compressed tar file (.tgz)."""

    name: str
    md5: str
    part: str | None  # "training" or "testing"; None when both are in it
    record: int  # of Zenodo
    inner: str | None = None  # the folder that all its entries are in; None: the name's stem

    @property
    def folder(self) -> str:
        """Name of the folder that the archive is extracted to."""
        return self.inner or self.name.removesuffix(".zip").removesuffix(".tgz")
