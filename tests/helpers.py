"""Nested params in tests: every leaf by its path, and a value put at one."""

from collections.abc import Iterator
from typing import Any


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
