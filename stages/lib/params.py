"""The schema of params.yaml: strict, all errors at once, each with its path in the file and what is allowed.

A plug-in's own knobs are declared in its file (`Knobs`); here stand the sections and what must hold between them.
"""

import difflib
import importlib
import math
import os
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML, YAMLError

from stages.lib.errors import UserError
from stages.lib.strict import Augment, Strict

PATH = Path("params.yaml")
FORBIDDEN = ("size", "nfiles")  # DVC's run cache ignores these keys at any depth and would restore old outputs


class Device(Strict):
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: int = Field(ge=1)
    num_nodes: int = Field(ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed"]


class Split(Strict):
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    by_group: bool


class Download(Strict):
    fetch: str


class Dataset(Strict):
    raw: str = Field(min_length=1)
    reader: str
    preprocessing: str
    px: int = Field(ge=8, le=4096)
    fit: Literal["squash", "crop"]
    split: Split
    limit: int = Field(ge=0)
    max_broken: float = Field(ge=0, lt=1)
    duplicates: Literal["refuse", "drop"]
    licence: str


class Source(Strict):
    weights: str
    licence: str


class Head(Strict):
    """The layers that a training puts on the backbone (stages.lib.heads)."""

    hidden: int = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    zero: bool


class Training(Strict):
    """How any training runs; the block of a strategy, a hop or the control may hold some of these for itself."""

    optimizer: Literal["sgd", "adam", "adamw"]
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    schedule: Literal["constant", "cosine", "one_cycle", "step"]
    warmup_epochs: float = Field(ge=0)
    warmup: Literal["all", "head"]
    batch_size: int = Field(ge=1)
    label_smoothing: float = Field(ge=0, lt=1)
    balance: Literal["none", "weights", "sampling"]
    augment: Augment
    mixup: float = Field(ge=0, le=10)
    cutmix: float = Field(ge=0, le=10)
    clip_norm: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    patience: int = Field(ge=1)
    head: Head


class Checks(Strict):
    loss_jump: float = Field(gt=1)
    params_per_example: float = Field(gt=0)
    forgetting: float = Field(ge=0, le=1)


class Advise(Strict):
    num_images: int = Field(ge=20)
    neighbours: int = Field(ge=1)
    preprocessing: Literal["warn", "error"]
    margin: float = Field(ge=0, lt=1)
    confidence: float = Field(gt=0.5, lt=1)


class Strategy(Strict):
    """A block of `strategies`: the knobs of its plug-in, and the training options that it overrides."""


class Hop(Strict):
    init: str
    data: str
    strategy: str


class Target(Strict):
    data: str


class Scratch(Strict):
    like: str


class Evaluate(Strict):
    batch_size: int = Field(ge=1)
    num_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    ece_bins: int = Field(ge=2)
    num_shown: int = Field(ge=0, le=50)


class Compare(Strict):
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc"]
    num_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)


# Sections that hold one block per name: the block's own schema, the key that names its plug-in, the plug-ins' folder.
BLOCKS = {
    "download": (Download, "fetch", "downloads"),
    "datasets": (Dataset, "reader", "readers"),
    "source": (Source, "weights", "weights"),
    "intermediate": (Hop, "strategy", "strategies"),
    "strategies": (Strategy, None, "strategies"),
}
SINGLE = {"training": Training, "checks": Checks, "device": Device, "target": Target, "scratch": Scratch, "advise": Advise,
          "evaluate": Evaluate, "compare": Compare}  # fmt: skip
SCALARS = {"seed": (int, Field(ge=0)), "strategy": (str, ...), "inits": (list[str], ...), "seeds": (list[int], ...)}
SECTIONS = ["seed", "strategy", "strategies", "training", "checks", "device", "download", "datasets", "source", "intermediate"]
SECTIONS += ["target", "inits", "seeds", "scratch", "advise", "evaluate", "compare"]


def plugins(folder: str) -> list[str]:
    """Names of the plug-ins of one folder of stages/lib; a file there is its own registration."""
    return sorted(path.stem for path in (Path(__file__).parent / folder).glob("[!_]*.py"))


def plugin(folder: str, name: str) -> ModuleType:
    """The module of one plug-in."""
    return importlib.import_module(f"stages.lib.{folder}.{name}")


