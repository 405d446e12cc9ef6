"""How a stage or a command is run: its arguments, one process at a time, and readable errors."""

import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stages.lib.core.runs import Training
from stages.lib.errors import UserError
from stages.lib.shell import beside, progress
from stages.lib.shell.locks import alone
from stages.lib.tracking import ledger

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of a process, from torchrun, Lightning Fabric and srun
UNWRITABLE = {  # what the operating system says, and what to do
    os.strerror(errno.ENOSPC): "Make room: `python -m stages clean` deletes checkpoints of finished trainings, and "
                               "`dvc gc --all-commits --all-experiments` what no commit and no experiment needs.",
    os.strerror(errno.EDQUOT): "Make room within your quota.",
    os.strerror(errno.EROFS): "Make it writable.",
}  # fmt: skip


def run_stage(name: str, words: list[str], main: Callable[..., None]) -> None:
    """Run a stage with its command-line arguments; a UserError ends it with its text instead of a traceback.

    Args:
        main: takes one positional parameter per word. A stage that trains also has the keyword `watch`
            (stages.lib.core.runs.Watch).
    """
    parameters = inspect.signature(main).parameters.values()
    wanted = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    usage = f"usage: python -m stages {' '.join([name, *map(str.upper, wanted)])}"
    if words and words[0] in ("-h", "--help"):
        print(usage, inspect.getdoc(inspect.getmodule(main)), sep="\n\n")
        return
    if len(words) != len(wanted):
        sys.exit(f"error: {usage}")
    others: dict[str, Any] = {}
    lock = Path(".transfer/stages") / f"{progress.file_name([name, *words])}.lock"
    first = all(os.environ.get(name, "0") == "0" for name in RANKS)  # only the first process of a training writes
    with in_words(), ExitStack() as stack:
        if "watch" in {each.name for each in parameters}:
            from stages.lib.shell.watch import watch  # imports what MLflow needs

            others["watch"] = watch
        if first:
            stack.enter_context(alone(lock, " ".join([name, *words])))
            stack.enter_context(progress.shown([name, *words]))
        main(*words, **others)
        if first and name in ledger.OPENED_BY:
            ledger.note_reports()
        for kind in ledger.TRAINED_BY:
            if first and name == kind:
                ledger.note_training(Training(kind, "-".join(words), ""))
    if first and name in beside.WRITTEN_BY:
        beside.write(beside.trained())


def run_command(words: list[str], main: Callable[[list[str]], None]) -> None:
    """Run a command, which parses its arguments itself."""
    with in_words():
        main(words)


@contextmanager
def in_words() -> Iterator[None]:
    """End the program with a readable error and no traceback if the user or the disk is at fault."""
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
        sys.exit(f"error: {reason}: {Path.cwd()}. {UNWRITABLE[reason]} Then run `dvc repro` again: a training resumes after its "
                 "last complete epoch.")  # fmt: skip


def unwritable(error: BaseException | None) -> str | None:
    """Why the disk could not be written, if that is what failed; torch and safetensors wrap it in their own errors."""
    while error is not None:
        for reason in UNWRITABLE:
            if reason in str(error):
                return reason
        error = error.__cause__ or error.__context__
    return None
