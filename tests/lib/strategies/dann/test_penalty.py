"""Domain-adversarial training: the schedule, the sign of the gradient, and that it hides the domain."""

import copy
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from stages.lib.strategies.dann.penalty import Discriminator, Reversal, attach, weight
from tests.lib.strategies.penalties import examples, images_of, pair, traces, trained

ARGUMENTS = {"strength": 0.5, "gamma": 10.0, "hidden": 4, "lr": 0.01}


def test_the_weight_rises_as_the_paper_says():
    assert weight(0, 10) == 0
    assert weight(0.1, 10) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert weight(1, 10) == pytest.approx(0.99991, abs=1e-5)
    assert weight(0.1, 20) == weight(0.2, 10)


def test_the_gradient_is_reversed_and_the_values_are_not():
    values = torch.tensor([1.0, -2.0], requires_grad=True)
    found = Reversal.apply(values, 0.25)
    (found * torch.tensor([3.0, 8.0])).sum().backward()
    assert torch.equal(found, values)
    assert values.grad.tolist() == [-0.75, -2.0]


def test_the_discriminator_learns_the_domain_and_the_features_unlearn_it():
    torch.manual_seed(0)
    judge = Discriminator(3, hidden=4, strength=0.5, gamma=10.0, lr=0.01)
    features = torch.randn(8, 3, requires_grad=True)
    judge.features = features
    found = judge(None, 0.3)
    found.backward()

    plain = features.detach().clone().requires_grad_()
    other = copy.deepcopy(judge)
    other.zero_grad()
    wanted = binary_cross_entropy_with_logits(other.layers(plain)[:, 0], torch.tensor([1.0] * 4 + [0.0] * 4))
    wanted.backward()
    assert found.item() == wanted.item()
    for one, its in zip(judge.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, its.grad)
    torch.testing.assert_close(features.grad, -0.5 * weight(0.3, 10) * plain.grad)


def test_at_the_beginning_the_features_get_no_gradient():
    judge = Discriminator(3, hidden=4, strength=1.0, gamma=10.0, lr=0.01)
    judge.features = torch.randn(8, 3, requires_grad=True)
    features = judge.features
    judge(None, 0.0).backward()
    assert not features.grad.any()


def test_it_sees_the_features_of_the_last_pass_with_gradients_and_leaves_nothing():
    (model, start), train = pair(), examples()
    with attach(model, start, train, None, **ARGUMENTS) as judge:
        model(images_of(train))
        found = judge(None, 0.5).item()
        judge.features = model.backbone(images_of(train))
        assert judge(None, 0.5).item() == found
        model(images_of(train))
        with torch.no_grad():
            model(images_of(train))
        with pytest.raises(ValueError, match="features"):
            judge(None, 0.5)
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in start.named_parameters()]
    assert traces(model, start) == []


def test_a_head_of_several_layers_gives_its_first_width():
    model, start = pair()
    width = model.head.in_features
    model.head = torch.nn.Sequential(torch.nn.Linear(width, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    with attach(model, start, None, None, **ARGUMENTS) as judge:
        assert judge.layers[0].in_features == width


def test_repeated_training_gives_the_same_bits():
    def strong(*args):
        return attach(*args, **ARGUMENTS)

    first, again = trained(strong, progress=0.5), trained(strong, progress=0.5)
    without = trained(strong, progress=0.0)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, without[name]) for name, tensor in first.items())
