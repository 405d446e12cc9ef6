"""The command line of a stage: its words, one process at a time, and errors for people."""

import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stages.lib import progress
from stages.lib.errors import UserError
from stages.lib.locks import alone

UNWRITABLE = {  # what the operating system says, and what to do
    os.strerror(errno.ENOSPC): "Make room: python -m stages.commands.clean deletes checkpoints of trainings that are over, and "
                               "dvc gc --all-commits --all-experiments what no commit and no experiment needs.",
    os.strerror(errno.EDQUOT): "Make room within your quota.",
    os.strerror(errno.EROFS): "Make it writable.",
}  # fmt: skip


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
    with in_words(), ExitStack() as stack:
        if first:
            stack.enter_context(alone(lock, f"stages.{name} {' '.join(words)}".rstrip()))
            stack.enter_context(progress.shown([name, *words]))
        main(*words)


@contextmanager
def in_words() -> Iterator[None]:
    """End the program with an error in words where the user or the disk is at fault, and without a traceback."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        reason = unwritable(error)
        if reason is None:
            raise
        sys.exit(f"error: {reason}: {Path.cwd()}. {UNWRITABLE[reason]} Then dvc repro again: a training goes on after its last "
                 "whole epoch.")  # fmt: skip


def unwritable(error: BaseException | None) -> str | None:
    """What the disk has against being written, if that is what failed; torch and safetensors wrap it in errors of their own."""
    while error is not None:
        for reason in UNWRITABLE:
            if reason in str(error):
                return reason
        error = error.__cause__ or error.__context__
    return None
