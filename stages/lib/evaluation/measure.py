"""Open the test split and measure a trained model. No other module opens it, and nothing here trains or selects a model."""

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from stages.lib.core import cards, contracts, datasets, plugins
from stages.lib.core.cards import DataCard, ModelCard
from stages.lib.core.datasets import PackedSplit
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError, listed
from stages.lib.evaluation import statistics
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
from stages.lib.networks.inference import predict, ready
from stages.lib.params.schema import Device, Evaluate


class Predictions(NamedTuple):
    """A model's predictions for a test split: of each example, or of each unit that its task makes of them."""

    values: np.ndarray  # (N, ...) float32, as the task's `measures` module expects them
    targets: np.ndarray  # (N, ...)
    split: PackedSplit  # the examples
    units: list[str] | None = None  # name of each unit, if the task makes others than the examples

    @property
    def keys(self) -> list[str]:
        """The name of each (N,)."""
        return self.split.keys if self.units is None else self.units

    @property
    def groups(self) -> np.ndarray | None:
        """What each belongs to (N,), or None."""
        return self.split.groups if self.units is None else None


def require_fit(folder: Path, card: ModelCard, data: Path) -> DataCard:
    """The card of the data; a UserError if the model does not fit them, because its metrics would be meaningless."""
    packed = cards.read_data_card(data)
    expected: list[str] = card.output_names or []
    if packed.labels is not None:
        expected = plugins.load("tasks", card.trained_for, "learning").outputs(packed.labels)
    if expected != card.output_names:
        raise UserError(
            f"{folder} knows {listed(card.output_names or [])}, and {data} has {listed(expected)}; they must be the same."
        )
    for name, given in packed.packing.items():
        wanted = card.preprocessing[name]
        if given != wanted:
            raise UserError(
                f"{data} was prepared with {name} {given}, and {folder} was trained with {wanted}. "
                "Make both again with: dvc repro"
            )
    return packed


def why_not(card: ModelCard, task: str, data: Path) -> str:
    """Why a model cannot be measured on data of another training's task, or "" if it can.

    Args:
        task: of the data.
    """
    packed = cards.read_data_card(data)
    train = datasets.read_split(data, "train")
    names = plugins.load("tasks", task, "learning").outputs(train.labels)
    if card.task != task:
        return f"it was trained for the task {card.task}, and not for {task}."
    if names and card.output_names != names:
        return f"its outputs mean {shortened(card.output_names or [])}, and not {shortened(names)}."
    differ = [name for name, given in packed.packing.items() if given != card.preprocessing.get(name)]
    if differ:
        return f"its inputs were packed with another {listed(differ)}."
    return ""


