"""What the tasks of params.yaml take and need: inputs, heads, options, metrics, episodes."""

from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from stages.lib.core import plugins
from stages.lib.errors import listed, nearest
from stages.lib.params.schema import Dataset, Hop, Strategy


def mistakes(p: SimpleNamespace, hops: dict[str, Hop], strategies: dict[str, Strategy]) -> list[str]:
    """Settings that a task does not support: inputs, heads, options, metrics."""
    users: list[tuple[str, str, str, BaseModel]]
    users = [(f"intermediate.{name}", hop.strategy, hop.task, hop) for name, hop in hops.items()]
    if p.target:
        others = {name: block for name, block in (p.alternatives or {}).items() if block is not None}
        users += [(f"alternatives.{name}", block.strategy, p.target.task, block) for name, block in others.items()]
    if p.target and p.strategy in strategies:
        users.append(("strategy", p.strategy, p.target.task, strategies[p.strategy]))
    if p.target and p.scratch:
        users.append(("scratch", "scratch", p.target.task, p.scratch))
    errors = []
    for path, strategy, task, block in users:
        door, plugin = plugins.load("tasks", task), plugins.load("strategies", strategy)
        head = getattr(plugin, "HEAD", door.HEADS[0])  # the task's own, if it trains one
        where = path if path == "strategy" else f"{path}.strategy"
        if head not in door.HEADS:
            errors.append(
                f"{where}: {strategy} needs the head {head}, which the task {task} does not take ({listed(door.HEADS)})."
            )
        elif task not in (solved := getattr(plugin, "TASKS", (task,))):
            errors.append(f"{where}: {strategy} solves the loss of the task {listed(solved)}, and the task {task} has another "
                          "one. feature_extraction trains such a head with it, in steps.")  # fmt: skip
        options = plugins.overridden(p.training, block).model_dump() if p.training else {}
        for name, only in door.UNUSED.items():
            if name in options and name not in getattr(plugin, "UNUSED", ()) and options[name] != only:
                where = "training" if name not in block.model_fields_set else path.replace("strategy", f"strategies.{strategy}")
                errors.append(f"{where}.{name}: the task {task} does not use it; set it to {only}. Given: {options[name]}.")
        if options and "metric_learning" not in getattr(plugin, "UNUSED", ()):
            errors += _metric_learning(path.replace("strategy", f"strategies.{strategy}"), task, options, block)
    if p.modality:
        able = plugins.load("modalities", p.modality).PER
        for task in dict.fromkeys(task for _, _, task, _ in users):
            if (per := plugins.load("tasks", task).PER) not in able:
                errors.append(f"modality: the task {task} needs one output per {per}, and the modality {p.modality} has one per "
                              f"{listed(able)}.")  # fmt: skip
    if p.target and getattr(plugins.load("tasks", p.target.task), "PRETEXT", False):
        errors.append(f"target.task: {p.target.task} makes its questions from the inputs alone, and its model answers nothing "
                      "that one could ask; it is for hops.")  # fmt: skip
    advised = p.target and plugins.load("tasks", p.target.task).ADVISED
    if p.target and p.strategy == "auto" and not (advised and p.modality in advised):
        errors.append(f"strategy: auto: the advisor has not been measured on {p.modality}s and the task {p.target.task}; name a "
                      "strategy.")  # fmt: skip
    starts = {**(p.source or {}), **(p.intermediate or {})}
    taken = {"baselines": {**starts, **(p.alternatives or {})}, "alternatives": {**starts, "scratch": None, "target": None}}
    for section, known in taken.items():
        for name in sorted((getattr(p, section) or {}).keys() & known.keys()):
            errors.append(f"{section}.{name}: another arm has the same name, and their results could not be told apart.")
    for name, block in (p.baselines or {}).items():
        control: Any = plugins.load("baselines", name) if block else None
        if control and p.target and (p.target.task not in control.TASKS or p.modality not in control.MODALITIES):
            errors.append(f"baselines.{name}: it is for the task {listed(control.TASKS)} on {listed(control.MODALITIES)}; leave "
                          f"it out. Given: {p.target.task} on {p.modality}.")  # fmt: skip
    if p.target and p.compare and p.compare.metric not in (metrics := plugins.load("tasks", p.target.task).METRICS):
        errors.append(f"compare.metric: the task {p.target.task} has no {p.compare.metric!r}."
                      f"{nearest(p.compare.metric, metrics)} Allowed: {listed(metrics)}.")  # fmt: skip
    return errors


def _metric_learning(path: str, task: str, options: dict[str, Any], block: BaseModel) -> list[str]:
    """Whether the block that one task alone needs is there for it, and only for it."""
    where = f"{path if 'metric_learning' in block.model_fields_set else 'training'}.metric_learning"
    given, needed = options["metric_learning"], "metric_learning" in getattr(plugins.load("tasks", task), "OWN", ())
    if given is None and needed:
        return [f"{where}: the task {task} needs it: a block with loss, pictures, dim and what its loss needs."]
    if given is not None and not needed:
        return [f"{where}: the task {task} does not use it; set it to null (in training, or in {path})."]
    if needed and options["batch_size"] < 2 * given["pictures"]:
        return [f"{where}.pictures: a batch must hold at least two people, each with {given['pictures']} pictures; given: a "
                f"batch_size of {options['batch_size']}."]  # fmt: skip
    return []


def needs(p: SimpleNamespace, hops: dict[str, Hop], datasets: dict[str, Dataset]) -> list[str]:
    """Keys that a dataset may leave out, unless a task that is measured on it needs them."""
    measured = {f"intermediate.{name}": (hop.task, hop.data) for name, hop in hops.items()}
    measured |= {"target": (p.target.task, p.target.test)} if p.target else {}
    return [
        f"datasets.{data}.{key}: this key is missing; the task {task} ({path}) needs it."
        for path, (task, data) in measured.items()
        for key in getattr(plugins.load("tasks", task), "NEEDS", ())
        if data in datasets and getattr(datasets[data], key) is None
    ]
