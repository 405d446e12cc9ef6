"""Readable errors: what was given, where, what is allowed, what to do next.

Imports only the standard library, because it is packaged with the shipped model.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error caused by the user or the environment; only its text is shown, without a traceback."""


def nearest(name: object, known: Iterable[object]) -> str:
    """ " Did you mean ...?" with the known name closest to a given one, or "" if none is close."""
    near = difflib.get_close_matches(str(name), map(str, known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[object]) -> str:
    """Names with commas between them."""
    return ", ".join(map(str, names)) or "none yet"
