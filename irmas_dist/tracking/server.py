"""W&B's server: whether there is a key for it, and what it says of runs.

Nothing here is called where work would wait for it.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from irmas_dist.config.tracking import Mode, TrackingSettings
from irmas_dist.errors import first_line, without_password
from irmas_dist.terminal import say

PROGRAM = "irmas"
"""The program that made a run."""

MODES: dict[str, Mode] = {
    "online": "online", "offline": "offline", "disabled": "disabled",
    "run": "online", "dryrun": "offline", "shared": "online", "auto": "online",
}  # fmt: skip
"""Modes by their names in wandb's own settings; auto is none of these, but the default."""

REFUSALS = {"401": "it refuses the key (401)", "403": "it refuses access (403)"}
"""Answers after which nothing else is sent, by HTTP status."""


SERVICE = "its service on this machine"
"""What writes runs to disk, and sends them."""

ENDED = f"{SERVICE} has ended"
"""Why it does nothing any more."""

DAMAGED = "its file is damaged"
"""What is wrong with a run whose file has more than can be read."""

ATTEMPTS = 5
"""How often the server is asked something, a second apart, if it fails."""

RUN = """query Run($entity: String!, $project: String!, $name: String!) {
  project(name: $project, entityName: $entity) {
    run(name: $name) { config summaryMetrics historyKeys }
  }
}"""


@dataclass(frozen=True)
class Known:
    """What was logged to a run before.

    Attributes:
        last_step: The last step; -1 without one.
        config: Its configuration.
        summary: Its summary.
        name: Its display name, if that is known.
    """

    last_step: int = -1
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def resolve_mode(settings: TrackingSettings) -> Mode:
    """Return the mode that is set; auto takes wandb's own, else online with a key.

    Where a variable cannot be read, runs are kept offline: it may have named their server.
    """
    asked: str = settings.mode
    origin = ""
    problem = _drop_unreadable() if asked != "disabled" else ""
    if problem:
        asked = os.environ["WANDB_MODE"] = "offline"
    elif asked == "auto":
        asked, origin = _own_mode()
    match MODES.get(asked):
        case "offline" | "disabled" as mode:
            if not problem:
                return mode
        case None:
            os.environ["WANDB_MODE"] = "offline"  # wandb itself would not open a run.
            problem = f"{origin} is not online, offline or disabled"
        case _:
            try:
                if connection() is not None:
                    return "online"
                problem = "" if asked == "auto" else "there is no API key"
            except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
                problem = first_line(error)
    if problem:
        say(f"W&B cannot be used online ({problem}); {kept_message(settings.directory)}")
    return "offline"


def _drop_unreadable() -> str:
    """Drop the variables that wandb cannot read; return the first, and why.

    Empty ones count as none. wandb would open no run with either.
    """
    import wandb

    problem = ""
    for name, value in list(os.environ.items()):
        if not name.startswith("WANDB_") or (name == "WANDB_MODE" and value in MODES):
            continue
        try:
            wandb.Settings().update_from_env_vars({name: value})
            why = ""
        except ValidationError as error:
            why = error.errors()[0]["msg"]
        except wandb.Error as error:
            why = first_line(error)
        if why and value:
            problem = problem or f"{name}={without_password(value)}: {why}"
        if why or not value:
            del os.environ[name]
    return problem


def _own_mode() -> tuple[str, str]:
    """Return the mode that wandb is set to, or ``auto``, and what sets it."""
    from wandb.sdk import wandb_setup

    if mode := os.environ.get("WANDB_MODE"):
        return mode, f"WANDB_MODE={mode}"
    # ``wandb offline`` and ``wandb disabled`` write one.
    files = wandb_setup.singleton().settings.read_system_settings()
    mode = files.all().get("mode", "auto")
    return mode, f"mode={mode} in {' or '.join(map(str, files.sources))}"


def kept_message(directory: str | Path) -> str:
    """Return where runs are that are not uploaded, and how they are."""
    named = shlex.quote(str(directory))
    return f"kept in {Path(directory, 'wandb')}; upload later: irmas review {named} --sync"


