"""The command line of a stage: its words, one process at a time, and errors for people."""

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from stages.lib import progress
from stages.lib.errors import UserError
from stages.lib.locks import alone


def run(main: Callable[..., None]) -> None:
    """Run a stage with the words of the command line; a UserError ends it with its text instead of a traceback."""
    name, words = Path(sys.argv[0]).stem, sys.argv[1:]
    try:
        inspect.signature(main).bind(*words)
    except TypeError:
        usage = " ".join(parameter.upper() for parameter in inspect.signature(main).parameters)
        sys.exit(f"error: usage: python -m stages.{name} {usage}".rstrip())
    lock = Path(".transfer/stages") / f"{progress.file_name([name, *words])}.lock"
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of one training only the first writes
    try:
        with ExitStack() as stack:
            if first:
                stack.enter_context(alone(lock, f"stages.{name} {' '.join(words)}".rstrip()))
                stack.enter_context(progress.shown([name, *words]))
            main(*words)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
