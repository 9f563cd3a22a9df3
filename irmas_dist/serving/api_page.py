"""The page that describes the API, from its OpenAPI description, without external resources."""

from html import escape
from typing import Any


def api_page(description: dict[str, Any]) -> str:
    """Return the HTML of what an OpenAPI description says."""
    sections = [
        _section(method.upper(), path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    title = f"{escape(description['info']['title'])}: API"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="stylesheet" href="/page.css"></head><body>'
        f"<h1>{title}</h1><p>{escape(description['info']['description'])} Machines read "
        '<a href="/openapi.json">openapi.json</a>.</p>' + "".join(sections) + "</body></html>"
    )


def _section(method: str, path: str, operation: dict[str, Any]) -> str:
    kinds = operation.get("requestBody", {}).get("content", {})
    body = f"<p>Body: {escape(', '.join(kinds))}</p>" if kinds else ""
    names = ", ".join(each["name"] for each in operation.get("parameters", ()))
    query = f"<p>Query: {escape(names)}</p>" if names else ""
    answers = "".join(
        f'<tr><th scope="row">{escape(status)}</th><td>{escape(answer["description"])}</td></tr>'
        for status, answer in operation["responses"].items()
    )
    text = " ".join(operation.get("description", "").replace("``", "").split())
    return (
        f"<h2>{method} {escape(path)}</h2><p><b>{escape(operation['summary'])}.</b> "
        f'{escape(text)}</p>{query}{body}<table class="words"><tbody>{answers}</tbody></table>'
    )
