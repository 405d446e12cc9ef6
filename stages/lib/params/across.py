"""Checks across the sections of params.yaml, after each section has been checked separately."""

import itertools
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from stages.lib.core import plugins
from stages.lib.errors import listed, nearest
from stages.lib.params import domains, licensing, tasks
from stages.lib.params.schema import Dataset, Hop, TrainingOptions


def mistakes(p: SimpleNamespace) -> list[str]:
    """The mistakes across sections; an invalid section or block is None and not checked further."""
    errors = []
    starts = None if None in (p.source, p.intermediate) else {**p.source, **p.intermediate}
    datasets, hops, strategies = (
        {name: block for name, block in (section or {}).items() if block is not None}
        for section in (p.datasets, p.intermediate, p.strategies)
    )

    def refer(path: str, name: str | None, known: Mapping[str, object] | None, what: str) -> None:
        if name is not None and known is not None and name not in known:
            errors.append(f"{path}: {name!r} is not a {what}.{nearest(name, known)} Allowed: {listed(known)}.")

    refer("strategy", p.strategy, p.strategies, "block of strategies")
    if "scratch" in (p.strategies or ()):
        errors.append(
            "strategies.scratch: scratch is not a strategy. The control from random weights is always trained; configure it in "
            "the section scratch."
        )
    for name in sorted((p.source or {}).keys() & (p.intermediate or {}).keys()):
        errors.append(f"intermediate.{name}: a source has the same name, and both would write models/{name}.")
    for section, name in [("source", "target"), ("intermediate", "target"), ("source", "scratch"), ("intermediate", "scratch")]:
        if name in (getattr(p, section) or ()):
            errors.append(f"{section}.{name}: this name is taken (the models of the target and its control go there).")
    for name, data in datasets.items():
        refer(f"datasets.{name}.preprocessing", data.preprocessing, p.source, "source")
        folder, _, key = data.raw.rpartition("/")
        if folder == "data/raw":
            refer(f"datasets.{name}.raw", key, p.download, "block of download")
        if data.split.val + data.split.test >= 1:
            errors.append(f"datasets.{name}.split: val + test must leave examples to train on; given: "
                          f"{data.split.val} + {data.split.test}.")  # fmt: skip
    errors += _leaks(datasets) + _channels(p.source or {})
    for name, hop in hops.items():
        refer(f"intermediate.{name}.init", hop.init, starts, "source or intermediate hop")
        refer(f"intermediate.{name}.data", hop.data, p.datasets, "dataset")
        if hop.strategy in ("auto", "scratch"):
            errors.append(
                f"intermediate.{name}.strategy: {hop.strategy} is not for hops. Advice is for the target alone, and a hop from "
                "random weights is one whose init is a source of random weights."
            )
    others = {name: block for name, block in (p.alternatives or {}).items() if block is not None}
    errors += _alternatives(p, others)
    blocks = {f"strategies.{name}": block for name, block in strategies.items()} | {"scratch": p.scratch}
    blocks |= {f"alternatives.{name}": block for name, block in others.items()}
    blocks |= {f"intermediate.{name}": hop for name, hop in hops.items()}
    known = [(path, block) for path, block in blocks.items() if None not in (block, p.training)]
    senseless = [_senseless(path, block, p.training, p.modality) for path, block in known]
    errors += dict.fromkeys(error for found in senseless for error in found)  # inherited mistakes are reported once
    errors += tasks.mistakes(p, hops, strategies) + tasks.needs(p, hops, datasets)
    for cycle in _cycles({name: hop.init for name, hop in hops.items()}):
        errors.append(f"intermediate.{cycle[0]}.init: the hops form a cycle: {' -> '.join(cycle)}.")
    refer("target.data", getattr(p.target, "data", None), p.datasets, "dataset")
    refer("target.test", getattr(p.target, "test", None), p.datasets, "dataset")
    errors += domains.another(p, datasets) + domains.adaptation(p, hops, others)
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
    errors += _looks(getattr(p.compare, "looks", []), p.seeds)
    errors += licensing.mistakes(p, hops, datasets)
    errors += [f"seeds: must be 0 or more; given: {seed}." for seed in p.seeds or [] if seed < 0]
    return errors


def _looks(looks: list[int], seeds: list[int] | None) -> list[str]:
    """Why seeds do not follow the plan by which they are added, or nothing."""
    if any(later <= earlier for earlier, later in itertools.pairwise(looks)):
        return [f"compare.looks: must rise, as numbers of seeds do; given: {looks}."]
    if looks and seeds and len(seeds) not in looks:
        return [f"seeds: there are {len(seeds)}, and compare.looks plans to look at {listed(looks)} of them. "
                "`python -m stages decide` adds seeds as planned; [] is no plan."]  # fmt: skip
    return []


