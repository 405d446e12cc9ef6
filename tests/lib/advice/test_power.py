"""The smallest difference that a test shows, against the paired comparison itself."""

import numpy as np
import pytest

from stages.lib.advice import power
from stages.lib.evaluation import pairing
from stages.lib.tasks.classify.measures import METRICS

ACCURACY = METRICS["accuracy"]


@pytest.mark.parametrize(("num", "accuracy"), [(200, 0.8), (400, 0.9)])
def test_the_comparison_finds_that_difference_as_often_as_is_said(num, accuracy):
    """Models that err independently, as far apart as is said: found in about 80 of 100 tests, half as far in far fewer."""
    random = np.random.default_rng(0)
    far = power.smallest_difference(accuracy, num, num_seeds=1, confidence=0.95, spread=0)

    def found(apart):
        rates = np.array([[accuracy + apart / 2], [accuracy - apart / 2]])
        times = 0
        for _ in range(150):
            labels = random.integers(2, size=num)
            sure = np.where((random.random((2, num)) < rates) == labels, 0.9, 0.1)
            first, second = (np.stack([1 - each, each], axis=1)[None] for each in sure)
            d = pairing.paired_difference(ACCURACY, first, second, labels, None, num_resamples=400, confidence=0.95, seed=0)
            times += d["verdict"] == "helps"
        return times / 150

    assert found(far) == pytest.approx(power.POWER, abs=0.1)
    assert found(far / 2) < 0.45


def test_more_examples_and_seeds_show_less_and_doubt_more():
    def smallest(num=400, num_seeds=3, confidence=0.95, spread=0.02):
        return power.smallest_difference(0.9, num, num_seeds=num_seeds, confidence=confidence, spread=spread)

    assert smallest(1600, spread=0) == pytest.approx(smallest(spread=0) / 2)
    assert smallest(num_seeds=10) < smallest() < smallest(confidence=0.99)
    assert smallest(10**9, num_seeds=4) == pytest.approx((3.182446 + 0.978472) * 0.02 / 2, rel=1e-4)


def test_one_seed_is_told_that_it_shows_nothing_about_training():
    one, three = (power.sentence(0.87, 388, num_seeds=num, confidence=0.95) for num in (1, 3))
    assert one.startswith("388 test examples show a difference of 6.8 points of accuracy") and "one seed shows nothing" in one
    assert "7.0 points between two ways to train if 3 seeds differ by 1 point" in three
