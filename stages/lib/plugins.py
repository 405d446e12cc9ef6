"""Plug-ins, one file each in a folder of stages/lib, and what a block of params.yaml says to its own."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from stages.lib.schema import Training


def names(folder: str) -> list[str]:
    """Names of the plug-ins of one folder of stages/lib; a file there is its own registration."""
    return sorted(path.stem for path in (Path(__file__).parent / folder).glob("[!_]*.py"))


def load(folder: str, name: str) -> ModuleType:
    """The module of one plug-in."""
    return importlib.import_module(f"stages.lib.{folder}.{name}")


def knobs(block: BaseModel, module: ModuleType) -> dict[str, Any]:
    """The values in `block` that `module` declares as its own, as keyword arguments for its function."""
    return {name: getattr(block, name) for name in module.Knobs.model_fields}


def training(common: Training, block: BaseModel) -> dict[str, Any]:
    """The training options of one block: its own where it has them, else those of `training`."""
    own = block.model_dump(include=block.model_fields_set & Training.model_fields.keys())
    return common.model_dump() | own
