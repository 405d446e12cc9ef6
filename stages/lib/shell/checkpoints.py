"""Checkpoints from which a killed training resumes, outside DVC's outs, because DVC deletes these before a rerun.

Each folder is named after a hash of everything that the training depends on (code, params, parent, data), so a changed
training never resumes from another one's state. The number of threads, which changes bits too, is not in the hash: a training
keeps the one with which it began.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.lib.core import runs
from stages.lib.shell.locks import alone

FINISHED = "finished"  # marker file next to the state of a finished training
THREADS = "threads"  # their number, in a state


@contextmanager
def hold(name: str, key: str) -> Iterator[Path]:
    """The file of one training's state, locked by this process.

    Two experiments may need the same training at the same time: the second one waits here until the first has ended, then
    finds the state of its last epoch and has nothing left to do.
    """
    folder = folder_of(name, key)
    with alone(folder / "lock", name):
        yield folder / "state.pt"


def folder_of(name: str, key: str) -> Path:
    """Folder of one training's state and of the lock of the process that trains it."""
    return runs.state_folder() / "checkpoints" / f"{name}-{key[:16]}"


def finish(name: str, key: str) -> None:
    """Mark a training as finished, with its model written: its state is needed only until DVC has stored the model."""
    (folder_of(name, key) / FINISHED).touch()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state atomically: a kill at any moment leaves either the old or the new one, complete."""
    import torch

    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state | {THREADS: torch.get_num_threads()}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The last saved state, or None; from here on torch has as many threads as when it was saved."""
    import torch

    state: dict[str, Any] | None = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
    here = torch.get_num_threads()
    if state is not None and (began := state.pop(THREADS, here)) != here:
        torch.set_num_threads(began)
        print(f"The training goes on with the number of threads with which it began, {began}: {here} would give other bits.",
              file=sys.stderr, flush=True)  # fmt: skip
    return state
