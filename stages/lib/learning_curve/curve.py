"""The performance on one test set of models trained on smaller and smaller subsets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import contracts
from stages.lib.core.runs import SCRATCH
from stages.lib.core.seeds import seed_for
from stages.lib.evaluation import pairing, statistics
from stages.lib.evaluation.comparison import stacked
from stages.lib.evaluation.measure import Predictions
from stages.lib.learning_curve.label_savings import interval_of_labels
from stages.lib.params.schema import Compare


class Curve:
    """The predictions of each arm, for each number of training examples and each seed."""

    def __init__(self, found: Mapping[tuple[str, int], Sequence[Predictions]], task: str, settings: Compare):
        """
        Args:
            found: by arm and number of training examples, one per seed.
            settings: num_resamples and confidence, of the bootstrap.
        """
        self.name, self.metric = contracts.primary(task)
        self.predictions = {point: stacked([each.values for each in seeds]) for point, seeds in found.items()}
        test = next(iter(found.values()))[0]
        self.targets, self.num_test = test.targets, len(test.keys)
        self.groups = statistics.units(test.groups)
        # A fixed seed, not the experiment's: all are measured on the same resamples.
        self.how: dict[str, Any] = {"num_resamples": settings.num_resamples, "seed": seed_for(0, "learning_curve", "bootstrap")}
        self.confidence = settings.confidence

    def table(self) -> pd.DataFrame:
        """The metric of each arm for each number of examples, as stored in curve.csv."""
        rows = []
        arms = list(dict.fromkeys(arm for arm, _ in self.predictions))
        for arm, num in sorted(self.predictions, key=lambda point: (arms.index(point[0]), point[1])):
            each = self.predictions[arm, num]
            found = pairing.mean_over_seeds(self.metric, each, self.targets, self.groups, confidence=self.confidence, **self.how)
            rows.append((arm, num, len(each), found["value"], found["lower"], found["upper"]))
        return pd.DataFrame(rows, columns=["arm", "examples", "seeds", "value", "lower", "upper"])

    def against(self, arm: str, num: int, num_control: int) -> pairing.Difference:
        """Compare an arm with `num` examples with the control with `num_control`, on the same test set, paired by seed."""
        first, second = self.predictions[arm, num], self.predictions[SCRATCH, num_control]
        return pairing.paired_difference(
            self.metric, first, second, self.targets, self.groups, confidence=self.confidence, **self.how
        )

    def savings(self, arm: str, num: int) -> tuple[float, float]:
        """Interval of the number of labels that pretraining is worth, for an arm with `num` examples, from all resamples."""
        examples = sorted(num for name, num in self.predictions if name == SCRATCH)
        sign = 1 if self.metric.higher_is_better else -1
        control = np.stack([sign * self._resampled(SCRATCH, each) for each in examples], axis=1)
        return interval_of_labels(examples, num, sign * self._resampled(arm, num), control, self.confidence)

    def _resampled(self, arm: str, num: int) -> np.ndarray:
        return pairing.resampled_mean(self.metric, self.predictions[arm, num], self.targets, self.groups, **self.how)[1]
