"""What OpenAPI says of the requests with audio, of their answers, and of what is refused."""

from typing import Any

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["url"],
                    "properties": {"url": {"type": "string"}, "model": {"type": "string"}},
                }
            },
        },
    },
    "parameters": [
        {"name": "model", "in": "query", "schema": {"type": "string"}},
        {"name": "name", "in": "query", "schema": {"type": "string"}},
    ],
}
"""What OpenAPI says of the requests with audio."""

NUMBERS = {"type": "array", "items": {"type": "number"}}
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}

WINDOWS = {
    "type": "object",
    "properties": {
        "codes": TEXTS,
        "starts": NUMBERS,
        "ends": NUMBERS,
        "windows": {"type": "array", "items": NUMBERS},
    },
}
"""Of a timeline."""


def answer(*, timeline: bool) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the answer to audio."""
    prediction: dict[str, Any] = {
        "path": TEXT,
        "instruments": TEXTS,
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "note": {"type": ["string", "null"]},
        "adapted_to": TEXT,
    }
    if timeline:
        prediction["timeline"] = WINDOWS
    properties = {
        "model": {"type": "object", "properties": {"name": TEXT, "digest": TEXT}},
        "predictions": {"type": "array", "items": {"type": "object", "properties": prediction}},
    }
    content = {"application/json": {"schema": {"type": "object", "properties": properties}}}
    events = {"text/event-stream": {"schema": TEXT}} if timeline else {}
    return {200: {"description": "The prediction.", "content": content | events}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be read."},
    401: {"description": "The token is missing or wrong."},
    403: {"description": "The URL is not one that the server reads, or another site asks."},
    408: {"description": "The upload pauses for too long."},
    413: {"description": "The upload is too large."},
    421: {"description": "The Host is not this machine, and there is no token."},
    422: {"description": "The audio cannot be used, or is too long."},
    429: {"description": "Too many requests at a time; see Retry-After."},
    503: {
        "description": "A replica or a part of it failed, or there is none, or an object store "
        "does not answer; see Retry-After."
    },
    504: {"description": "The time is over."},
}
