"""Self-contained HTML pages, all in one style."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def render(
    template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """Fill in a template; what it shows is escaped, and a value that it lacks is an error.

    Args:
        template: Its file name in this room.
        filters: Functions that it calls, by name.
        values: What it shows, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irmas_dist.reports", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**values)
