"""The resolved settings of one training: strategy, hyperparameters, options, and a hash of the strategy's code."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

from stages.lib.core import cards, closure, plugins, runs
from stages.lib.errors import UserError
from stages.lib.params.schema import TrainingOptions


class Recipe(BaseModel):
    """What a training stage depends on instead of sections of params.yaml, so that only changes that affect it rerun it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str
    task: str
    hyperparameters: dict[str, Any]  # of the strategy
    options: TrainingOptions
    files: dict[str, str] = {}  # sha256 of files that the training reads and its stage does not depend on, by their path
    unlabelled: str | None = None  # the dataset whose inputs, never its labels, the strategy adapts to
    left_out: dict[str, dict[str, list[int]]] = {}  # rows of a dataset's splits that it must not see, because they are in a test
    packing: dict[str, Any] = {}  # of the data that the model is made for, if it is trained on others
    code: str  # hash of the files of strategy, task and modality that a training runs, which dvc.yaml cannot name

    @property
    def plugin(self) -> ModuleType:
        """The strategy."""
        return plugins.load("strategies", self.strategy)

    def arguments(self) -> dict[str, Any]:
        """The hyperparameters as keyword arguments for the strategy's functions."""
        return plugins.arguments(self.plugin.Params.model_validate(self.hyperparameters), self.plugin)

    def settings(self) -> dict[str, Any]:
        """All settings under dotted names, as MLflow shows params, without those that the strategy does not use."""
        unused = getattr(self.plugin, "UNUSED", ())
        beside = {"unlabelled": self.unlabelled} if self.unlabelled else {}
        used = {name: value for name, value in self.options.model_dump().items() if name not in unused}
        return flat({"strategy": self.strategy, **self.hyperparameters, **used, **beside})


def write(
    path: Path, strategy: str, task: str, modality: str, block: BaseModel, common: TrainingOptions,
    **beside: Any,
) -> Recipe:  # fmt: skip
    """Resolve one block of params.yaml and write its recipe; `beside` are more fields of it."""
    plugin = plugins.load("strategies", strategy)
    recipe = Recipe(
        strategy=strategy,
        task=task,
        hyperparameters=block.model_dump(include=set(plugin.Params.model_fields), exclude_none=True),
        options=plugins.overridden(common, block),
        **beside,
        code=closure.digest(code(strategy, task, modality)),
    )
    cards.write_json(path, recipe.model_dump())
    return recipe


def read(path: Path) -> Recipe:
    """Read a recipe written by `write`."""
    return cards.parsed(path, Recipe)


def advised(blocks: Mapping[str, BaseModel]) -> str:
    """The strategy that the stage advise ranks highest among those that have a block.

    Raises:
        UserError: none of them has a block, or the stage has not run.
    """
    ranking = [entry["strategy"] for entry in cards.read_json(runs.ADVICE)["ranking"]]
    for name in ranking:
        if name in blocks:
            return str(name)
    raise UserError(
        "strategy: auto: none of the advised strategies has a block in strategies "
        f"({', '.join(ranking) or 'no advice for this task'}). "
        "Add one of them to strategies in params.yaml, or name a strategy."
    )


def code(strategy: str, task: str, modality: str) -> set[Path]:
    """Files of the plug-ins that a training runs."""
    return (
        closure.of_plugin("strategies", strategy)
        | closure.of_plugin("tasks", task, "learning")
        | closure.of_plugin("modalities", modality, "inputs")
    )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; a dict whose keys are not names (patterns of layers) stays one value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        named = isinstance(value, dict) and value and all(str(key).isidentifier() for key in value)
        found |= flat(value, f"{prefix}{name}.") if named else {f"{prefix}{name}": value}
    return found
