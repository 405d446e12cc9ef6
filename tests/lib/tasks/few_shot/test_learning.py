"""Episodic training: the loss of prototypical networks, and one-shot accuracy on validation."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.core import datasets
from stages.lib.errors import UserError
from stages.lib.params.schema import MetricLearning
from stages.lib.tasks.few_shot import learning
from tests.tiny import options

EUCLID = {"loss": "prototypical", "pictures": 4, "dim": 3}
COSINE = {"loss": "cosine_prototypical", "pictures": 4, "dim": 3, "scale": 10}
LABELS = [f"class {row % 5}" for row in range(20)]


def criterion(how):
    targets = learning.targets(LABELS, [])
    return learning.criterion(targets, options(metric_learning=how, balance="sampling"), num_outputs=3), targets


def vectors(num=20, seed=0):
    return torch.randn(num, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("how", [EUCLID, COSINE])
def test_queries_have_to_be_nearest_to_the_prototype_of_their_class(how):
    lose, targets = criterion(how)
    outputs, labels = vectors(), np.array(LABELS)
    found = lose(outputs, targets)
    rows = {name: np.flatnonzero(labels == name) for name in sorted(set(LABELS))}
    expected = np.zeros(20)
    points = outputs.numpy()
    if how is COSINE:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    prototypes = np.stack([points[own[:2]].mean(0) for own in rows.values()])  # the first half of each class
    for number, own in enumerate(rows.values()):
        for query in own[2:]:
            if how is COSINE:
                scores = 10 * points[query] @ (prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)).T
            else:
                scores = -((points[query] - prototypes) ** 2).sum(1)
            expected[query] = np.log(np.exp(scores).sum()) - scores[number]
    assert found.numpy() == pytest.approx(expected * 2, abs=1e-8), "20 examples, of which 10 are queries"
    assert found.mean().item() == pytest.approx(expected.sum() / 10)


@pytest.mark.parametrize("how", [EUCLID, COSINE])
def test_a_batch_that_is_no_episode_has_gradients_of_zero(how):
    lose, targets = criterion(how)
    for rows in ([0, 1, 2], [0, 5, 10], [3]):  # each class once; one class alone; one example
        outputs = vectors()[rows].requires_grad_()
        lose(outputs, targets[rows]).mean().backward()
        assert outputs.grad.count_nonzero() == 0


def test_a_class_that_is_there_once_is_left_out():
    lose, targets = criterion(EUCLID)
    rows = [0, 5, 1, 6]
    whole, more = (lose(vectors()[each], targets[each]) for each in (rows, [*rows, 2]))
    assert more[:4].mul(4 / 5).allclose(whole) and more[4] == 0


@pytest.mark.parametrize("how", [EUCLID, COSINE])
def test_a_network_learns_to_tell_new_classes_apart(how):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 4, generator=generator).repeat_interleave(8, dim=0)  # what matters are 4 of 24 coordinates
    inputs = torch.cat([2 * centres, 3 * torch.randn(480, 20, generator=generator)], dim=1) + torch.randn(
        480, 24, generator=generator
    )
    labels = [f"{row // 8:02}" for row in range(480)]
    targets, unseen = learning.targets(labels, []), slice(320, 480)
    network = nn.Linear(24, 4)
    torch.manual_seed(0)
    nn.init.normal_(network.weight, std=0.2)
    before = learning.figures(network(inputs[unseen]).detach(), targets[unseen])
    train = options(metric_learning=how, balance="sampling", batch_size=40)
    lose = learning.criterion(targets[:320], train, num_outputs=4)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(30):
        for rows in learning.batches(targets[:320], train, generator):
            optimizer.zero_grad()
            lose(network(inputs[rows]), targets[rows]).mean().backward()
            optimizer.step()
    after = learning.figures(network(inputs[unseen]).detach(), targets[unseen])
    assert after["accuracy"] > before["accuracy"] + 0.15 and after["loss"] < before["loss"]


def test_accuracy_on_validation_is_that_of_one_shot_among_all_classes():
    outputs, labels = vectors(13), [*LABELS[:12], "class 0"]
    units = outputs / outputs.norm(dim=1, keepdim=True)
    rows = {name: [row for row, label in enumerate(labels) if label == name] for name in sorted(set(labels))}
    right = []
    for turn in range(2):  # the smallest class has two
        support = {name: own[turn] for name, own in rows.items()}
        for row in set(range(13)) - set(support.values()):
            nearest = max(support, key=lambda name: float(units[row] @ units[support[name]]))
            right.append(nearest == labels[row])
    found = learning.figures(outputs, learning.targets(labels, []))
    assert found["accuracy"] == pytest.approx(np.mean(right)) and list(found)[:2] == ["loss", "accuracy"]


def test_classes_of_validation_are_new_and_have_two_examples():
    def split(*labels):
        return datasets.in_memory([np.zeros(1)] * len(labels), ragged=False)._replace(labels=list(labels))

    learning.require(split("a", "a", "b"), split("c", "c", "d", "d"))
    for val, said in ((("a", "a", "c", "c"), r"1 classes are in training and validation \(a\)"),
                      (("c", "c", "d"), "these have one example: d"), (("c", "c"), "it has 1. Raise")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            learning.require(split("a", "b"), split(*val))


@pytest.mark.parametrize("wrong", [EUCLID | {"margin": 0.3}, EUCLID | {"scale": 3}, COSINE | {"scale": None}])
def test_the_losses_of_episodes_have_no_margin_and_only_cosines_a_scale(wrong):
    with pytest.raises(ValueError, match=r"prototypical needs, of margin, scale and proxy_lr, exactly (none|scale)"):
        MetricLearning.model_validate(wrong)
