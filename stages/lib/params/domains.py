"""Checks of a target that is tested on another domain than the one that it is trained on."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from stages.lib.core import plugins
from stages.lib.params.schema import Dataset, Hop


def another(p: SimpleNamespace, datasets: Mapping[str, Dataset]) -> list[str]:
    """Where the data that the target is tested on are packed differently from those that it is trained on."""
    if not (p.target and p.modality) or not {p.target.data, p.target.test} <= datasets.keys():
        return []
    data, test = datasets[p.target.data], datasets[p.target.test]
    door = plugins.load("modalities", p.modality)
    how = ["preprocessing", *(door.Packing.model_fields.keys() & door.Preprocessing.model_fields.keys())]  # `fit` may differ
    return [
        f"datasets.{p.target.test}.{key}: must be {getattr(data, key)}, as in datasets.{p.target.data}, which the target is "
        f"trained on (target.data) before it is tested on {p.target.test}; given: {getattr(test, key)}."
        for key in how
        if getattr(test, key) != getattr(data, key)
    ]


def adaptation(p: SimpleNamespace, hops: Mapping[str, Hop], others: Mapping[str, Any]) -> list[str]:
    """Strategies that adapt to unlabelled inputs, where there are none to adapt to."""
    errors = []
    users = [(f"intermediate.{name}.strategy", hop.strategy, "") for name, hop in hops.items()]
    if p.target:
        users += [(f"alternatives.{name}.strategy", block.strategy, block.data) for name, block in others.items()]
        users += [("strategy", p.strategy, p.target.data)] if p.strategy in plugins.names("strategies") else []
    for path, strategy, data in users:
        if not getattr(plugins.load("strategies", strategy), "UNLABELLED", False):
            continue
        task = plugins.load("tasks", p.target.task) if p.target else None
        if not data:
            errors.append(f"{path}: {strategy} adapts to the unlabelled inputs of target.test, so it is for the target and its "
                          "alternatives, and not for hops.")  # fmt: skip
        elif data == p.target.test:
            errors.append(f"{path}: {strategy} adapts to the unlabelled inputs of target.test, which must be another dataset "
                          f"than the labelled one; both are {data!r}. Set target.test to the domain to adapt to, or choose "
                          "another strategy.")  # fmt: skip
        elif not getattr(task, "ADAPTS", False) or (p.modality and plugins.load("modalities", p.modality).RAGGED):
            errors.append(f"{path}: {strategy} adapts to unlabelled inputs, which only works for the task classify on inputs of "
                          f"one shape (image). Given: {p.target.task} on {p.modality}.")  # fmt: skip
    return errors
