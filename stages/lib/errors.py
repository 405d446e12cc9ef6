"""Errors for people: what was given, where, what is allowed, what to do next."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user's, or of the outside world; its text is all that is shown."""


def run(main: Callable[..., None]) -> None:
    """Run a stage with the words of the command line; a UserError ends it with its text instead of a traceback."""
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
