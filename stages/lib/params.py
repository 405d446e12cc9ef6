"""params.yaml: read as DVC reads it, checked as a whole, with all mistakes at once, each with its path and what is allowed."""

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML, YAMLError

from stages.lib import consistency, plugins
from stages.lib.errors import UserError, listed, nearest
from stages.lib.schema import BLOCKS, FORBIDDEN, SCALARS, SECTIONS, SINGLE, Hop, Scratch, Strategy, Training
from stages.lib.strict import Strict

PATH = Path("params.yaml")


def block(blocks: dict[str, BaseModel], section: str, name: str) -> BaseModel:
    """One block by the name that stood on the command line."""
    if name not in blocks:
        raise UserError(f"{section} in {PATH} has no block {name!r}.{nearest(name, blocks)} Blocks: {listed(blocks)}.")
    return blocks[name]


def load(*sections: str, path: Path = PATH) -> SimpleNamespace:
    """Read params.yaml, check all of it, and return only the sections that a stage asks for.

    Raises:
        UserError: the file is missing, is no YAML, or holds mistakes; the text lists all of them.
    """
    checked = validate(read(path))
    return SimpleNamespace(**{name: getattr(checked, name) for name in sections})


def read(path: Path = PATH) -> dict:
    """The raw values, parsed as DVC parses them (YAML 1.2: 1e-3 is a number, `no` is a word)."""
    try:
        raw = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not here ({Path.cwd()}). Run the command in the root of the repository.") from None
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML. {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold sections ({', '.join(SECTIONS)}), not {type(raw).__name__}.")
    return raw


def validate(raw: dict) -> SimpleNamespace:
    """Check every section and what must hold between them.

    Returns:
        The sections as attributes; sections of blocks are dicts of blocks by name.

    Raises:
        UserError: with every mistake, one a line, each with its path in the file.
    """
    errors: list[str] = []
    for name in raw:
        if name not in SECTIONS:
            errors.append(f"{name}: unknown section.{nearest(name, SECTIONS)}")
    params = SimpleNamespace(**dict.fromkeys(SECTIONS))  # what is wrong by itself stays None
    for name in SECTIONS:
        if name not in raw:
            errors.append(f"{name}: this section is missing.")
        elif name in SCALARS:
            schema = create_model("Top", __base__=Strict, **{name: SCALARS[name]})
            setattr(params, name, getattr(_check(schema, {name: raw[name]}, "", errors), name, None))
        elif name in SINGLE:
            schema, unused = SINGLE[name], ()
            if name == "scratch":
                schema, unused = _joined(name, schema, plugins.load("strategies", "scratch"))
            setattr(params, name, _check(schema, raw[name], name, errors, unused))
        else:
            setattr(params, name, _blocks(name, raw[name], errors))
    errors += consistency.mistakes(params)
    if errors:
        count = f"{len(errors)} mistake{'s' if len(errors) > 1 else ''}"
        raise UserError(f"params.yaml has {count}:\n" + "\n".join(f"  {error}" for error in errors))
    return params


def _blocks(section: str, raw: Any, errors: list[str]) -> dict[str, BaseModel | None] | None:
    """The blocks of a section by name; None for one that is wrong by itself, and for a section that holds no blocks."""
    schema, chooser, folder = BLOCKS[section]
    if not isinstance(raw, dict):
        errors.append(f"{section}: must hold blocks by name (or {{}} for none), not {raw!r}.")
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
            joined, unused = _joined(path, schema, plugins.load(folder, choice))
            blocks[name] = _check(joined, block, path, errors, unused)
        elif choice is not None:
            allowed = plugins.names(folder)
            errors.append(f"{where}: {choice!r} does not exist.{nearest(choice, allowed)} Allowed: {listed(allowed)}.")
        else:
            blocks[name] = _check(schema, block, path, errors)
    return blocks


def _joined(name: str, schema: type[BaseModel], module: ModuleType) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The schema of a block with the knobs of its plug-in, and the training options that the plug-in has no use for."""
    unused = getattr(module, "UNUSED", ())
    own = {}
    if schema in (Strategy, Hop, Scratch):  # their blocks may override what `training` says
        fields = {key: field for key, field in Training.model_fields.items() if key not in unused}
        own = {key: (_annotated(field), None) for key, field in fields.items()}
    return create_model(name, __base__=(module.Knobs, schema), **own), unused


def _annotated(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _check(schema: type[BaseModel], value: Any, path: str, errors: list[str], unused=()) -> BaseModel | None:
    try:
        return schema.model_validate(value)
    except ValidationError as failed:
        for error in failed.errors():
            where = ".".join(str(part) for part in ([path] if path else []) + list(error["loc"]))
            if error["type"] == "extra_forbidden" and error["loc"][-1] in unused:
                errors.append(f"{where}: this strategy has no use for it; leave it out (`training` has it for the others).")
            else:
                errors.append(f"{where}: {_in_words(error, schema)}")
    return None


def _in_words(error: dict, schema: type[BaseModel]) -> str:
    inner = schema  # the block that holds the key, for the names that are allowed there
    for part in error["loc"] if error["type"] == "model_type" else error["loc"][:-1]:
        inner = inner.model_fields[part].annotation if part in getattr(inner, "model_fields", {}) else inner
    allowed = list(getattr(inner, "model_fields", {}))
    if error["type"] == "extra_forbidden":
        return f"unknown key.{nearest(str(error['loc'][-1]), allowed)} Allowed here: {listed(allowed)}."
    if error["type"] == "missing":
        return "this key is missing (every value stands in params.yaml; there are no hidden defaults)."
    if error["type"] == "model_type":
        return f"must be a block with the keys {listed(allowed)}, not {error['input']!r}."
    return f"{error['msg'].replace('Input should be', 'must be')}; given: {error['input']!r}."