def shortened(names: list[str]) -> str:
    """A list of names for a message, of which the first are enough."""
    return listed(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def network(tensors: dict[str, torch.Tensor], card: ModelCard, device: Device) -> tuple[backbones.Model, torch.device]:
    """The trained network in evaluation mode, and its device.

    Always one process, float32 and deterministic, whatever the training used, so that the metrics are those of the saved weights.
    """
    fabric = launch(accelerator=device.accelerator, devices=1, num_nodes=1, precision="32-true", deterministic=True)
    model = backbones.trained(tensors, card.architecture, card.num_outputs)
    model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    return model, fabric.device


def predictions(model: backbones.Model, device: torch.device, card: ModelCard, data: Path, batch_size: int) -> Predictions:
    """Predict the test split of a prepared dataset."""
    split, loaded = test_of(card, data, device)
    return of_outputs(card, predict(ready(model, loaded), loaded, batch_size), split, loaded)


def test_of(card: ModelCard, data: Path, device: torch.device) -> tuple[PackedSplit, contracts.LoadedSplit]:
    """The test split of a prepared dataset, as it is packed and as a model takes it."""
    split = datasets.read_split(data, "test")
    return split, contracts.load(split, card.modality, card.trained_for, card.output_names or [], card.how, device)


def of_outputs(card: ModelCard, outputs: torch.Tensor, split: PackedSplit, loaded: contracts.LoadedSplit) -> Predictions:
    """Predictions from a model's outputs (N, ...) for the test split."""
    if not torch.isfinite(outputs).all():
        raise UserError(f"{card.name} predicts numbers that are not finite; its training must have diverged.")
    values = plugins.load("tasks", card.trained_for, "outputs").predictions(outputs)
    return _of_units(card.trained_for, values, loaded.targets.cpu().numpy(), split)


def _of_units(task: str, values: np.ndarray, targets: np.ndarray, split: PackedSplit) -> Predictions:
    """Predictions of what the task measures, from those of the examples."""
    measures = plugins.load("tasks", task, "measures")
    if not hasattr(measures, "units"):
        return Predictions(values, targets, split)
    found: contracts.Units = measures.units(values, split)
    return Predictions(found.values, found.targets, split, found.keys)


def baseline(plugin: ModuleType, params: dict[str, Any], data: Path, test: Path, task: str) -> tuple[Predictions, list[str]]:
    """Predictions of a control without a network for the test split, and what they mean.

    Args:
        plugin: of stages/lib/baselines, and its params; it gets the training and validation examples, and the test's without
            their labels.
        data, test: folders of the data to learn from, and of the data to be tested on.
    """
    train, val = (datasets.read_split(data, name) for name in ("train", "val"))
    asked = datasets.read_split(test, "test")
    learning = plugins.load("tasks", task, "learning")
    names = learning.outputs(train.labels)
    learning.targets(val.labels, names)  # a UserError if training has no such labels
    values = plugin.predictions(train, val, asked._replace(labels=[""] * len(asked.labels)), names, **params)
    return _of_units(task, values, learning.targets(asked.labels, names).numpy(), asked), names


def report(
    found: Predictions, task: str, names: list[str], packed: DataCard, settings: Evaluate, model: str | None
) -> dict[str, Any]:
    """All metrics of a model with their intervals, as stored in report.json.

    Args:
        names: what its outputs mean.
        model: sha256 of the weights that were measured; None for a control without a network.
    """
    groups = statistics.units(found.groups)
    # A fixed seed, not the experiment's: every model is measured on the same resamples.
    seed = seed_for(0, "evaluate", "bootstrap")
    measures = plugins.load("tasks", task, "measures")
    figures: dict[str, Any] = measures.report(found.values, found.targets, groups, names, settings, seed)
    name, metric = contracts.primary(task)
    chance = contracts.chance(task, name, found.targets, len(names))
    return figures | {
        "task": task,
        "data": packed.name,
        "model": model,
        "test": cards.digest_of_split(packed, "test"),
        "primary": {"name": name, "higher_is_better": metric.higher_is_better, "fraction": metric.fraction},
        "chance": None if chance is None else round(chance, 6),
        "num_examples": len(found.keys),
        "num_groups": None if groups is None else len(set(groups)),
        "grouped": groups is not None,
        "confidence": settings.confidence,
        "split_by_group": packed.settings["split"]["by_group"],
        "split_given": "test" in packed.given_splits,
    }


def write(folder: Path, found: Predictions, report: dict[str, Any], task: str, names: list[str], settings: Evaluate) -> None:
    """Write report.json, predictions.csv, and the task's own tables and plots."""
    measures = plugins.load("tasks", task, "measures")
    cards.write_json(folder / "report.json", report)
    groups = "" if found.groups is None else found.groups
    columns = measures.table(found.values, found.targets, names)
    pd.DataFrame({"key": found.keys, "group": groups} | columns).to_csv(folder / "predictions.csv", index=False)
    measures.write(folder, found.values, found.targets, report, folder.name, settings)


def show(folder: Path, model: backbones.Model, card: ModelCard, found: Predictions, num: int) -> None:
    """Show the `num` most confident mistakes of the model, and half as many correct predictions; not of a pretext task, whose
    questions are not in the data."""
    if getattr(plugins.load("tasks", card.trained_for), "PRETEXT", False):
        return
    measures, modality = plugins.load("tasks", card.trained_for, "measures"), plugins.load("modalities", card.modality, "explain")
    chosen = measures.most_certain(found.values, found.targets, found.split.keys, card.output_names, num)
    modality.explained(folder / modality.FILE, model, card.how, found.split, *chosen)
