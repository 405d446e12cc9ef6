"""Where a killed training resumes: kept outside DVC's outs, which DVC deletes before a rerun.

The folder is named after a hash of everything that the training depends on (code, params, parent, data), so that a
changed training never meets another one's state.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.lib.core import runs
from stages.lib.shell.locks import alone

FINISHED = "finished"  # file beside the state of a training that is


@contextmanager
def hold(name: str, key: str) -> Iterator[Path]:
    """The file of one training's state, held by this process alone.

    Two experiments may need the same training at the same time: the second waits here until the first has ended, then
    finds its last epoch and has nothing left to do.
    """
    folder = folder_of(name, key)
    with alone(folder / "lock", name):
        yield folder / "state.pt"


def folder_of(name: str, key: str) -> Path:
    """Where the state of one training lies, and the lock of the process that trains."""
    return runs.state_folder() / "checkpoints" / f"{name}-{key[:16]}"


def finish(name: str, key: str) -> None:
    """Note that a training is finished and its model written: its state is needed only until DVC has taken the model."""
    (folder_of(name, key) / FINISHED).touch()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state so that a kill at any moment leaves either the old or the new one, whole."""
    import torch

    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The last state that was saved, or None."""
    import torch

    state: dict[str, Any] | None = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
    return state
