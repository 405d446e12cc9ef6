"""Losses equal their papers' formulas, and each one teaches a network to tell people apart."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from stages.lib.params.schema import MetricLearning
from stages.lib.tasks.embed import learning, losses
from tests.tiny import options

TRIPLET = {"loss": "triplet", "margin": 0.3, "pictures": 3, "dim": 4}
SOFTMAX = {"loss": "cosface", "margin": 0.35, "scale": 16, "proxy_lr": 0.1, "pictures": 3, "dim": 4}
ARCFACE = SOFTMAX | {"loss": "arcface", "margin": 28.6}
LABELS = [f"person {row % 5}" for row in range(20)]


def batch(seed=0, num=20):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 4, generator=generator, dtype=torch.float64), learning.targets(LABELS[:num], [])


def criterion(how, targets, **changes):
    torch.manual_seed(0)
    return learning.criterion(targets, options(metric_learning=how, balance="sampling", **changes), num_outputs=4)


@pytest.mark.parametrize("seed", range(3))
def test_a_triplet_counts_if_its_negative_is_further_but_not_by_the_margin(seed):
    outputs, targets = batch(seed)
    vectors = normalize(outputs)
    far = torch.cdist(vectors, vectors).square()
    expected, num = torch.zeros(20, dtype=torch.float64), 0
    for a, p, n in np.ndindex(20, 20, 20):
        if a != p and LABELS[a] == LABELS[p] != LABELS[n] and far[a, p] < far[a, n] <= far[a, p] + 0.3:
            expected[a] += far[a, p] - far[a, n] + 0.3
            num += 1
    found = criterion(TRIPLET, targets)(outputs, targets)
    assert num > 20 and found.allclose(expected * 20 / num)
    assert found.mean().item() == pytest.approx(expected.sum().item() / num)


def test_a_batch_without_such_a_triplet_has_gradients_of_zero():
    _, targets = batch()
    outputs = normalize(torch.eye(5, dtype=torch.float64)[torch.arange(20) % 5][:, :5]).requires_grad_()
    losses.triplet(0.3)(outputs, targets).sum().backward()
    assert outputs.grad is not None and not outputs.grad.any()


@pytest.mark.parametrize("how", [SOFTMAX, ARCFACE])
def test_the_right_person_s_cosine_has_a_margin(how):
    outputs, targets = batch()
    softmax = criterion(how, targets)
    proxies = softmax.softmax.W.detach().double()
    cosine = normalize(outputs) @ normalize(proxies, dim=0)
    who = torch.arange(20) % 5
    right = cosine[torch.arange(20), who]
    changed = right - 0.35 if how is SOFTMAX else torch.cos(torch.acos(right) + math.radians(28.6))
    logits = cosine.clone()
    logits[torch.arange(20), who] = changed
    expected = nn.functional.cross_entropy(16 * logits, who, reduction="none")
    usual = torch.acos(right) <= math.pi - math.radians(28.6)  # beyond, arcface goes on with another formula
    assert (usual.sum() > 10 and softmax(outputs, targets).double().allclose(expected, atol=1e-5)) or how is ARCFACE
    assert softmax(outputs, targets).double()[usual].allclose(expected[usual], atol=1e-5)
    assert softmax.lr == 0.1 and [tuple(each.shape) for each in softmax.parameters()] == [(4, 5)]


def test_the_proxy_of_a_person_does_not_depend_on_the_batch():
    outputs, targets = batch()
    softmax = criterion(SOFTMAX, targets)
    rows = torch.tensor([19, 3, 4])
    assert softmax(outputs, targets)[rows].allclose(softmax(outputs[rows], targets[rows]))


def test_neighbours_draw_by_similarity():
    outputs, targets = batch()
    vectors = normalize(outputs)
    for row, found in enumerate(learning.loss(outputs, targets).double()):
        weights = (vectors @ vectors[row] / 0.1).exp()
        weights[row] = 0
        same = torch.tensor([label == LABELS[row] for label in LABELS])
        assert found.item() == pytest.approx(-math.log(weights[same].sum() / weights.sum()), abs=1e-4)
    alone = outputs[:3].clone().requires_grad_()
    learning.loss(alone, targets[:3]).sum().backward()
    assert learning.loss(alone, targets[:3]).abs().max() < 1e-6 and alone.grad.isfinite().all()


@pytest.mark.parametrize("how", [TRIPLET, SOFTMAX, ARCFACE], ids=lambda how: how["loss"])
def test_people_who_were_not_seen_are_told_apart_after_training(how):
    """Inputs are a person's own few numbers among many that say nothing about who it is."""
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(48, 6, generator=generator)

    def pictures(who):
        own = people[who] + 0.3 * torch.randn(len(who), 6, generator=generator)
        return torch.cat([own, 2 * torch.randn(len(who), 6, generator=generator)], 1)

    who = torch.arange(400) % 40
    inputs, targets = pictures(who), learning.targets([str(number) for number in who.tolist()], [])
    new = 40 + torch.arange(48) % 8
    unseen, wanted = pictures(new), learning.targets([str(number) for number in new.tolist()], [])
    torch.manual_seed(0)
    network = nn.Linear(12, 4)
    before = learning.figures(network(unseen).detach(), wanted)
    train = options(metric_learning=how, batch_size=24, balance="sampling", label_smoothing=0)
    lose = learning.criterion(targets, train, num_outputs=4)
    own = list(lose.parameters()) if isinstance(lose, nn.Module) else []
    optimizer = torch.optim.Adam([*network.parameters(), *own], lr=0.02)
    for _ in range(20):
        for rows in learning.batches(targets, train, generator):
            optimizer.zero_grad()
            lose(network(inputs[rows]), targets[rows]).mean().backward()
            optimizer.step()
    after = learning.figures(network(unseen).detach(), wanted)
    assert after["map_at_r"] > before["map_at_r"] + 0.2 and after["map_at_r"] > 0.5
    assert learning.alarms(network(unseen).detach(), wanted, []) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"scale": 16}, "triplet needs, .*exactly margin"), (SOFTMAX | {"scale": None}, "cosface needs, .*scale and proxy_lr"),
     ({"margin": 28.6}, "below 2"), ({"pictures": 1}, "greater than or equal to 2"), ({"loss": "softmax"}, "triplet")]
)  # fmt: skip
def test_a_loss_has_its_own_params_and_no_others(wrong, said):
    with pytest.raises(ValueError, match=said):
        MetricLearning.model_validate(TRIPLET | wrong)
