"""Correlation alignment: numpy's covariances, its gradient, and which features it compares."""

import numpy as np
import pytest
import torch

from stages.lib.strategies.coral.penalty import attach, coral
from tests.lib.strategies.penalties import examples, images_of, pair, traces


def drawn(num, seed, width=4):
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_that_of_numpys_covariances():
    one, other = drawn(9, 0), 2 * drawn(6, 1) + 5
    wanted = ((np.cov(one.numpy().T) - np.cov(other.numpy().T)) ** 2).sum() / (4 * 16)
    assert coral(one, other).item() == pytest.approx(wanted, rel=1e-12)
    assert coral(one.bfloat16(), other.bfloat16()).dtype == torch.float32


def test_a_shift_changes_nothing_and_equal_covariances_give_zero():
    one = drawn(9, 0)
    assert coral(one, one + 7).item() == pytest.approx(0, abs=1e-20)
    assert coral(one, 2 * one).item() > 0.1


def test_the_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(coral, [drawn(5, 0).requires_grad_(), drawn(4, 1).requires_grad_()])


def test_it_compares_the_halves_of_the_last_features_and_leaves_nothing():
    (model, start), train = pair(), examples()
    with attach(model, start, train, None, strength=3.0) as compute:
        model(images_of(train))
        features = model.backbone(images_of(train))
        assert compute(None, 0.5).item() == pytest.approx(3 * coral(features[:3], features[3:]).item(), rel=1e-6)
    assert traces(model, start) == []
