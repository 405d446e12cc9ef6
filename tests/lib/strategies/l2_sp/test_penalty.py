"""L2-SP: what it is worth, what it pulls where, and what it leaves out."""

import numpy as np
import pytest
import torch

from stages.lib.strategies.l2_sp.penalty import attach, l2, l2_sp
from tests.lib.strategies.penalties import examples, images_of, pair, shift, traces, trained


def tensors(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (3, 2, 2, 2), "bias": (3,), "scale": ()}
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def test_the_penalty_is_half_alpha_times_the_squared_distance():
    weights, start = tensors(0), tensors(1)
    expected = 0.3 / 2 * sum(np.linalg.norm((weights[name] - start[name]).numpy().ravel()) ** 2 for name in weights)
    assert l2_sp(weights, start, 0.3).item() == pytest.approx(expected, rel=1e-12)
    expected = 0.7 / 2 * sum((tensor.numpy() ** 2).sum() for tensor in weights.values())
    assert l2(list(weights.values()), 0.7).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradients_are_those_of_finite_differences():
    start = tensors(1)
    values = [tensor.requires_grad_() for tensor in tensors(0).values()]
    assert torch.autograd.gradcheck(lambda *given: l2_sp(dict(zip(start, given, strict=True)), start, 0.3), values)
    assert torch.autograd.gradcheck(lambda *given: l2(list(given), 0.3), values)


def test_at_the_start_the_penalty_and_its_gradient_are_zero():
    weights = {name: tensor.requires_grad_() for name, tensor in tensors(0).items()}
    penalty = l2_sp(weights, {name: tensor.detach().clone() for name, tensor in weights.items()}, 0.3)
    penalty.backward()
    assert penalty == 0
    assert all((tensor.grad == 0).all() for tensor in weights.values())


def test_strength_zero_turns_it_off():
    weights = {name: tensor.requires_grad_() for name, tensor in tensors(0).items()}
    penalty = l2_sp(weights, tensors(1), 0.0) + l2(list(weights.values()), 0.0)
    penalty.backward()
    assert penalty == 0
    assert all((tensor.grad == 0).all() for tensor in weights.values())


def test_a_missing_start_is_named():
    start = tensors(1)
    del start["bias"]
    with pytest.raises(KeyError, match="no starting value for bias"):
        l2_sp(tensors(0), start, 0.3)


def test_nothing_trainable_costs_nothing():
    assert l2_sp({}, tensors(0), 0.3) == 0
    assert l2([], 0.3) == 0


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_the_backbone_is_pulled_to_its_start_and_the_head_to_zero(name):
    model, start = pair(name)
    shift(model)
    with attach(model, start, None, None, alpha=0.3, beta=0.7) as compute:
        penalty = compute(torch.zeros(1))
        penalty.backward()
    first = start.state_dict()
    distance = sum((p.detach() - first[f"backbone.{key}"]).double().norm() ** 2 for key, p in model.backbone.named_parameters())
    length = model.head.weight.detach().double().norm() ** 2 + model.head.bias.detach().double().norm() ** 2
    assert penalty.item() == pytest.approx((0.3 / 2 * distance + 0.7 / 2 * length).item(), rel=1e-5)
    for key, parameter in model.named_parameters():
        pull = 0.7 * parameter if key.startswith("head.") else 0.3 * (parameter - first[key])
        assert torch.allclose(parameter.grad, pull, rtol=1e-5, atol=1e-8), key


def test_frozen_tensors_are_left_out():
    model, start = pair()
    shift(model)
    kept = "backbone.layer4.0.conv1.weight"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == kept)
    with attach(model, start, None, None, alpha=2.0, beta=2.0) as compute:
        penalty = compute(torch.zeros(1))
        penalty.backward()
    distance = (model.state_dict()[kept] - start.state_dict()[kept]).square().sum()
    assert penalty.item() == pytest.approx(distance.item(), rel=1e-5)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == [kept]


def test_a_trainable_tensor_that_the_start_does_not_have_is_named():
    model, start = pair()
    model.backbone.layer4.adapter = torch.nn.Linear(2, 2)
    with (
        attach(model, start, None, None, alpha=1.0, beta=0.0) as compute,
        pytest.raises(KeyError, match=r"layer4\.adapter\.weight"),
    ):
        compute(torch.zeros(1))


def test_nothing_is_left_on_the_model():
    model, start = pair()
    with attach(model, start, None, None, alpha=1.0, beta=1.0) as compute:
        model(images_of(examples()))
        compute(images_of(examples()))
    assert traces(model, start) == []


def test_repeated_training_gives_the_same_bits():
    def strong(*args):
        return attach(*args, alpha=0.5, beta=0.5)

    def off(*args):
        return attach(*args, alpha=0.0, beta=0.0)

    first, again, without = trained(strong), trained(strong), trained(off)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, without[name]) for name, tensor in first.items())
