"""What the calibration of a model (stages.lib.calibration), made on validation, does on the test split."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib.calibration import fit, neighbours
from stages.lib.calibration.record import UNLIKE, Calibration
from stages.lib.core.cards import ModelCard
from stages.lib.core.seeds import seed_for
from stages.lib.evaluation import measure, statistics
from stages.lib.evaluation.measure import Predictions
from stages.lib.networks.backbones import Model
from stages.lib.networks.inference import both, ready
from stages.lib.params.schema import Evaluate


class Calibrated(NamedTuple):
    """Predictions for a test split, and how far its examples are from the training data."""

    predictions: Predictions
    unlike: np.ndarray  # (N,), above 1 for those unlike the training data


def predictions(
    model: Model, device: torch.device, card: ModelCard, data: Path, batch_size: int, calibration: Calibration
) -> Calibrated:
    """Predict the test split of a prepared dataset, as measure.predictions does."""
    split, loaded = measure.test_of(card, data, device)
    features, outputs = both(ready(model, loaded), loaded, batch_size)
    far = neighbours.distances(features, calibration.bank.to(device), calibration.record.neighbours)
    return Calibrated(measure.of_outputs(card, outputs, split, loaded), calibration.unlike(far.cpu().numpy()))


def measured(found: Calibrated, card: ModelCard, calibration: Calibration, settings: Evaluate) -> dict[str, Any]:
    """Figures of the decision, the prediction sets and the distances; how often an example of the test is called unlike the
    training data, which is a false alarm as long as the test is drawn as they were."""
    record, (values, targets, *_) = calibration.record, found.predictions
    groups, seed = statistics.units(found.predictions.groups), seed_for(0, "evaluate", "bootstrap")
    task = fit.part(card.trained_for)
    assert task is not None and record.task is not None, "there is a calibration"
    own = task.measured(values, targets, groups, card.output_names, record.task, record.num_examples, settings, seed)
    alarms = statistics.proportion(
        found.unlike > 1, groups, num_resamples=settings.num_resamples, confidence=settings.confidence, seed=seed
    )
    return {**own, UNLIKE: alarms | {"expected": record.false_alarms}}
