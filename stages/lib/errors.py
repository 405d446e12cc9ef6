"""Errors for people: what was given, where, what is allowed, what to do next.

Imports nothing, because it travels with the shipped model.
"""


class UserError(Exception):
    """A mistake of the user's, or of the outside world; its text is all that is shown."""
