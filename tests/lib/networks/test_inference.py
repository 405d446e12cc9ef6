"""Running a network: sequences sorted by length, and all answers in the order of the examples."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.lib.core.contracts import NO_STEP, LoadedSplit
from stages.lib.networks import heads, inference
from stages.lib.networks.backbones import Model
from tests.tiny import noise

LENGTHS = [3, 9, 1, 9, 4, 2, 7]
FABRIC = Fabric(accelerator="cpu", devices=1)


class Steps(nn.Module):
    """Features of each step are its number and twice it; NO_STEP in padded steps."""

    num_features = 2

    def forward(self, values):
        return torch.stack([values, 2 * values], 2).masked_fill((values < 0)[..., None], NO_STEP)


class Last(nn.Module):
    """Features of an example: its largest number, and whether the module is in training mode."""

    def forward(self, values):
        return torch.stack([values.amax(1), torch.full((len(values),), float(self.training))], 1)


def sequences(lengths=True):
    """Example i is i, i + 1/16, ... as long as LENGTHS says, padded with -1; and what was asked for."""
    asked = []

    def inputs(indices, level, draws):
        assert level == "none" and draws is None
        asked.append(indices.tolist())
        longest = max(LENGTHS[index] for index in indices)
        rows = [[index + step / 16 if step < LENGTHS[index] else -1 for step in range(longest)] for index in indices.tolist()]
        return torch.tensor(rows)

    known = torch.tensor(LENGTHS) if lengths else None
    return LoadedSplit(inputs, torch.arange(7) % 3, num_draws=0, lengths=known), asked


def expected():
    """(7, 9, 2): every example in its place, whatever its batch was."""
    values = torch.full((7, 9, 2), NO_STEP)
    for row, length in enumerate(LENGTHS):
        steps = row + torch.arange(length) / 16
        values[row, :length] = torch.stack([steps, 2 * steps], 1)
    return values


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("lengths", [True, False])
def test_outputs_are_in_the_order_of_the_examples_and_padded_to_the_longest(size, lengths):
    split, asked = sequences(lengths)
    assert inference.predict(Steps(), split, size).equal(expected())
    order = [2, 5, 0, 4, 6, 1, 3] if lengths else list(range(7))
    assert [index for batch in asked for index in batch] == order, "sorted by length, equal ones in their order"
    assert max(map(len, asked)) == min(size, 7)


@pytest.mark.parametrize("size", [2, 7])
def test_features_are_so_too(size):
    split, asked = sequences()
    computed = inference.features(FABRIC, Model(Steps(), nn.Identity()), split, size)
    assert asked[0][:2] == [2, 5]
    for rows in (torch.arange(7), torch.tensor([5, 1])):
        assert computed.inputs(rows, "light", None).equal(expected()[rows])
    assert computed.targets.equal(split.targets) and computed.num_draws == 0 and computed.lengths is None


@pytest.mark.parametrize("size", [2, 100])
def test_one_answer_for_each_example_is_in_its_order_too(size):
    split, _ = sequences()
    network = Last().train()
    largest = torch.tensor([row + (length - 1) / 16 for row, length in enumerate(LENGTHS)])
    assert inference.predict(network, split, size).equal(torch.stack([largest, torch.zeros(7)], 1))
    assert not network.training
    computed = inference.features(FABRIC, Model(Last().train(), nn.Identity()), split, size)
    assert computed.inputs(torch.arange(7), "none", None).equal(torch.stack([largest, torch.zeros(7)], 1))


def test_a_computed_head_gets_each_feature_with_its_own_label():
    split, _ = sequences()
    head = heads.build(2, 3, kind="knn", neighbours=1, temperature=0.1, num_examples=7)
    features = torch.stack([torch.cos(torch.arange(7.0)), torch.sin(torch.arange(7.0))], 1)
    told = LoadedSplit(lambda indices, level, draws: features[indices], split.targets, 0, lengths=split.lengths)
    model = Model(nn.Identity(), head)
    inference.compute_head(FABRIC, model, told, batch_size=2)
    assert head.labels.equal(split.targets) and torch.allclose(head.features, features)
    assert inference.predict(model, told, 3).argmax(1).equal(split.targets)


def test_images_are_predicted_as_they_come():
    split = noise(10)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    alone = torch.cat([network(split.inputs(torch.tensor([row]), "none", None)) for row in range(10)])
    torch.testing.assert_close(inference.predict(network, split, 4), alone)
    assert inference.predict(network, split, 4).dtype == torch.float32


@pytest.mark.parametrize("size", [2, 100])
def test_features_and_outputs_of_one_pass_are_those_of_two(size):
    split, asked = sequences()
    torch.manual_seed(0)
    model = Model(Last(), nn.Linear(2, 3)).train()
    features, outputs = inference.both(model, split, size)
    assert sum(map(len, asked)) == 7, "each example passes once"
    assert outputs.equal(inference.predict(model, split, size)) and outputs.dtype == torch.float32
    assert features.equal(inference.features(FABRIC, model, split, size).inputs(torch.arange(7), "none", None))
    assert features[:, 1].eq(0).all(), "in evaluation mode"
