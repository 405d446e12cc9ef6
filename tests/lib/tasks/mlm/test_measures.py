"""Figures of masked pieces by hand."""

import numpy as np
import pytest
import torch

from stages.lib.core.contracts import NO_STEP
from stages.lib.tasks.mlm import learning, measures
from stages.lib.tasks.mlm import outputs as to

# Two texts: two pieces that are asked for (one right), and one (wrong).
OUTPUTS = torch.tensor([
    [[np.log(0.5), 7, 7, 0.5], [np.log(0.25), 8, 9, 0.4]],
    [[np.log(0.1), 7, 9, 0.6], [NO_STEP] * 4],
], dtype=torch.float32)  # fmt: skip
NONE = np.zeros((2, 1))


def test_accuracy_and_perplexity_are_over_pieces_and_not_over_texts():
    exact = to.predictions(OUTPUTS).astype(np.float64)
    weights = np.array([[1.0, 1.0], [1.0, 3.0], [0.0, 1.0]])
    assert measures.masked_accuracy(exact, NONE, weights).tolist() == pytest.approx([1 / 3, 1 / 5, 0])
    expected = [(0.5 * 0.25 * 0.1) ** (-1 / 3), (0.5 * 0.25 * 0.1**3) ** (-1 / 5), 10]
    assert measures.perplexity(exact, NONE, weights).tolist() == pytest.approx(expected, rel=1e-5)


def test_validation_and_losses():
    figures = learning.figures(OUTPUTS, torch.zeros(2, 1))
    assert figures["perplexity"] == pytest.approx((0.5 * 0.25 * 0.1) ** (-1 / 3), rel=1e-5)
    assert figures["masked_accuracy"] == pytest.approx(1 / 3)
    losses = learning.loss(OUTPUTS, torch.zeros(2, 1))
    assert losses.tolist() == pytest.approx([-(np.log(0.5) + np.log(0.25)) / 2, -np.log(0.1)], rel=1e-5)


def test_an_impossible_piece_has_a_finite_perplexity():
    outputs = torch.tensor([[[-1000.0, 7, 8, 1]], [[-1.0, 7, 8, 1]]])
    exact = to.predictions(outputs).astype(np.float64)
    assert np.isfinite(measures.perplexity(exact, NONE, np.ones((1, 2))))


def test_a_model_that_always_answers_the_same_is_an_alarm():
    outputs = torch.tensor([[[-1.0, piece, 7, 0.9]] for piece in (7, 7, 7, 8, 9)])
    assert "60.0%" in learning.alarms(outputs, torch.zeros(5, 1), [])[0]
    better = torch.tensor([[[-1.0, piece, max(piece, 8), 0.9]] for piece in (8, 8, 7, 9, 10)])
    assert learning.alarms(better, torch.zeros(5, 1), []) == []
    assert "can be masked" in learning.alarms(torch.full((5, 1, 4), NO_STEP), torch.zeros(5, 1), [])[0]
