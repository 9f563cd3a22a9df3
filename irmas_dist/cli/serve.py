"""The command that serves models to browsers and other programs."""

from typing import Annotated

import typer

from irmas_dist.cli.command import MAX_COUNT, Address, command
from irmas_dist.terminal import escape, say


@command
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|NAME=MODEL",
            help="Model directory, a path or URL; of several, each with a name: a=runs/a b=runs/b.",
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen. Others than this machine need the token in IRMAS_SERVE_TOKEN."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8000,
    address: Address = None,
    replicas: Annotated[
        int, typer.Option(min=1, max=1_000, help="Replicas; with --max-replicas, the fewest.")
    ] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, max=1_000, help="Most replicas; their number follows the requests."),
    ] = None,
    cpus: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1_000,
            help="CPUs that score in each replica; as many, one at most, read uploads beside them.",
        ),
    ] = 1.0,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="GPUs of each replica; with 0.25, four replicas share one. Default: one, or a "
            "share of one where there are more replicas than GPUs; without GPUs, 0.",
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=10_000, help="Largest upload, in MB.")
    ] = 100.0,
    max_minutes: Annotated[
        float, typer.Option(min=0.001, max=10_000, help="Longest audio, in minutes.")
    ] = 60.0,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.001,
            max=MAX_COUNT,
            help="Seconds within which a request is answered.",
        ),
    ] = 120.0,
    max_requests: Annotated[
        int, typer.Option(min=1, max=10_000, help="Concurrent requests of each replica.")
    ] = 32,
    allow_url_prefix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Folder of an object store whose audio clients may name by its URL, such as "
            "s3://bucket/incoming/. May be repeated; default: none.",
        ),
    ] = None,
) -> None:
    """Serve models to browsers and programs: a page, an API, on this machine or a Ray cluster."""
    # After the options have been parsed: pydantic alone.
    from irmas_dist.config.base import from_options
    from irmas_dist.config.serving import Limits, ServingSettings, parse_models

    limits = from_options(
        Limits, {"timeout_s": "--timeout"}, max_megabytes=max_megabytes, max_minutes=max_minutes,
        timeout_s=timeout_s, max_requests=max_requests,
        allow_url_prefix=tuple(allow_url_prefix or ()),
    )  # fmt: skip
    settings = from_options(
        ServingSettings, {}, models=parse_models(models), replicas=replicas,
        max_replicas=max_replicas, cpus=cpus, gpus=gpus, limits=limits,
    )  # fmt: skip
    from irmas_dist.serving.serve import serve as run

    names = ", ".join(settings.models)

    def started(url: str, stays: bool) -> None:
        ending = "until 'serve shutdown'" if stays else "Ctrl-C ends it"
        say(escape(f"{url} serves {names}; {ending}"))

    run(settings, started, host, port, address)
