"""Heads: what is trained, and the two that are computed, held against scikit-learn and numpy."""

import copy

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from stages.lib.core.contracts import NO_STEP
from stages.lib.networks import heads


def features(num, seed, num_classes=3, width=6):
    """Features of classes that overlap, of very different lengths, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(num) % num_classes
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    values = (centres[labels] + 1.2 * random.normal(size=(num, width))) * random.uniform(0.1, 50, (num, 1))
    return values.astype(np.float32), labels


def computed(spec, train):
    head = heads.build(6, 3, **spec)
    head.compute(torch.from_numpy(train[0]), torch.from_numpy(train[1]))
    return head


@pytest.mark.parametrize("neighbours", [1, 5, 20, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_nearest_neighbours_vote_as_in_scikit_learn(neighbours, temperature):
    train, val = features(60, 0), features(40, 1)
    head = computed({"kind": "knn", "neighbours": neighbours, "temperature": temperature, "num_examples": 60}, train)
    reference = KNeighborsClassifier(
        min(neighbours, 60), metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / temperature)
    ).fit(*train)
    shares = head(torch.from_numpy(val[0])).exp().numpy()
    np.testing.assert_allclose(shares, reference.predict_proba(val[0]).clip(1e-6), atol=1e-4)
    if neighbours == 5:
        assert 0.4 < (shares.argmax(1) == val[1]).mean() < 1


def test_a_class_without_a_vote_is_unlikely_and_not_impossible():
    train = features(30, 0)
    logits = computed({"kind": "knn", "neighbours": 1, "temperature": 0.1, "num_examples": 30}, train)(torch.from_numpy(train[0]))
    assert torch.isfinite(logits).all()
    assert (logits.argmax(1).numpy() == train[1]).all()  # each is its own neighbour


@pytest.mark.parametrize("temperature", [0.07, 2.0])
def test_prototypes_are_the_nearest_class_means(temperature):
    train, val = features(60, 0), features(40, 1)
    head = computed({"kind": "prototype", "temperature": temperature}, train)
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (train[0], val[0])]
    means = np.stack([unit[0][train[1] == label].mean(0) for label in range(3)])
    cosine = unit[1] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(head(torch.from_numpy(val[0])).numpy(), cosine / temperature, rtol=1e-4, atol=1e-5)


def test_prototypes_count_each_class_the_same_however_many_examples_it_has():
    values, labels = features(60, 0)
    few = np.concatenate([np.flatnonzero(labels == 0)[:2], np.flatnonzero(labels > 0)])
    head = computed({"kind": "prototype", "temperature": 1.0}, (values[few], labels[few]))
    twice = np.concatenate([few, np.flatnonzero(labels == 2)])
    again = computed({"kind": "prototype", "temperature": 1.0}, (values[twice], labels[twice]))
    torch.testing.assert_close(head.means, again.means)


@pytest.mark.parametrize(
    "spec", [{"kind": "knn", "neighbours": 3, "temperature": 0.1, "num_examples": 30}, {"kind": "prototype", "temperature": 0.1}]
)
def test_a_computed_head_has_no_parameters_and_travels_as_its_state(spec):
    train = features(30, 0)
    head = computed(spec, train)
    assert not list(head.parameters()) and head.computed
    copied = heads.build(6, 3, **spec)
    copied.load_state_dict(copy.deepcopy(head.state_dict()))
    val = torch.from_numpy(features(20, 1)[0])
    assert torch.equal(copied(val), head(val))


def test_a_plain_head_is_a_linear_layer():
    """Its tensors are head.weight and head.bias, as in every model that was saved before."""
    torch.manual_seed(3)
    head = heads.build(6, 3)
    torch.manual_seed(3)
    plain = nn.Linear(6, 3)
    assert type(head) is nn.Linear and torch.equal(head.weight, plain.weight) and torch.equal(head.bias, plain.bias)
    torch.manual_seed(3)
    assert torch.equal(heads.build(6, 3, kind="linear", hidden=0, dropout=0, zero=False).weight, plain.weight)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_mlp_is_a_hidden_layer_with_relu(dropout):
    head = heads.build(6, 3, hidden=5, dropout=dropout).eval()
    values = torch.from_numpy(features(20, 1)[0])
    first, *_, last = (module for module in head if isinstance(module, nn.Linear))
    hidden = np.maximum(values.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(head(values).detach().numpy(), expected, atol=1e-5)
    assert first.weight.shape == (5, 6) and last.weight.shape == (3, 5)


@pytest.mark.parametrize("hidden", [0, 400])
def test_dropout_falls_on_what_the_last_layer_sees_in_training_alone(hidden):
    torch.manual_seed(0)
    head = heads.build(400, 3, hidden=hidden, dropout=0.25)
    seen = []
    last = [module for module in head if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    values = torch.rand(50, 400) + 0.1
    head.train()(values)
    head.eval()(values)
    training, evaluation = seen
    before = values if not hidden else head[1](head[0](values)).detach()
    active = before != 0
    torch.testing.assert_close(evaluation, before)
    dropped = (training == 0) & active
    assert abs(dropped[active].float().mean() - 0.25) < 0.02
    torch.testing.assert_close(training[active & ~dropped], before[active & ~dropped] / 0.75)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_zero_head_thinks_every_class_equally_likely_and_can_learn(hidden, dropout):
    head = heads.build(6, 3, hidden=hidden, dropout=dropout, zero=True).train()
    values = torch.from_numpy(features(20, 1)[0]).requires_grad_()
    logits = head(values)
    assert (logits == 0).all()
    nn.functional.cross_entropy(logits, torch.zeros(20, dtype=torch.int64)).backward()
    assert (values.grad == 0).all()  # no noise of a random layer reaches the backbone in the first step
    last = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    assert last.weight.grad.abs().sum() > 0
    if hidden:
        assert head[0].weight.abs().sum() > 0  # or it could never learn


def test_an_argument_that_a_kind_does_not_have_is_an_error():
    with pytest.raises(TypeError, match="neighbours"):
        heads.build(6, 3, kind="prototype", temperature=0.1, neighbours=3)


# For each step of sequences.


def steps(*lengths, width=6, dtype=torch.float32):
    """Random features (N, longest, width) with NO_STEP beyond each length, and which steps are real."""
    values = torch.randn(len(lengths), max(lengths), width, generator=torch.Generator().manual_seed(0))
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return values.masked_fill(~real[..., None], NO_STEP).to(dtype), real


@pytest.mark.parametrize("spec", [{}, {"hidden": 4}, {"hidden": 4, "dropout": 0.5}, {"zero": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_step_has_its_own_logits_and_padded_steps_stay_padded(spec, dtype):
    head = heads.build(6, 3, steps=True, **spec).eval().to(dtype)
    features, real = steps(4, 1, 3, dtype=dtype)
    logits = head(features)
    assert logits.shape == (3, 4, 3) and (logits[~real] < NO_STEP / 2).all() and (logits[real] > NO_STEP / 2).all()
    assert logits[~real].float().allclose(torch.tensor(NO_STEP), rtol=0.01)
    torch.testing.assert_close(logits[real], head.layers(features[real]))


def test_padded_steps_give_no_gradient_and_spoil_none():
    head = heads.build(6, 3, steps=True, hidden=4)
    features, real = steps(4, 1, 3)
    features.requires_grad_()
    head(features)[real].square().sum().backward()
    whole = [parameter.grad.clone() for parameter in head.parameters()]
    assert all(gradient.isfinite().all() for gradient in whole)
    assert not features.grad[~real].any() and features.grad[real].any()
    head.zero_grad()
    head.layers(features.detach()[real]).square().sum().backward()
    for gradient, parameter in zip(whole, head.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_head_for_steps_holds_the_layers_of_a_plain_one():
    torch.manual_seed(0)
    each = heads.build(6, 3, steps=True, hidden=4)
    torch.manual_seed(0)
    plain = heads.build(6, 3, hidden=4)
    assert type(heads.build(6, 3, steps=True)) is heads.EachStep
    assert {f"layers.{name}": tuple(each.shape) for name, each in plain.state_dict().items()} == {
        name: tuple(each.shape) for name, each in each.state_dict().items()
    }
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), each.parameters(), strict=True))
