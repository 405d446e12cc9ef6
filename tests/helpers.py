"""Nested params in tests: every leaf by its path, a value put at one, and what the check says of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from stages.lib.core import plugins
from stages.lib.errors import UserError
from stages.lib.params.validate import validate


def leaves(value: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every leaf; lists and empty blocks count as leaves."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def put(raw: dict, path: tuple[str, ...] | list[str], value: Any) -> None:
    """Set the value at a path, whose blocks are there."""
    for key in path[:-1]:
        raw = raw[key]
    raw[path[-1]] = value


def mistakes(raw: dict) -> str:
    """What the check says of params that are not valid."""
    with pytest.raises(UserError) as error:
        validate(raw)
    return str(error.value)


def places(raw):
    """The path of every block that may override options of `training`, and the options that its strategy has no use for."""
    for name in raw["strategies"]:
        yield ("strategies", name), getattr(plugins.load("strategies", name), "UNUSED", ())
    yield from ((("intermediate", name), ()) for name in raw["intermediate"])
    yield ("scratch",), ()
