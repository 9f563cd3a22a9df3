"""The command that serves models to browsers and other programs."""

from typing import Annotated

import typer

from irmas_dist.cli.command import Address, command, given_settings, setting_option
from irmas_dist.config.base import from_options
from irmas_dist.config.serving import Limits, ServingSettings, parse_models
from irmas_dist.terminal import say


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
    replicas: Annotated[int | None, setting_option(ServingSettings, "replicas")] = None,
    max_replicas: Annotated[int | None, setting_option(ServingSettings, "max_replicas")] = None,
    cpus: Annotated[float | None, setting_option(ServingSettings, "cpus")] = None,
    gpus: Annotated[float | None, setting_option(ServingSettings, "gpus")] = None,
    max_megabytes: Annotated[float | None, setting_option(Limits, "max_megabytes")] = None,
    max_minutes: Annotated[float | None, setting_option(Limits, "max_minutes")] = None,
    timeout: Annotated[float | None, setting_option(Limits, "timeout_s")] = None,
    max_requests: Annotated[int | None, setting_option(Limits, "max_requests")] = None,
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
    given = locals() | {"models": parse_models(models), "timeout_s": timeout}
    limits = from_options(Limits, {"timeout_s": "--timeout"}, **given_settings(Limits, given))
    given["limits"] = limits
    settings = from_options(ServingSettings, {}, **given_settings(ServingSettings, given))
    from irmas_dist.serving.serve import serve as run

    names = ", ".join(settings.models)

    def started(url: str, stays: bool) -> None:
        ending = "until 'serve shutdown'" if stays else "Ctrl-C ends it"
        say(f"{url} serves {names}; {ending}")

    run(settings, started, host, port, address)
