"""Errors for people: what was given, where, what is allowed, what to do next.

Imports the standard library alone, because it travels with the shipped model.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, or of the outside world; its text is all that is shown."""


def nearest(name: object, known: Iterable[object]) -> str:
    """ " Did you mean ...?" with the known name that is most like a given one, or "" where none is."""
    near = difflib.get_close_matches(str(name), map(str, known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[object]) -> str:
    """Names with commas between them."""
    return ", ".join(map(str, names)) or "none yet"
