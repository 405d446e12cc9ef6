"""Minimum class confusion: a reference computation from the paper's equations, its ends, and its gradient."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from stages.lib.strategies.mcc.penalty import attach, confusion
from tests.lib.strategies.penalties import examples, images_of, pair, traces


def by_the_paper(outputs, temperature):
    """Equations 3 to 8 with loops."""
    chances = softmax(outputs.detach().double().numpy() / temperature, axis=1)
    num, classes = chances.shape
    sure = 1 + np.exp(-np.array([-(row * np.log(row)).sum() for row in chances]))
    weights = num * sure / sure.sum()
    pairs = np.zeros((classes, classes))
    for one in range(classes):
        for other in range(classes):
            pairs[one, other] = sum(weights[i] * chances[i, one] * chances[i, other] for i in range(num))
    pairs /= pairs.sum(axis=1, keepdims=True)
    return sum(pairs[one, other] for one in range(classes) for other in range(classes) if one != other) / classes


@pytest.mark.parametrize(("shape", "temperature"), [((6, 3), 1.0), ((5, 7), 2.5), ((2, 2), 0.5)])
def test_it_is_the_papers(shape, temperature):
    outputs = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert confusion(outputs, temperature).item() == pytest.approx(by_the_paper(outputs, temperature), rel=1e-12)
    assert confusion(outputs.float(), temperature).item() == pytest.approx(by_the_paper(outputs, temperature), abs=1e-6)
    assert confusion(outputs.bfloat16(), temperature).dtype == torch.float32


def test_sure_predictions_confuse_nothing_and_unsure_ones_everything():
    assert confusion(50 * torch.eye(4), 1.0).item() == pytest.approx(0, abs=1e-6)
    assert confusion(torch.zeros(6, 4), 1.0).item() == pytest.approx(3 / 4)


def test_the_weights_of_sure_predictions_are_constants():
    """As in the authors' code: a gradient through them would reward being unsure of what is confused."""
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(confusion(outputs, 1.0), [outputs])
    chances = outputs.softmax(1)
    sure = (1 + (chances * chances.log()).sum(1).exp()).detach()
    pairs = (sure[:, None] * chances).T @ chances
    pairs = pairs / pairs.sum(1, keepdim=True)
    (wanted,) = torch.autograd.grad(1 - pairs.diagonal().mean(), [outputs])
    torch.testing.assert_close(found, wanted)


def test_only_the_unlabelled_half_counts_and_nothing_is_left():
    (model, start), train = pair(), examples()
    with attach(model, start, train, None, strength=2.0, temperature=2.5) as compute:
        outputs = model(images_of(train))
        found = compute(None, 0.5)
        assert found.item() == 2 * confusion(outputs[3:], 2.5).item()
        found.backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in model.head.parameters())
    assert traces(model, start) == []