def block(blocks: dict[str, BaseModel], section: str, name: str) -> BaseModel:
    """One block by the name that stood on the command line."""
    if name not in blocks:
        raise UserError(f"{section} in {PATH} has no block {name!r}.{_nearest(name, blocks)} Blocks: {_list(blocks)}.")
    return blocks[name]


def knobs(block: BaseModel, module: ModuleType) -> dict[str, Any]:
    """The values in `block` that `module` declares as its own, as keyword arguments for its function."""
    return {name: getattr(block, name) for name in module.Knobs.model_fields}


def training(common: Training, block: BaseModel) -> dict[str, Any]:
    """The training options of one block: its own where it has them, else those of `training`."""
    own = block.model_dump(include=block.model_fields_set & Training.model_fields.keys())
    return common.model_dump() | own


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
            errors.append(f"{name}: unknown section.{_nearest(name, SECTIONS)}")
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
                schema, unused = _joined(name, schema, plugin("strategies", "scratch"))
            setattr(params, name, _check(schema, raw[name], name, errors, unused))
        else:
            setattr(params, name, _blocks(name, raw[name], errors))
    errors += _between(params)
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
        if choice in plugins(folder):
            joined, unused = _joined(path, schema, plugin(folder, choice))
            blocks[name] = _check(joined, block, path, errors, unused)
        elif choice is not None:
            allowed = plugins(folder)
            errors.append(f"{where}: {choice!r} does not exist.{_nearest(choice, allowed)} Allowed: {_list(allowed)}.")
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
        return f"unknown key.{_nearest(str(error['loc'][-1]), allowed)} Allowed here: {_list(allowed)}."
    if error["type"] == "missing":
        return "this key is missing (every value stands in params.yaml; there are no hidden defaults)."
    if error["type"] == "model_type":
        return f"must be a block with the keys {_list(allowed)}, not {error['input']!r}."
    return f"{error['msg'].replace('Input should be', 'must be')}; given: {error['input']!r}."


def _between(p: SimpleNamespace) -> list[str]:
    """What must hold between the sections; nothing more is asked of what is wrong by itself, which is None."""
    errors = []
    starts = None if None in (p.source, p.intermediate) else {**p.source, **p.intermediate}
    datasets, hops, strategies = (
        {name: block for name, block in (section or {}).items() if block is not None}
        for section in (p.datasets, p.intermediate, p.strategies)
    )

    def refer(path: str, name: str | None, known: dict | None, what: str) -> None:
        if None not in (name, known) and name not in known:
            errors.append(f"{path}: {name!r} is no {what}.{_nearest(name, known)} Allowed: {_list(known)}.")

    refer("strategy", p.strategy, p.strategies, "block of strategies")
    if "scratch" in (p.strategies or ()):
        errors.append("strategies.scratch: random weights are the control, which is trained anyway; its knobs stand in scratch.")
    for name in sorted((p.source or {}).keys() & (p.intermediate or {}).keys()):
        errors.append(f"intermediate.{name}: a source has this name too; both would write models/{name}.")
    for section, name in [("source", "target"), ("intermediate", "target"), ("source", "scratch"), ("intermediate", "scratch")]:
        if name in (getattr(p, section) or ()):
            errors.append(f"{section}.{name}: this name is taken (the models of the target and its control go there).")
    for name, data in datasets.items():
        refer(f"datasets.{name}.preprocessing", data.preprocessing, p.source, "source")
        folder, _, key = data.raw.rpartition("/")
        if folder == "data/raw":
            refer(f"datasets.{name}.raw", key, p.download, "block of download")
        if data.split.val + data.split.test >= 1:
            errors.append(f"datasets.{name}.split: val + test must leave images to train on; given: "
                          f"{data.split.val} + {data.split.test}.")  # fmt: skip
    errors += _leaks(datasets)
    for name, hop in hops.items():
        refer(f"intermediate.{name}.init", hop.init, starts, "source or intermediate hop")
        refer(f"intermediate.{name}.data", hop.data, p.datasets, "dataset")
        if hop.strategy in ("auto", "scratch"):
            errors.append(
                f"intermediate.{name}.strategy: {hop.strategy} is not for hops. Advice is for the target alone, and a hop from "
                "random weights is one whose init is a source of random weights."
            )
    blocks = {f"strategies.{name}": block for name, block in strategies.items()} | {"scratch": p.scratch}
    blocks |= {f"intermediate.{name}": hop for name, hop in hops.items()}
    senseless = [_senseless(path, block, p.training) for path, block in blocks.items() if None not in (block, p.training)]
    errors += dict.fromkeys(error for found in senseless for error in found)  # what several inherit is told once
    for cycle in _cycles({name: hop.init for name, hop in hops.items()}):
        errors.append(f"intermediate.{cycle[0]}.init: the hops go round in a circle: {' -> '.join(cycle)}.")
    refer("target.data", getattr(p.target, "data", None), p.datasets, "dataset")
    like = getattr(p.scratch, "like", None)
    refer("scratch.like", like, p.source, "source")
    roots = {_root(init, hops) for init in (p.inits or [])[:1]} & (p.source or {}).keys()
    if roots and like in p.source and like not in roots:
        errors.append(f"scratch.like: must be {roots.pop()!r}, which {p.inits[0]!r} starts from, or the control would be "
                      f"another network; given: {like!r}.")  # fmt: skip
    for name in p.inits or []:
        refer("inits", name, starts, "source or intermediate hop")
    for path, values in [("inits", p.inits), ("seeds", p.seeds)]:
        if values is not None and (not values or len(set(values)) < len(values)):
            errors.append(f"{path}: must name at least one, and none twice; given: {values}.")
    errors += [f"seeds: must be 0 or more; given: {seed}." for seed in p.seeds or [] if seed < 0]
    return errors


