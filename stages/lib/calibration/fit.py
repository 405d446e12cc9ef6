"""Calibrate one trained model on the validation split."""

import math
from collections.abc import Mapping
from types import ModuleType

import numpy as np
import torch

from stages.lib.calibration import neighbours, ranks
from stages.lib.calibration.record import Record
from stages.lib.core import contracts, datasets, plugins, runs
from stages.lib.core.cards import ModelCard
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks.backbones import Model
from stages.lib.networks.inference import both, ready
from stages.lib.params.schema import Calibrate

BATCH = 64  # inputs per forward pass; limits the memory and does not affect the result
SMALLEST = 1e-6  # limit if all of validation lies on training examples, because distances are divided by it


def part(task: str) -> ModuleType | None:
    """What a task takes from validation; None if it has no such module."""
    return plugins.load("tasks", task, "calibration") if plugins.has("tasks", task, "calibration") else None


def fit(
    model: Model, card: ModelCard, device: torch.device, settings: Calibrate, left_out: Mapping[str, list[int]]
) -> tuple[Record, torch.Tensor | None]:
    """The record of a model and the training features to keep, which do not depend on any test.

    Args:
        model: in evaluation mode.
        card: of the model; says on which data it was trained.
        settings: the section `calibrate`.
        left_out: rows of the splits that its training did not see either, because they are in a test.

    Raises:
        UserError: the settings do not fit the model's outputs, or its training has diverged.
    """
    task, empty = part(card.trained_for), Record(name=card.name, model=card.sha256)
    if task is None or card.data is None:
        return empty, None
    names, folder = card.output_names or [], runs.prepared(card.data)
    train, val = (
        contracts.part(loaded, contracts.others(len(loaded.targets), left_out.get(name, [])))
        for name in ("train", "val")
        for loaded in [
            contracts.load(datasets.read_split(folder, name), card.modality, card.trained_for, names, card.how, device)
        ]
    )
    model = ready(model, val)
    bank = neighbours.bank(both(model, contracts.part(train, drawn(len(train.targets), settings.num_examples)), BATCH)[0])
    features, outputs = both(model, val, BATCH)
    if not torch.isfinite(outputs).all():
        raise UserError(f"{card.name} predicts numbers that are not finite; its training must have diverged.")
    predictions = plugins.load("tasks", card.trained_for, "outputs").predictions(outputs)
    limit, false_alarms = limit_of(neighbours.distances(features, bank, settings.neighbours).cpu().numpy(), settings.false_alarms)
    record = empty.model_copy(
        update={
            "num_examples": len(val.targets),
            "task": task.fitted(predictions, val.targets.cpu().numpy(), names, settings),
            "neighbours": settings.neighbours,
            "limit": limit,
            "false_alarms": false_alarms,
        }
    )
    return record, bank


def drawn(num: int, most: int) -> torch.Tensor:
    """Rows of the training examples whose features are kept: `most` of them, drawn at random but always the same, or all."""
    generator = torch.Generator().manual_seed(seed_for(0, "calibrate", "bank"))
    return torch.randperm(num, generator=generator)[:most].sort().values


def limit_of(distances: np.ndarray, false_alarms: float) -> tuple[float, float]:
    """The limit that inputs like those of validation exceed at most this often, and how often that is.

    With too few of validation for that (19 for 0.05) the limit is the largest distance, and the share what they can promise.
    """
    limit, share = ranks.upper(distances, 1 - false_alarms), false_alarms
    if math.isinf(limit):
        limit, share = float(distances.max()), 1 - ranks.most(len(distances))
    return max(limit, SMALLEST), round(share, 6)


def told(record: Record) -> str:
    """A record in words."""
    if record.task is None or record.false_alarms is None:
        return "this task is not calibrated"
    words = f"on {record.num_examples} validation examples; {record.false_alarms:.1%} of such are called unlike the training data"
    if decision := record.task.get("decision"):
        words += f"; {decision['label']} from a probability of {decision['threshold']:.3g} on"
    return words
