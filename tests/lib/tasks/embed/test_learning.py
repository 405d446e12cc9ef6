"""Batches, checks of the people, figures and alarms of the task embed."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.core.datasets import PackedSplit
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.tasks.embed import learning
from stages.lib.training import optimizers
from tests.tiny import options

TRIPLET = {"loss": "triplet", "margin": 0.3, "pictures": 3, "dim": 4}


def split(labels, groups="same"):
    groups = labels if groups == "same" else groups
    keys = [f"{row}.png" for row in range(len(labels))]
    return PackedSplit(np.zeros((len(labels), 1)), None, labels, keys, None if groups is None else np.array(groups, dtype=object))


def how(**changes):
    return options(metric_learning=TRIPLET, balance="sampling", **changes)


def test_a_batch_holds_people_with_as_many_pictures_each():
    labels = ["anna"] * 9 + ["ben"] * 2 + ["carl"] * 3 + ["dora"] * 10
    targets = learning.targets(labels, [])
    epoch = learning.batches(targets, how(batch_size=7), torch.Generator().manual_seed(0))
    assert len(epoch) == 4  # as many as 24 examples make in batches of 7
    drawn = set()
    for rows in epoch:
        people = [labels[row] for row in rows]
        counts = {person: people.count(person) for person in people}
        assert len(counts) == 2 and len(set(rows.tolist())) == len(rows)
        assert all(count == (2 if person == "ben" else 3) for person, count in counts.items())
        drawn |= set(rows.tolist())
    for _ in range(60):
        drawn |= {
            row
            for rows in learning.batches(targets, how(batch_size=7), torch.Generator().manual_seed(_))
            for row in rows.tolist()
        }
    assert drawn == set(range(24))


def test_people_are_drawn_equally_often():
    labels = ["anna"] * 40 + ["ben"] * 4 + ["carl"] * 4
    targets, generator = learning.targets(labels, []), torch.Generator().manual_seed(0)
    batches = [rows for _ in range(60) for rows in learning.batches(targets, how(batch_size=6), generator)]
    there = np.array([[person in {labels[row] for row in rows} for person in ("anna", "ben", "carl")] for rows in batches])
    assert there.mean(0) == pytest.approx([2 / 3] * 3, abs=0.08)


@pytest.mark.parametrize("batch_size", [5, 16])
def test_a_batch_that_no_split_can_fill_is_named(batch_size):
    targets = learning.targets(["anna"] * 6 + ["ben"] * 6 + ["carl"] * 6 + ["dora"] * 6, [])
    with pytest.raises(UserError, match=r"there are 4 people for training.*from 6 to 12"):
        learning.batches(targets, how(batch_size=batch_size), torch.Generator())


GOOD = ["anna", "anna", "ben", "ben"]
NEW = ["carl", "carl", "dora", "dora"]


def test_the_people_of_validation_are_others():
    learning.require(split(GOOD), split(NEW))
    with pytest.raises(UserError, match=r"1 people are in training and validation \(ben\).*by_group: true"):
        learning.require(split(GOOD), split(["ben", "ben", "dora", "dora"]))


@pytest.mark.parametrize("side", ["training", "validation"])
@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [(["eve", "eve", "fay"], "same", r"1 people of {} have one picture only \(fay\)"),
     (["eve", "eve"], "same", r"{} has one person only \(eve\)"),
     (["eve", "eve", "fay", "fay"], None, "the groups of {} are not its people"),
     (["eve", "eve", "fay", "fay"], ["1", "2", "3", "3"], "the groups of {} are not its people"),
     (["eve", "eve", "fay", "fay"], ["1", "1", "1", "1"], "the groups of {} are not its people")]
)  # fmt: skip
def test_people_of_whom_nothing_can_be_learned_are_named(side, labels, groups, said):
    wrong, right = split(labels, groups), split(NEW)
    with pytest.raises(UserError, match=said.format(side)):
        learning.require(*(wrong, right) if side == "training" else (right, wrong))


def test_the_figures_of_validation():
    targets = learning.targets(["a", "a", "b", "b"], [])
    outputs = torch.tensor([[1.0, 0], [5, 0.1], [0, 1], [0.1, 9]])
    figures = learning.figures(outputs, targets)
    assert list(figures)[:2] == ["loss", "map_at_r"]
    assert figures["loss"] == 0 and figures["map_at_r"] == figures["recall_at_1"] == 1
    assert figures["threshold"] == pytest.approx(0.031, abs=0.002) and figures["spread"] == pytest.approx(0.7, abs=0.02)
    confused = learning.figures(outputs[[0, 2, 1, 3]], targets)
    assert confused["loss"] == 1 and confused["recall_at_1"] == 0


def test_collapse_is_reported():
    """Provoked: a weight decay so strong that only biases are left, which are the same for every input."""
    generator = torch.Generator().manual_seed(0)
    targets = learning.targets([str(row % 8) for row in range(40)], [])
    inputs = torch.randn(40, 10, generator=generator)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
    lose = learning.criterion(targets, how(), num_outputs=4)
    assert not any("collapsed" in alarm for alarm in learning.alarms(network(inputs).detach(), targets, []))
    lrs = {f"backbone.{name}": 0.1 for name, _ in network.named_parameters()}
    whole = backbones.Model(network, nn.Identity())
    optimizer = optimizers.build(whole, lrs, optimizer="sgd", momentum=0.9, weight_decay=1)
    losses = []
    for rows in [rows for _ in range(20) for rows in learning.batches(targets, how(batch_size=12), generator)]:
        optimizer.zero_grad()
        loss = lose(network(inputs[rows]), targets[rows]).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] == pytest.approx(0.3, abs=0.01), "the margin"
    outputs = network(inputs).detach()
    (alarm,) = learning.alarms(outputs, targets, [])
    assert learning.spread(outputs) < 0.01 and "collapsed" in alarm
    for equal in (torch.zeros(40, 4), torch.ones(40, 4)):
        assert learning.alarms(equal, targets, []) == [alarm.replace(f"{learning.spread(outputs):.3f}", "0.000")]


def test_embeddings_that_say_nothing_about_people_are_reported():
    targets = learning.targets([str(row % 8) for row in range(80)], [])
    (alarm,) = learning.alarms(torch.randn(80, 6, generator=torch.Generator().manual_seed(0)), targets, [])
    assert "little about who it is" in alarm