def _alternatives(p: SimpleNamespace, others: Mapping[str, Any]) -> list[str]:
    """Blocks of `alternatives` that cannot be an arm of the comparison."""
    errors = []
    for name, block in others.items():
        if block.strategy in ("auto", "scratch"):
            errors.append(f"alternatives.{name}.strategy: {block.strategy} is not for alternatives; name a strategy. Advice is "
                          "for the target alone, and the control from random weights is in the section scratch.")  # fmt: skip
        if p.target and block.data not in (p.target.data, p.target.test):
            allowed = listed(dict.fromkeys((p.target.data, p.target.test)))
            errors.append(f"alternatives.{name}.data: must be the target's data or test ({allowed}); given: {block.data!r}. To "
                          "train on other data first, add a hop (intermediate) and name it in inits.")  # fmt: skip
    return errors


def _senseless(path: str, block: Any, common: TrainingOptions, modality: str | None) -> list[str]:
    """Training options that conflict with each other, the strategy or the modality; unused options are not checked."""
    errors = []
    chosen = plugins.overridden(common, block)
    options = {name: getattr(chosen, name) for name in TrainingOptions.model_fields if name in type(block).model_fields}
    warmup = options.get("warmup_epochs", 0)

    def where(*names: str) -> str:
        return path if block.model_fields_set & set(names) else "training"

    for name in [name for name in ("epochs", "probe_epochs") if name in type(block).model_fields]:
        if warmup >= getattr(block, name):
            errors.append(f"{path}.{name}: must be more than warmup_epochs ({warmup}), or the learning rate never reaches its "
                          f"peak; given: {getattr(block, name)}. A block may have a warmup_epochs of its own.")  # fmt: skip
    if options.get("schedule") == "one_cycle" and warmup:
        errors.append(f"{where('schedule', 'warmup_epochs')}: schedule one_cycle has a warm-up of its own; set warmup_epochs to "
                      f"0 (in training or in the block); given: {warmup}.")  # fmt: skip
    if options.get("warmup") == "head" and not warmup:
        errors.append(f"{where('warmup', 'warmup_epochs')}: warmup: head has nothing to warm up over; set warmup_epochs above 0, "
                      "or warmup to all.")  # fmt: skip
    mixed = [name for name in ("mixup", "cutmix") if options.get(name)]
    if mixed and options["batch_size"] == 1:
        errors.append(f"{where('batch_size', *mixed)}: {' and '.join(mixed)} mixes the examples of a batch; set batch_size to 2 "
                      f"or more, or {' and '.join(mixed)} to 0.")  # fmt: skip
    door = plugins.load("modalities", modality) if modality else None
    if door and mixed and not door.MIXES:
        errors.append(f"{where(*mixed)}: {' and '.join(mixed)}: the modality {modality} cannot mix its inputs; set it to 0.")
    if door and (level := options.get("augment", "none")) not in door.AUGMENTATIONS:
        errors.append(f"{where('augment')}.augment: the modality {modality} has no {level!r}."
                      f"{nearest(level, door.AUGMENTATIONS)} Allowed: {listed(door.AUGMENTATIONS)}.")  # fmt: skip
    if options.get("schedule") == "step" and warmup >= block.epochs / 2:
        errors.append(f"{where('schedule', 'warmup_epochs')}: schedule step lowers the learning rate at half of the epochs "
                      f"({path}.epochs: {block.epochs}), so warmup_epochs must be less than that; given: {warmup}.")  # fmt: skip
    return errors


def _channels(sources: Mapping[str, Any]) -> list[str]:
    """Sources whose preprocessing gives images of other channels than their network takes."""
    errors = []
    for name, source in sources.items():
        given = getattr(getattr(source, "preprocessing", None), "channels", None)  # None: it has no images, or brings its own
        if given is None:
            continue
        network = source.architecture
        takes = getattr(plugins.load("libraries", network.library), "channels", lambda model: 3)(network.model)
        if given != takes:
            errors.append(f"source.{name}.preprocessing: mean and std have {given} channel{'s' * (given > 1)} each, but the "
                          f"network {network.model} takes {takes} (3: red, green, blue; 1: grey).")  # fmt: skip
    return errors


def _leaks(datasets: dict[str, Dataset]) -> list[str]:
    """Blocks that read the same examples but split them differently: a hop would train on test examples of the target.

    Different labels or groups lead to a different split, too. A reader's SELECTS names the params that select its examples.
    """
    same: dict[str, str] = {}
    errors = []
    for name, data in datasets.items():
        reader = plugins.load("readers", data.reader)
        examples = repr((os.path.normpath(data.raw), {key: getattr(data, key) for key in getattr(reader, "SELECTS", ())}))
        first = same.setdefault(examples, name)
        deciding = ["reader", *reader.Params.model_fields, "split", "limit", "duplicates", "max_broken"]
        other = [key for key in deciding if getattr(data, key) != getattr(datasets[first], key, None)]
        if other:
            errors.append(f"datasets.{name}: reads the same examples as datasets.{first}, so {', '.join(other)} must be the same "
                          "too, or training examples of one would be test examples of the other.")  # fmt: skip
    return errors


def _root(name: str, hops: dict[str, Hop]) -> str:
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
    return [cycle for cycle in found if cycle[0] == min(cycle)]  # each cycle once
