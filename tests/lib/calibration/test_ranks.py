"""Limits from ranks: what they promise holds for new values of any distribution."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom

from stages.lib.calibration import ranks


@pytest.mark.parametrize(("num", "share", "rank"), [(19, 0.95, 19), (20, 0.95, 20), (39, 0.95, 38), (9, 0.9, 9), (99, 0.9, 90)])
def test_the_limit_is_the_value_of_its_rank(num, share, rank):
    values = np.random.default_rng(0).permutation(num).astype(float)
    assert ranks.upper(values, share) == rank - 1


def test_too_few_values_give_no_limit_and_it_is_known_how_many_are_needed():
    assert ranks.upper(np.arange(18.0), 0.95) == math.inf and ranks.needed(0.95) == 19
    assert ranks.upper(np.arange(19.0), 0.95) == 18 and ranks.most(19) == pytest.approx(0.95)
    assert ranks.upper(np.array([]), 0.5) == math.inf and ranks.needed(0.5) == 1
    for share in (0.5, 0.8, 0.9, 0.95, 0.99):
        assert ranks.upper(np.zeros(ranks.needed(share)), share) == 0
        assert ranks.upper(np.zeros(ranks.needed(share) - 1), share) == math.inf


@pytest.mark.parametrize("num", [19, 40, 150])
@pytest.mark.parametrize("share", [0.8, 0.95])
def test_new_values_stay_below_it_as_often_as_promised(num, share):
    """20,000 draws of a lopsided distribution: at least the share, and no more than one value too many."""
    random = np.random.default_rng(num)
    below = [random.lognormal() <= ranks.upper(random.lognormal(size=num), share) for _ in range(20_000)]
    error = 4 * math.sqrt(share * (1 - share) / 20_000)
    assert share - error <= np.mean(below) <= share + 1 / (num + 1) + error


def test_the_expected_fractions_are_those_of_many_draws():
    random, found = np.random.default_rng(0), []
    for _ in range(4000):
        limit = ranks.upper(random.random(40), 0.9)
        found.append((random.random(200) <= limit).mean())
    lower, upper = ranks.expected(40, 0.9, 200, 0.95)
    assert np.quantile(found, [0.025, 0.975]) == pytest.approx([lower, upper], abs=0.011)
    assert ranks.expected(10, 0.95, 200, 0.95) == (1, 1), "without a limit all are below it"


@pytest.mark.parametrize(("num", "num_new"), [(19, 1), (40, 1000), (40, 7), (3000, 60_000)])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_expected_fractions_are_quantiles_of_the_beta_binomial_distribution(num, num_new, share):
    above = num + 1 - math.ceil((num + 1) * share - 1e-9)
    for confidence in (0.8, 0.95):
        tail = (1 - confidence) / 2
        wanted = betabinom.ppf([tail, 1 - tail], num_new, num + 1 - above, above) / num_new
        assert ranks.expected(num, share, num_new, confidence) == pytest.approx(tuple(wanted), abs=1e-12)
