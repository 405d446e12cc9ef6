"""Groups, one step of each optimizer, and the learning rate over time, each held against what is worked out here by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.networks import backbones, layers
from stages.lib.params.fields import Trainable
from stages.lib.strategies import discriminative, full, gradual, lp_ft, partial
from stages.lib.training import optimizers

PLANS = {
    "full": lambda model: full.plan(model, epochs=1, lr=0.1, head_lr=0.5),
    "one rate for all": lambda model: full.plan(model, epochs=1, lr=0.1, head_lr=0.1),
    "partial": lambda model: partial.plan(model, epochs=1, trainable=Trainable(last_blocks=2), lr=0.1, head_lr=0.5),
    "discriminative": lambda model: discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=0.5, rates={}),
    "rates": lambda model: discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=0.5, rates={"*.bias": 0.03}),
    "lp_ft": lambda model: lp_ft.plan(model, probe_epochs=1, head_lr=0.5, epochs=1, lr=0.1),
    "gradual": lambda model: gradual.plan(model, epochs=1, steps=3, lr=0.1, head_lr=0.5, decay=0.5),
}
NETWORKS = ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "efficientvit_b0"]


def network(name, head=None):
    """Without values: what is tested here are names and shapes."""
    with torch.device("meta"):
        return backbones.build({"library": "timm", "model": name, "head": head or {}}, 3)


def linear():
    """A backbone of two layers and a head, with values that are easy to read in an error."""
    torch.manual_seed(0)
    return backbones.Model(nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 5)), nn.Linear(5, 2))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("plan", PLANS)
def test_every_trained_tensor_is_in_exactly_one_group_with_its_own_rate(name, plan):
    """efficientvit_b0 calls a block of its backbone `head`, which must not be taken for the head."""
    model = network(name)
    for phase in PLANS[plan](model):
        groups = optimizers.groups(model, phase.lrs)
        listed = [tensor for tensors in groups.values() for tensor in tensors]
        assert sorted(listed) == sorted(phase.lrs)
        for label, tensors in groups.items():
            assert len({phase.lrs[tensor] for tensor in tensors}) == 1, label
            assert len({tensor.startswith("head.") for tensor in tensors}) == 1, label
            assert label.startswith("head") == tensors[0].startswith("head."), label


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("plan", PLANS)
def test_the_optimizer_holds_every_trained_tensor_once_and_decays_only_matrices(name, plan):
    model = network(name, {"hidden": 4})
    names = {id(parameter): tensor for tensor, parameter in model.named_parameters()}
    for phase in PLANS[plan](model):
        groups = optimizers.build(model, phase.lrs, optimizer="sgd", momentum=0.9, weight_decay=0.05).param_groups
        held = {names[id(parameter)]: group for group in groups for parameter in group["params"]}
        assert sum(len(group["params"]) for group in groups) == len(held)
        assert held.keys() == phase.lrs.keys()
        for tensor, group in held.items():
            assert group["lr"] == group["peak_lr"] == phase.lrs[tensor]
            assert group["weight_decay"] == (0.05 if model.get_parameter(tensor).ndim > 1 else 0)


def test_groups_are_named_after_the_blocks_that_share_a_rate():
    model = network("test_efficientnet")
    blocks = list(layers.blocks(model))
    assert list(optimizers.groups(model, PLANS["full"](model)[0].lrs)) == ["backbone", "head"]
    assert list(optimizers.groups(model, PLANS["discriminative"](model)[0].lrs)) == [*blocks, "head"]
    assert list(optimizers.groups(model, PLANS["lp_ft"](model)[0].lrs)) == ["head"]
    rates = {"blocks.[01].*": 0.01, "blocks.3.*.bias": 0.02}
    (phase,) = discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates=rates)
    lrs = phase.lrs
    assert list(optimizers.groups(model, lrs)) == [f"{blocks[0]}..{blocks[-1]}", "blocks.0..blocks.1", "blocks.3", "head"]
    lrs["head.bias"] = 0.7
    assert list(optimizers.groups(model, lrs))[-2:] == ["head", "head'"]


def test_parameters_beside_the_model_are_a_group_of_their_own():
    model, other = linear(), nn.Linear(5, 1)
    lrs = dict.fromkeys((name for name, _ in model.named_parameters()), 0.1)
    built = optimizers.build(
        model, lrs, optimizer="sgd", momentum=0.9, weight_decay=0.05, others=[("penalty", list(other.parameters()), 0.7)]
    )
    *groups, own = built.param_groups
    assert own["label"] == "penalty" and own["lr"] == own["peak_lr"] == 0.7
    assert own["params"] == list(other.parameters())
    assert all(group["lr"] == 0.1 and group["label"] != "penalty" for group in groups)


def reference(optimizer, values, gradients, *, lr, momentum, decay):
    """Two steps, written down from the papers (Sutskever et al. 2013 as torch has it; Kingma & Ba 2015; Loshchilov & Hutter
    2019)."""
    values, first, second = values.astype(float), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        if optimizer in ("sgd", "adam"):
            gradient = gradient + decay * values
        if optimizer == "sgd":
            first = momentum * first + gradient
            values = values - lr * (gradient + momentum * first)
            continue
        if optimizer == "adamw":
            values = values * (1 - lr * decay)
        first = momentum * first + (1 - momentum) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        values = values - lr * (first / (1 - momentum**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return values


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_steps_are_those_of_the_papers(optimizer, momentum):
    model = linear()
    before = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    lrs = dict.fromkeys(before, 0.1) | {"head.weight": 0.3, "head.bias": 0.3}
    steps = optimizers.build(model, lrs, optimizer=optimizer, momentum=momentum, weight_decay=0.2)
    random = np.random.default_rng(0)
    gradients = {name: random.normal(size=(2, *value.shape)) for name, value in before.items()}
    for step in range(2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.tensor(gradients[name][step], dtype=torch.float32)
        steps.step()
    for name, parameter in model.named_parameters():
        decay = 0.2 if parameter.ndim > 1 else 0.0
        expected = reference(optimizer, before[name], gradients[name], lr=lrs[name], momentum=momentum, decay=decay)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=1e-6, err_msg=name)


def test_adam_and_adamw_differ_by_where_they_decay():
    ends = []
    for optimizer in ("adam", "adamw"):
        model = linear()
        lrs = dict.fromkeys((name for name, _ in model.named_parameters()), 0.1)
        steps = optimizers.build(model, lrs, optimizer=optimizer, momentum=0.9, weight_decay=0.5)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        steps.step()
        ends.append(model.state_dict())
    assert (ends[0]["head.weight"] != ends[1]["head.weight"]).all()
    assert torch.equal(ends[0]["head.bias"], ends[1]["head.bias"])


@pytest.mark.parametrize(
    ("kind", "warmup", "points"),
    [
        ("constant", 0, {0: 1, 3.7: 1, 10: 1}),
        ("constant", 2, {0: 0, 0.5: 0.25, 1: 0.5, 2: 1, 9.9: 1}),
        ("cosine", 0, {0: 1, 5: 0.5, 2.5: 0.5 + math.sqrt(0.125), 10: 0}),
        ("cosine", 2, {0: 0, 1: 0.5, 2: 1, 6: 0.5, 10: 0}),
        ("cosine", 0.5, {0.25: 0.5, 0.5: 1, 5.25: 0.5}),
        ("step", 0, {0: 1, 4.99: 1, 5: 0.1, 7.49: 0.1, 7.5: 0.01, 10: 0.01}),
        ("step", 1, {0.5: 0.5, 1: 1, 5: 0.1}),
        ("one_cycle", 0, {0: 0.04, 1.5: 0.52, 3: 1, 6.5: 0.5, 10: 0}),
    ],
)
def test_a_schedule_is_what_its_name_says(kind, warmup, points):
    for progress, value in points.items():
        assert optimizers.schedule(kind, progress, 10, warmup) == pytest.approx(value, abs=1e-9), progress


@pytest.mark.parametrize("kind", ["constant", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("epochs", [1, 3, 50])
@pytest.mark.parametrize("warmup", [0, 0.3])
def test_a_schedule_rises_once_to_the_peak_and_never_leaves_0_to_1(kind, epochs, warmup):
    values = np.array([optimizers.schedule(kind, epochs * step / 1000, epochs, warmup) for step in range(1001)])
    assert values.min() >= 0 and values.max() == pytest.approx(1, abs=1e-4)
    top = int(np.argmax(values))
    assert (np.diff(values[: top + 1]) >= 0).all() and (np.diff(values[top:]) <= 0).all()
    assert top / 1000 * epochs == pytest.approx({"one_cycle": 0.3 * epochs}.get(kind, warmup), abs=2e-3 * epochs)
