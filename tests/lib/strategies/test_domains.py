"""How far apart two domains are: a linear classifier's accuracy, the proxy A-distance, and the plane that is shown."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.lib.networks import backbones
from stages.lib.strategies import _domains
from stages.lib.tasks.classify import learning
from tests.lib.training.domains import blind, points
from tests.lib.training.small import copied, equal


def drawn(num, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(num, 3)) + [shift, 0, 0]


def test_the_distance_is_ben_davids():
    assert _domains.a_distance(1.0) == 2
    assert _domains.a_distance(0.75) == 1
    assert _domains.a_distance(0.5) == 0
    assert _domains.a_distance(0.4) == 0


def test_domains_that_lie_apart_are_told_apart_and_equal_ones_are_not():
    assert _domains.told_apart(drawn(200, 0), drawn(200, 1, 9.0)) == 1
    assert _domains.told_apart(drawn(400, 0), drawn(400, 1)) == pytest.approx(0.5, abs=0.08)
    rare = _domains.told_apart(drawn(400, 0), drawn(20, 1))
    assert rare == pytest.approx(0.5, abs=0.25), "both count equally: calling all of them the frequent one gives 0.5"


def test_the_plane_keeps_the_most_of_distances_with_fixed_signs():
    one, other = drawn(50, 0), drawn(30, 1, 9.0)
    places = _domains.plane(one, other)
    assert places.shape == (80, 2)
    variances = np.linalg.eigvalsh(np.cov(np.concatenate([one, other]).T))[::-1]
    np.testing.assert_allclose(places.var(0, ddof=1), variances[:2])
    assert places[:50, 0].max() < places[50:, 0].min()
    assert _domains.plane(one[:, :1], other[:, :1]).shape == (80, 2)


def test_both_models_are_measured_and_the_trained_one_stays_as_it_is():
    """The domain can be told by the first feature, which training threw away."""
    start, model = (backbones.Model(nn.Linear(4, 4), nn.Linear(4, 2)) for _ in range(2))
    for each, first in ((start, 1.0), (model, 0.0)):
        each.backbone.weight.data = torch.diag(torch.tensor([first, 1, 1, 1]))
    before = copied(model)
    tables = _domains.finish(
        Fabric(accelerator="cpu", devices=1), model, start=start.state_dict(), train=points(300, 1, 0.0), val=points(10, 2, 0.0),
        unlabelled=blind(points(1500, 3, 3.0)), task=learning, batch_size=64,
    )  # fmt: skip
    assert equal(before, copied(model))
    domains = tables["domains"].set_index("model")
    assert list(domains.index) == ["before", "after"]
    assert domains.told_apart["before"] > 0.85 and domains.told_apart["after"] == pytest.approx(0.5, abs=0.1)
    assert domains.a_distance["before"] == pytest.approx(2 * (2 * domains.told_apart["before"] - 1))
    shown = tables["domain_points"].groupby(["model", "domain"]).size()
    assert (shown == [150, 200, 150, 200]).all() and not tables["domain_points"].isna().any().any()
