"""Environment variables of this process, and of those that it starts, for the length of a block."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def set_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore what they were at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def default_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set the environment variables that are missing, and remove them at the end."""
    with set_variables({name: values[name] for name in values.keys() - os.environ.keys()}):
        yield
