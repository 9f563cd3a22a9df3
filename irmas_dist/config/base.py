"""The base of every settings model: strict, frozen, and documented field by field."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings of one subject; unknown keys and wrong types are refused, values never change.

    The docstring below a field is its description, in ``--help`` and in JSON schemas alike.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
