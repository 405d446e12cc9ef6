"""Where a killed training goes on: kept outside DVC's outs, which DVC deletes before a rerun.

The folder is named after a hash of everything that the training depends on (code, params, parent, data), so that a
changed training never meets another one's state.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.lib.locks import alone

OVER = "over"  # file beside the state of a training that is


def root() -> Path:
    """Folder of what outlives a run; DVC_ROOT is the main repository also in the throw-away clones of experiments."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".transfer"


def key(**inputs: Any) -> str:
    """Hash of the values given, of the code that is loaded (of stages), and of the libraries it computes with.

    What fetches and reads is loaded to check params.yaml; its work is done before a training begins, and in `inputs`.
    """
    files = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    libraries = {name: version(name) for name in ("torch", "torchvision", "timm", "lightning-fabric", "numpy")}
    stages = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256(json.dumps(inputs | {"libraries": libraries}, sort_keys=True).encode())
    for path in sorted(path.resolve() for path in files if path.resolve().is_relative_to(stages)):
        if path.parent.name not in ("downloads", "readers", "weights"):
            digest.update(path.relative_to(stages).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


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
    return root() / "checkpoints" / f"{name}-{key[:16]}"


def end(name: str, key: str) -> None:
    """Note that a training is over and its model written: its state is needed only until DVC has taken the model."""
    (folder_of(name, key) / OVER).touch()


def save(path: Path, state: dict) -> None:
    """Write the state so that a kill at any moment leaves either the old or the new one, whole."""
    import torch

    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path) -> dict | None:
    """The last state that was saved, or None."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