def _senseless(path: str, block: BaseModel, common: Training) -> list[str]:
    """Training options that make no sense together, or with the strategy; those that it has no use for do not count."""
    errors = []
    options = {name: value for name, value in training(common, block).items() if name in type(block).model_fields}
    warmup = options.get("warmup_epochs", 0)

    def where(*names: str) -> str:
        return path if block.model_fields_set & set(names) else "training"

    for name in ("epochs", "probe_epochs"):
        if warmup >= getattr(block, name, math.inf):
            errors.append(f"{path}.{name}: must be more than warmup_epochs ({warmup}), or the learning rate never reaches its "
                          f"peak; given: {getattr(block, name)}. A block may have a warmup_epochs of its own.")  # fmt: skip
    if options.get("schedule") == "one_cycle" and warmup:
        errors.append(f"{where('schedule', 'warmup_epochs')}: schedule one_cycle has a warm-up of its own; set warmup_epochs to "
                      f"0 (in training or in the block); given: {warmup}.")  # fmt: skip
    if options.get("warmup") == "head" and not warmup:
        errors.append(f"{where('warmup', 'warmup_epochs')}: warmup: head has nothing to warm up over; set warmup_epochs above 0, "
                      "or warmup to all.")  # fmt: skip
    return errors


def _leaks(datasets: dict[str, BaseModel]) -> list[str]:
    """Blocks that read the same images and split them otherwise: a hop would train on test images of the target.

    Other labels or groups split otherwise, too. Knobs that choose which images are read are named by the reader (SELECTS).
    """
    same: dict[str, str] = {}
    errors = []
    for name, data in datasets.items():
        reader = plugin("readers", data.reader)
        images = repr((os.path.normpath(data.raw), {knob: getattr(data, knob) for knob in getattr(reader, "SELECTS", ())}))
        first = same.setdefault(images, name)
        deciding = ["reader", *reader.Knobs.model_fields, "split", "limit", "duplicates", "max_broken"]
        other = [knob for knob in deciding if getattr(data, knob) != getattr(datasets[first], knob, None)]
        if other:
            errors.append(f"datasets.{name}: reads the same images as datasets.{first}; {', '.join(other)} must be the same too, "
                          "or training images of one would be test images of the other.")  # fmt: skip
    return errors


def _root(name: str, hops: dict[str, BaseModel]) -> str:
    """The source at the beginning of a chain."""
    seen = set()
    while name in hops and name not in seen:
        seen.add(name)
        name = hops[name].init
    return name


def _cycles(parents: dict[str, str]) -> list[list[str]]:
    found = []
    for start in parents:
        path = [start]
        while parents.get(path[-1]) is not None and len(path) <= len(parents):
            path.append(parents[path[-1]])
            if path[-1] == start:
                found.append(path)
                break
    return [cycle for cycle in found if cycle[0] == min(cycle)]  # each circle once


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(str(name), map(str, known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(names) -> str:
    return ", ".join(map(str, names)) if names else "none yet"
