"""An earlier task of the chain, evaluated with the backbone of a later model and the task's original head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.lib.core import cards, contracts, plugins
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import Training, prepared
from stages.lib.core.seeds import seed_for
from stages.lib.evaluation import measure, pairing, statistics
from stages.lib.networks.interpolation import between
from stages.lib.params.schema import Device, Evaluate

Tensors = dict[str, torch.Tensor]


@dataclass
class Earlier:
    """A hop's task, and the hop's own predictions on its test split."""

    task: str
    name: str  # of the metric: the task's primary one, or the one that it declares for this (EARLIER)
    metric: Metric
    names: list[str]  # of the outputs
    head: Tensors
    before: measure.Predictions
    predict: Callable[[Tensors], measure.Predictions]  # from the tensors of a whole network
    settings: Evaluate

    @classmethod
    def of(cls, hop: Training, device: Device, settings: Evaluate) -> "Earlier":
        """Open the hop's model and its test split."""
        tensors, card = cards.read_model(hop.model)
        folder = prepared(hop.data)
        measure.require_fit(hop.model, card, folder)

        def predict(tensors: Tensors) -> measure.Predictions:
            return measure.predictions(*measure.network(tensors, card, device), card, folder, settings.batch_size)

        measures = plugins.load("tasks", card.trained_for, "measures")
        name = getattr(measures, "EARLIER", None) or contracts.primary(card.trained_for)[0]
        metric = measures.METRICS[name]
        return cls(
            card.trained_for, name, metric, card.output_names or [], _part(tensors, "head."), predict(tensors), predict, settings
        )

    def after(self, later: Tensors) -> np.ndarray:
        """The predictions of a later model's backbone with this head."""
        return self.predict(_part(later, "backbone.") | self.head).values

    def value(self, later: Tensors) -> float:
        """The metric of a later model's backbone with this head."""
        return self._measured(self.after(later))

    def change(self, later: Tensors) -> tuple[Any, ...]:
        """The metric before and after, the change and its interval, paired over the same test examples; and the answer that the
        later model gives to all of them, or ""."""
        after, before = self.after(later), self.before.values
        paired = pairing.paired_difference(
            self.metric, after[None].astype(np.float64), before[None].astype(np.float64), self.before.targets,
            statistics.units(self.before.groups), num_resamples=self.settings.num_resamples,
            confidence=self.settings.confidence, seed=seed_for(0, "forgetting", "bootstrap"),
        )  # fmt: skip
        values = [self._measured(predictions) for predictions in (before, after)]
        return (*values, paired["difference"], paired["lower"], paired["upper"], self._only(after))

    def chance(self) -> float | None:
        """The metric of always giving the most frequent answer; None if the task has no such answer."""
        return contracts.chance(self.task, self.name, self.before.targets, len(self.names))

    def _only(self, predictions: np.ndarray) -> str:
        measures = plugins.load("tasks", self.task, "measures")
        if not hasattr(measures, "constant"):
            return ""
        answers = set(predictions.argmax(-1).ravel().tolist())
        return self.names[answers.pop()] if len(answers) == 1 else ""

    def _measured(self, predictions: np.ndarray) -> float:
        ones = np.ones((1, len(predictions)))
        return float(self.metric.values(predictions.astype(np.float64), self.before.targets, ones)[0])


def along(
    name: str, alphas: pd.DataFrame, start: Tensors, kept: Tensors, measure: Callable[[Tensors], float]
) -> list[dict[str, Any]]:
    """The earlier task along the line from the starting point's weights to the fine-tuned ones (stages.lib.strategies.wise_ft).

    Args:
        alphas: the alphas that were tried, with the target's figures on validation: val_loss, then its primary metric. The kept
            one determines the end of the line.
        start, kept: tensors; only those of the backbone are used.
        measure: metric of a backbone on the earlier task.
    """
    alpha = float(alphas[alphas.kept].alpha.item())
    if alpha == 0:
        return []  # the start itself was kept, so the end of the line is no longer known
    backbone = _part(kept, "backbone.")
    column = next(name for name in alphas if name.startswith("val_") and name != "val_loss")
    return [
        {"model": name, "alpha": row["alpha"], "target": row[column],
         "earlier": measure(between(start, backbone, row["alpha"] / alpha))}
        for row in alphas.to_dict("records")
    ]  # fmt: skip


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
