"""Batch spectral shrinkage: its value, its gradient where singular values repeat, and what it shrinks."""

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from stages.lib.strategies.bss.penalty import attach, bss
from tests.lib.strategies.penalties import examples, images_of, pair, process_group, traces, trained


def matrix(num, size, singular, seed=0):
    """A (num, size) matrix with these singular values, in float64."""
    random = np.random.default_rng(seed)
    left = np.linalg.qr(random.standard_normal((num, len(singular))))[0]
    right = np.linalg.qr(random.standard_normal((size, len(singular))))[0]
    return torch.from_numpy(left * np.array(singular) @ right.T)


def by_svd(features, k):
    return (np.linalg.svd(features.detach().double().numpy(), compute_uv=False)[::-1][:k] ** 2).sum()


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 4)])
@pytest.mark.parametrize("k", [1, 3, 5, 99])
def test_the_penalty_is_that_of_numpys_singular_values(shape, k):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert bss(features, 0.3, k).item() == pytest.approx(0.3 * by_svd(features, k), rel=1e-10)
    assert bss(features.float(), 0.3, k).item() == pytest.approx(0.3 * by_svd(features, k), rel=1e-4)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_gradient_is_that_of_finite_differences(shape, k):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: bss(given, 0.3, k), [features])


@pytest.mark.parametrize("singular", [[2, 2, 2, 2], [3, 1, 1, 1], [3, 1, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_singular_values_have_a_finite_gradient(singular, k, dtype):
    features = matrix(4, 7, singular).to(dtype).requires_grad_()
    penalty = bss(features, 0.5, k)
    penalty.backward()
    assert penalty.item() == pytest.approx(0.5 * by_svd(features, k), abs=1e-5)
    assert torch.isfinite(features.grad).all()
    # Of eta * sum of s^2 over the k directions, the gradient has the norm 2 * eta * sqrt(sum of s^2), however they are chosen.
    assert features.grad.norm().item() == pytest.approx(2 * 0.5 * by_svd(features, k) ** 0.5, abs=1e-4)


def test_a_group_of_equal_values_that_is_taken_whole_has_the_exact_gradient():
    features = matrix(4, 7, [3, 1, 1, 1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: bss(given, 0.5, 3), [features])


def test_images_that_are_twice_in_a_batch_do_no_harm():
    features = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    features = torch.cat([features, features]).requires_grad_()
    penalty = bss(features, 1.0, 2)
    penalty.backward()
    assert penalty.item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(features.grad).all()


def test_only_the_weak_directions_shrink():
    features = matrix(6, 20, [9, 7, 5, 3, 2, 1]).requires_grad_()
    bss(features, 1.0, 2).backward()
    after = np.linalg.svd((features - 0.1 * features.grad).detach().numpy(), compute_uv=False)
    assert after == pytest.approx([9, 7, 5, 3, 2 * 0.8, 1 * 0.8])


def test_small_singular_values_beside_a_large_one_keep_their_digits():
    features = matrix(8, 50, [3000, 40, 30, 20, 10, 1, 0.5, 0.25]).float()
    assert bss(features, 1.0, 2).item() == pytest.approx(0.25**2 + 0.5**2, rel=1e-2)


def test_strength_zero_turns_it_off():
    features = matrix(4, 7, [4, 3, 2, 1]).requires_grad_()
    penalty = bss(features, 0.0, 2)
    penalty.backward()
    assert penalty == 0
    assert (features.grad == 0).all()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_give_a_penalty_that_is_none(broken):
    features = matrix(4, 7, [4, 3, 2, 1])
    features[2, 3] = broken
    assert not torch.isfinite(bss(features, 1.0, 2))


def test_half_precision_is_left_for_the_sum():
    features = matrix(6, 20, [9, 7, 5, 3, 2, 1]).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        penalty = bss(features, 1.0, 2)
    penalty.backward()
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(by_svd(features, 2), rel=1e-4)
    assert features.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_it_sees_the_features_of_the_forward_pass_that_came_last(name):
    (model, start), train = pair(name), examples(name)
    with attach(model, start, train, None, eta=0.1, k=2) as compute:
        model(torch.zeros_like(images_of(train)))
        model(images_of(train))
        penalty = compute(images_of(train))
    penalty.backward()
    assert penalty.item() == pytest.approx(0.1 * by_svd(model.backbone(images_of(train)), 2), rel=1e-3)
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.backbone.parameters())
    assert all(parameter.grad is None for parameter in model.head.parameters())


def test_nothing_is_left_on_the_model():
    model, start = pair()
    with attach(model, start, None, None, eta=1.0, k=1):
        assert traces(model) == ["backbone"]
    assert traces(model, start) == []


def test_features_are_not_used_twice():
    model, start = pair()
    with attach(model, start, None, None, eta=1.0, k=1) as compute:
        model(images_of(examples()))
        compute(None)
        model.head(torch.zeros(2, model.head.in_features))  # all that runs where features are computed once
        with pytest.raises(ValueError, match="features"):
            compute(None)


def test_repeated_training_gives_the_same_bits():
    def strong(*args):
        return attach(*args, eta=0.01, k=2)

    def off(*args):
        return attach(*args, eta=0.0, k=2)

    first, again, without = trained(strong), trained(strong), trained(off)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, without[name]) for name, tensor in first.items())


def test_data_parallel_training_goes_as_it_does_without():
    def strong(*args):
        return attach(*args, eta=0.01, k=2)

    alone = trained(strong)
    with process_group():
        parallel = trained(strong, wrap=DistributedDataParallel)
    assert all(torch.allclose(tensor, parallel[name], atol=1e-6) for name, tensor in alone.items())