def connection() -> Any:
    """Return wandb's settings for requests to its server; None without a key.

    WANDB_MODE does not count: whoever asks for a connection wants one. No request is made.

    Raises:
        AuthenticationError: There is a key that cannot be one.
    """
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    found = wbauth.authenticate_session(host=settings.base_url, source="irmas", prompt=False)
    if found is None:
        return None
    settings = settings.model_copy()
    settings.mode, settings.host, settings.program = "online", "", PROGRAM
    settings.resume = None  # WANDB_RESUME is of another run.
    wbauth.set_auth_settings(settings, found)
    return settings


def default_entity(timeout_s: float) -> str:
    """Return the user or team that the server takes where none is named.

    Raises:
        Exception: It does not answer in time; W&B raises many types.
    """
    if named := connection().entity:
        return str(named)
    viewer = _asked("query Viewer { viewer { entity } }", {}, timeout_s)["viewer"] or {}
    if not viewer.get("entity"):
        raise RuntimeError("the key has no user or team of its own: set tracking.entity")
    return str(viewer["entity"])


def _asked(query: str, variables: Mapping[str, str], timeout_s: float) -> Any:
    """Return the server's answer to a GraphQL query; wandb's `Api` would not say why it fails."""
    from wandb.apis.public.service_api import ServiceApi
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    settings = connection()
    settings.x_graphql_retry_max = ATTEMPTS - 1
    settings.x_graphql_retry_wait_min_seconds = settings.x_graphql_retry_wait_max_seconds = 1
    settings.x_graphql_timeout_seconds = timeout_s
    try:
        return ServiceApi(settings).execute_graphql(query, variables, 3 * timeout_s)
    except WandbApiFailedError as error:
        status = error.response and error.response.http_status
        raise RuntimeError(f"HTTP {status}: {error}" if status else str(error)) from error


def address(tracking: TrackingSettings, kind: str, name: str) -> str:
    """Return the address of a page of the project.

    Args:
        tracking: Names the project.
        kind: What the page shows: ``runs`` or ``groups``.
        name: Identity of the run, or name of the group.

    Raises:
        Exception: The server does not answer in time; W&B raises many types.
    """
    entity = tracking.entity or default_entity(tracking.timeout_s)
    parts = (entity, tracking.project, kind, name)
    return "/".join([connection().app_url, *(quote(part, safe="") for part in parts)])


def known_run(entity: str | None, project: str, run_id: str, timeout_s: float) -> Known:
    """Return what the server has of a run.

    Raises:
        Exception: The server does not answer in time; W&B raises many types.
    """
    variables = {
        "entity": entity or default_entity(timeout_s), "project": project, "name": run_id,
    }  # fmt: skip
    found = (_asked(RUN, variables, timeout_s)["project"] or {}).get("run")
    if found is None:
        return Known()
    config, summary = (
        {name: value for name, value in json.loads(text or "{}").items() if name[0] != "_"}
        for text in (found["config"], found["summaryMetrics"])
    )
    step = (found["historyKeys"] or {}).get("lastStep", -1)
    return Known(int(step), {name: one["value"] for name, one in config.items()}, summary)


def reason(problem: str, asked: str = "its server") -> str:
    """Return what W&B says of a failure in few words.

    Args:
        problem: What it says.
        asked: Of whom it says so.
    """
    # No port, such as that of 35.186.228.49:443, nor a part of a name.
    if status := re.search(r"(?<![\w:./-])([45]\d\d)(?![\w./-])", problem):
        return REFUSALS.get(status[1], f"{asked} fails ({status[1]})")
    if re.search("connection refused|no such host|unreachable|connection reset", problem):
        return f"{asked} cannot be reached"
    if re.search("[Tt]imeout|[Tt]imed out|deadline|respond in time", problem):
        return f"{asked} does not answer"
    if re.search("Failed to read|error getting next record", problem):
        return DAMAGED
    if re.search("MailboxClosed|HandleAbandoned|Connection lost", problem):
        return ENDED
    return problem.partition("\n")[0]
