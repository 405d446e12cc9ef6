"""Distances to the training features, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from stages.lib.calibration import neighbours
from stages.lib.networks.backbones import Model


def points(num, seed):
    return torch.randn(num, 12, generator=torch.Generator().manual_seed(seed)) * 7


@pytest.mark.parametrize("k", [1, 3, 30])
def test_they_are_the_cosine_distances_to_the_kth_nearest(k):
    known, asked = points(30, 0), points(8, 1)
    expected = NearestNeighbors(n_neighbors=k, metric="cosine").fit(known.numpy()).kneighbors(asked.numpy())[0][:, -1]
    found = neighbours.distances(asked, neighbours.bank(known), k).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)  # float16
    exact = neighbours.distances(asked, known, k).numpy()
    np.testing.assert_allclose(exact, expected, atol=1e-6)


def test_length_says_nothing_and_a_training_example_is_near_itself():
    known = points(20, 0)
    bank = neighbours.bank(known)
    assert bank.dtype == torch.float16
    assert neighbours.distances(5 * known, bank, 1).abs().max() < 1e-5
    torch.testing.assert_close(neighbours.distances(5 * known, bank, 4), neighbours.distances(known, bank, 4))


def test_of_fewer_neighbours_than_asked_for_the_farthest_counts():
    known, asked = points(5, 0), points(8, 1)
    torch.testing.assert_close(neighbours.distances(asked, known, 9), neighbours.distances(asked, known, 5))


def test_a_network_gives_its_outputs_and_the_distances_of_its_features():
    torch.manual_seed(0)
    model = Model(nn.Linear(12, 6), nn.Linear(6, 3), 3)
    bank = neighbours.bank(model.backbone(points(20, 0)).detach())
    outputs, far = neighbours.WithDistance(model, bank, 2)(points(4, 1))
    torch.testing.assert_close(outputs, model(points(4, 1)))
    torch.testing.assert_close(far, neighbours.distances(model.backbone(points(4, 1)), bank, 2))
