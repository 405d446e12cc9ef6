"""Plug-ins: each is a file or a folder inside a folder of stages/lib; no registration is needed."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel

Options = TypeVar("Options", bound=BaseModel)
LIB = Path(__file__).parents[1]


def names(kind: str) -> list[str]:
    """Names of the plug-ins of one kind, which is a folder of stages/lib."""
    files = {path.stem for path in (LIB / kind).glob("[!_]*.py")}
    return sorted(files | {path.parent.name for path in (LIB / kind).glob("[!_]*/__init__.py")})


def load(kind: str, name: str, part: str = "") -> ModuleType:
    """The module of one plug-in, or with `part` one module of its folder."""
    return importlib.import_module(".".join(["stages.lib", kind, name, *([part] if part else [])]))


def has(kind: str, name: str, part: str) -> bool:
    """Whether a plug-in that is a folder has one of its optional modules."""
    return (LIB / kind / name / f"{part}.py").exists()


def arguments(block: BaseModel, module: ModuleType) -> dict[str, Any]:
    """The values in a block of params.yaml that a plug-in declares in its Params, as keyword arguments for its functions."""
    return {name: getattr(block, name) for name in module.Params.model_fields}


def taken(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values that a function of a plug-in accepts, as keyword arguments."""
    return {name: values[name] for name in inspect.signature(function).parameters if name in values}


def overridden(common: Options, block: BaseModel) -> Options:
    """The shared options, overridden by those that a block sets itself."""
    own = block.model_fields_set & type(common).model_fields.keys()
    return common.model_copy(update={name: getattr(block, name) for name in own})
