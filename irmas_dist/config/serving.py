"""What is served, by how many replicas, and within which limits."""

from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from irmas_dist.config.base import OBJECT_STORES, Settings, require_whole_gpus
from irmas_dist.errors import IrmasError, UsageError

TOKEN = "IRMAS_SERVE_TOKEN"
"""The environment variable with the token that clients must send."""


class Limits(Settings):
    """What a request may ask for; what exceeds it is refused with one line."""

    max_megabytes: Annotated[float, Field(ge=0.001, le=10_000)] = 100.0
    """Largest upload, in MB of 1,000,000 bytes (else status 413)."""
    max_minutes: Annotated[float, Field(ge=0.001, le=10_000)] = 60.0
    """Longest audio, in minutes (else status 422)."""
    timeout_s: Annotated[float, Field(ge=0.001, le=100_000)] = 120.0
    """Seconds within which a request is answered (else status 504)."""
    max_requests: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Concurrent requests of each replica (else status 429)."""
    allow_url_prefix: tuple[str, ...] = ()
    """Beginnings of the URLs that clients may name instead of an upload, none by default."""

    @field_validator("allow_url_prefix")
    @classmethod
    def _are_folders_of_stores(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            scheme, _, rest = prefix.partition("://")
            if not rest.strip("/") or scheme not in OBJECT_STORES:
                raise ValueError("should be a bucket or folder of an object store: s3://bucket/in/")
        # Else s3://music would allow s3://music-of-others.
        return tuple(f"{prefix.rstrip('/')}/" for prefix in prefixes)


class ServingSettings(Settings):
    """An application of Ray Serve, as ``irmas serve`` and RayService files describe it."""

    models: dict[str, str]
    """Directories of the models, paths or URLs, by name; the first answers where none is named."""
    replicas: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Replicas, each with processes that read uploads and one that scores; with ``max_replicas``,
    the fewest."""
    max_replicas: Annotated[int | None, Field(ge=1, le=1_000)] = None
    """Most replicas; their number follows the requests. By default as many as ``replicas``."""
    cpus: Annotated[float, Field(ge=0.01, le=1_000)] = 1.0
    """CPUs that score in each replica; as many more, one at most, read uploads."""
    gpus: Annotated[float | None, Field(ge=0, le=100), AfterValidator(require_whole_gpus)] = None
    """GPUs of each replica; with 0.25, four replicas share one. By default one, or a share of one
    where there are more replicas than GPUs; in RayService files, 0."""
    limits: Limits = Limits()
    """What a request may ask for."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "ServingSettings":
        if not self.models:
            raise ValueError("name a model")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"--max-replicas {self.max_replicas} is less than --replicas {self.replicas}"
            )
        return self

    @property
    def replica_cpus(self) -> float:
        """CPUs that a replica holds."""
        return self.cpus + min(self.cpus, 1.0)

    def scaling(self) -> dict[str, Any]:
        """Return the options of the deployment that say how many replicas it has."""
        if self.max_replicas is None or self.max_replicas == self.replicas:
            return {"num_replicas": self.replicas}
        bounds = {"min_replicas": self.replicas, "max_replicas": self.max_replicas}
        return {"autoscaling_config": bounds | {"target_ongoing_requests": 4}}


def parse_models(given: list[str]) -> dict[str, str]:
    """Return directories by name, of ``NAME=DIRECTORY`` or, for a single one, ``DIRECTORY``.

    Raises:
        UsageError: Several models, of which one has no name or two have the same.
    """
    models: dict[str, str] = {}
    for each in given:
        name, separator, directory = each.partition("=")
        if not separator or "/" in name:
            name, directory = "", each
        elif not name:
            raise UsageError(f"{each}: names no model before the =")
        name = name or ("model" if len(given) == 1 else "")
        if not name:
            raise UsageError(f"{each}: of several models, each needs a name: NAME={each}")
        if name in models:
            raise UsageError(f"{each}: two models are named {name}")
        if not directory:
            raise UsageError(f"{each}: names no directory")
        models[name] = directory
    return models


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_token(host: str, token: str | None) -> None:
    """Refuse to listen to others without a token.

    Raises:
        IrmasError: The host is not loopback, and there is no token of 16 characters or more.
    """
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable()):
        raise IrmasError(f"{TOKEN}: should have 16 ASCII characters or more, without line ends")
    if token is None and not is_loopback(host):
        raise IrmasError(
            f"--host {host} is open to others: set {TOKEN} to a long random text that clients "
            "send, such as the output of 'openssl rand -hex 32'"
        )
