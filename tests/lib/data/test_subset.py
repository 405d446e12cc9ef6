"""Parts of the examples are drawn fairly, and the smaller ones lie in the larger."""

from itertools import pairwise

import numpy as np
import pytest

from stages.lib.data.subset import draw
from stages.lib.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [120, 60, 20]))
SIZES = [3, 4, 7, 10, 33, 50, 100, 199, 200]


def test_a_smaller_part_is_in_every_larger_one():
    parts = [set(draw(LABELS, num, seed=5)) for num in SIZES]
    assert [len(each) for each in parts] == SIZES
    assert all(small < large for small, large in pairwise(parts))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("num", SIZES)
def test_each_class_has_its_share_and_one_at_least(num, seed):
    counts = np.bincount(LABELS[draw(LABELS, num, seed)], minlength=3)
    shares = num * np.array([0.6, 0.3, 0.1])
    assert (counts >= 1).all()
    assert (np.abs(counts - np.maximum(shares, 1)) <= 1.5).all()


def test_other_seeds_draw_other_examples_and_every_example_is_drawn_by_some():
    draws = [draw(LABELS, 20, seed) for seed in range(200)]
    assert len({tuple(draw) for draw in draws}) == 200
    assert np.array_equal(draws[3], draw(LABELS, 20, 3))
    often = np.bincount(np.concatenate(draws), minlength=200)  # of 20 of 200, in 200 draws: 20 times each
    assert often.min() > 4
    assert often.max() < 45


def test_of_equally_large_classes_none_is_always_preferred():
    extra = [np.bincount(np.repeat([0, 1], 10)[draw(np.repeat([0, 1], 10), 5, seed)]).argmax() for seed in range(40)]
    assert 8 < sum(extra) < 32


@pytest.mark.parametrize("num", [0, 2, 201])
def test_a_number_that_cannot_be_drawn_is_told_with_what_is_allowed(num):
    with pytest.raises(UserError, match=f"{num} examples .* 200 for training.* 3 kinds .* Allowed: 3 to 200"):
        draw(LABELS, num, 0)
