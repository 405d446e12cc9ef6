"""Find all mistakes in params.yaml at once; each is reported with its path and what is allowed."""

import re
from collections.abc import Mapping
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from stages.lib.core import plugins
from stages.lib.errors import UserError, listed, nearest
from stages.lib.params import across
from stages.lib.params.fields import Architecture, Strict
from stages.lib.params.schema import (
    BLOCKS,
    FORBIDDEN,
    SCALARS,
    SECTIONS,
    SINGLE,
    Alternative,
    Dataset,
    Episodes,
    Hop,
    Scratch,
    Source,
    Strategy,
    TrainingOptions,
)


def validate(raw: Mapping[str, Any]) -> SimpleNamespace:
    """Check every section, and the consistency between them.

    Returns:
        The sections as attributes; sections of blocks are dicts of blocks by name.

    Raises:
        UserError: lists every mistake, one per line, with its path in the file.
    """
    errors: list[str] = []
    for name in raw:
        if name not in SECTIONS:
            errors.append(f"{name}: unknown section.{nearest(name, SECTIONS)}")
    params = SimpleNamespace(**dict.fromkeys(SECTIONS))  # invalid sections stay None
    for name in SECTIONS:
        if name not in raw:
            errors.append(f"{name}: this section is missing.")
        elif name in SCALARS:
            top = create_model("Top", __base__=Strict, **{name: SCALARS[name]})
            setattr(params, name, getattr(_check(top, {name: raw[name]}, "", errors), name, None))
        elif name in SINGLE:
            schema: type[BaseModel] = SINGLE[name]
            unused: tuple[str, ...] = ()
            if name == "scratch":
                schema, unused = _joined(name, schema, plugins.load("strategies", "scratch"), None)
            setattr(params, name, _check(schema, raw[name], name, errors, unused))
        else:
            setattr(params, name, _blocks(name, raw[name], params.modality, errors))
    errors += across.mistakes(params)
    if errors:
        count = f"{len(errors)} mistake{'s' if len(errors) > 1 else ''}"
        raise UserError(f"params.yaml has {count}:\n" + "\n".join(f"  {error}" for error in errors))
    return params


def _blocks(section: str, raw: Any, modality: str | None, errors: list[str]) -> dict[str, BaseModel | None] | None:
    """The blocks of a section by name, None for an invalid block; None if the section does not consist of blocks."""
    schema, chooser, folder = BLOCKS[section]
    if not isinstance(raw, dict):
        errors.append(f"{section}: must hold blocks by name (or {{}} for none), {_instead(raw)}.")
        return None
    blocks: dict[str, BaseModel | None] = dict.fromkeys(raw)
    for name, block in raw.items():
        path = f"{section}.{name}"
        if section != "strategies" and (not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) or name in FORBIDDEN):
            errors.append(
                f"{path}: not a usable name. Allowed: lower-case letters, digits and _, beginning with a letter"
                f" (it becomes a file name and a DVC stage), and none of {', '.join(FORBIDDEN)}, which DVC ignores."
            )
            continue
        choice = name if chooser is None else block.get(chooser) if isinstance(block, dict) else None
        where = path if chooser is None else f"{path}.{chooser}"
        if choice in plugins.names(folder):
            joined, unused = _joined(path, schema, plugins.load(folder, choice), modality, _library(block))
            blocks[name] = _check(joined, block, path, errors, unused)
        elif choice is not None:
            allowed = plugins.names(folder)
            errors.append(f"{where}: {choice!r} does not exist.{nearest(choice, allowed)} Allowed: {listed(allowed)}.")
        else:
            blocks[name] = _check(schema, block, path, errors)
    return blocks


class _Open(BaseModel):
    """Added to a schema that is only partly known."""

    model_config = ConfigDict(extra="ignore")


@cache
def _joined(
    name: str, schema: type[BaseModel], module: ModuleType, modality: str | None, library: str | None = None
) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The schema of a block with the params of its plug-in (of the modality, and of the library of its network), and the options
    that the plug-in ignores."""
    unused: tuple[str, ...] = getattr(module, "UNUSED", ())
    bases: tuple[type[BaseModel], ...] = (module.Params, schema)
    own: dict[str, Any] = {}
    if schema in (Strategy, Hop, Alternative, Scratch):  # their blocks may override `training`
        fields = {key: field for key, field in TrainingOptions.model_fields.items() if key not in unused}
        own = {key: (_annotated(field), None) for key, field in fields.items()}
    door = plugins.load("modalities", modality) if modality else None  # if None, what depends on it is not checked
    if schema is Dataset:
        bases += (door.Packing if door else _Open,)
        own["episodes"] = (Episodes, None)  # only data that are measured by episodes have some
    if schema is Source and not getattr(module, "BRINGS_PREPROCESSING", False):
        own["preprocessing"] = (door.Preprocessing if door else Any, ...)
    if library and (extra := getattr(plugins.load("libraries", library), "Params", None)):
        own["architecture"] = (create_model("Architecture", __base__=(extra, Architecture)), ...)
    return create_model(name, __base__=bases, **own), unused


def _library(block: Any) -> str | None:
    """The library that a block's architecture names, if it is one."""
    network = block.get("architecture") if isinstance(block, dict) else None
    name = network.get("library") if isinstance(network, dict) else None
    return name if name in plugins.names("libraries") else None


def _annotated(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _check(schema: type[BaseModel], value: Any, path: str, errors: list[str], unused: tuple[str, ...] = ()) -> BaseModel | None:
    try:
        return schema.model_validate(value)
    except ValidationError as failed:
        for error in failed.errors():
            where = ".".join(str(part) for part in ([path] if path else []) + list(error["loc"]))
            if error["type"] == "extra_forbidden" and error["loc"][-1] in unused:
                errors.append(f"{where}: this strategy does not use it; leave it out (`training` has it for the others).")
            else:
                errors.append(f"{where}: {_in_words(error, schema)}")
    return None


def _in_words(error: ErrorDetails, schema: type[BaseModel]) -> str:
    inner: Any = schema  # the block that contains the key, for its list of allowed names
    for part in error["loc"] if error["type"] == "model_type" else error["loc"][:-1]:
        inner = inner.model_fields[part].annotation if part in getattr(inner, "model_fields", {}) else inner
    allowed = list(getattr(inner, "model_fields", {}))
    if error["type"] == "extra_forbidden":
        return f"unknown key.{nearest(str(error['loc'][-1]), allowed)} Allowed here: {listed(allowed)}."
    if error["type"] == "no_plugin":
        return f"{error['input']!r} does not exist.{error['ctx']['near']} Allowed: {error['ctx']['allowed']}."
    if error["type"] == "missing":
        return "this key is missing (every value stands in params.yaml; there are no hidden defaults)."
    if error["type"] == "model_type":
        return f"must be a block with the keys {listed(allowed)}, {_instead(error['input'])}."
    if error["type"] == "list_type":
        return f"must be a list in brackets ([a] or [a, b, c]), {_instead(error['input'])}."
    return f"{error['msg'].replace('Input should be', 'must be')}; given: {error['input']!r}."


def _instead(given: Any) -> str:
    """What stands where a block or a list belongs."""
    return "but it is empty" if given is None else f"not {given!r}"
