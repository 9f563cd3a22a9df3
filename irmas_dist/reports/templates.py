"""The templates of pages and cards."""

from typing import Any

import jinja2


def _as_cell(text: str) -> str:
    """Return a text as a cell of a table in Markdown."""
    return text.replace("|", "\\|")


def render_template(template: str, **values: Any) -> str:
    """Render a template; in HTML values are escaped, and an undefined value is an error.

    Args:
        template: Its file name in this folder; its ending selects escaping.
        values: What it shows and the functions that it calls, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irmas_dist.reports", ""),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _as_cell
    return environment.get_template(template).render(**values)
