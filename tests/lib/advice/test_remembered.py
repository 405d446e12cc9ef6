"""The preprocessing test by what a normalisation layer remembers: a wrong card is found, the right one is not doubted."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from stages.lib.advice import remembered
from stages.lib.advice.preprocessing import possible
from stages.lib.modalities.image.variants import NORMALISATIONS, VARIANTS, as_on_card

SETTINGS = {"groups": None, "confidence": 0.95, "num_resamples": 1000, "seed": 0}


def photos(num, seed, warm=25.0):
    """Images (num, 24, 24, 3) of noise, brighter and darker ones, with more red than blue."""
    random = np.random.default_rng(seed)
    level = random.normal(125, 35, (num, 1, 1, 1)) + random.normal(0, 10, (num, 1, 1, 3)) + np.array([warm, 0, -warm])
    return torch.from_numpy((level + random.normal(0, 30, (num, 24, 24, 3))).clip(0, 255).astype(np.uint8))


def card(name):
    mean, std = NORMALISATIONS[name]
    return {"mean": mean, "std": std, "px": 24}


def network(preprocessing, images=None):
    """A convolution and a BatchNorm that remembers how these inputs come out of it."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, momentum=None), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with torch.no_grad():
        backbone.train()(as_on_card(photos(300, seed=1) if images is None else images, preprocessing))
    return backbone.eval()


def rows(backbone, preprocessing, images):
    tried = possible(VARIANTS, as_on_card, images, preprocessing)
    ways = {"card": as_on_card} | {name: each.prepare for name, each in tried.items() if each.values}
    found = {name: remembered.moments(backbone, [lambda way=way: way(images, preprocessing)]) for name, way in ways.items()}
    return remembered.compare(found["card"][0], {name: seen for name, (_, seen) in found.items()}, **SETTINGS)


def words(*arguments, margin=0.05):
    return remembered.words(rows(*arguments), VARIANTS, margin)


def test_the_divergence_is_that_of_two_gaussians():
    backbone, images = network(card("mean and std 0.5")), photos(20, seed=2)
    inputs = as_on_card(images, card("mean and std 0.5"))
    layer, seen = remembered.moments(backbone, [lambda: inputs[:7], lambda: inputs[7:]])
    assert layer is backbone[1] and seen.shape == (20, 16, 2)
    weights = np.random.default_rng(0).integers(0, 4, (5, 20)).astype(float)
    for weight, found in zip(weights, remembered.divergence(layer, seen, weights), strict=True):
        drawn = inputs.repeat_interleave(torch.from_numpy(weight).long(), 0)
        with torch.no_grad():
            values = backbone[0](drawn).double().transpose(0, 1).flatten(1)
        here = Normal(values.mean(1), (values.var(1, correction=0) + layer.eps).sqrt())
        there = Normal(layer.running_mean.double(), (layer.running_var.double() + layer.eps).sqrt())
        assert found == pytest.approx(kl_divergence(here, there).mean().item(), rel=1e-4)


def test_what_was_seen_in_training_is_not_far():
    images = photos(300, seed=1)
    (first, *_) = rows(network(card("mean and std 0.5"), images), card("mean and std 0.5"), images)
    assert first.name == "card" and first.divergence < 1e-3 and first.reduction == 0 and not first.wins


@pytest.mark.parametrize("right", ["mean and std 0.5", "ImageNet mean and std", "no normalisation"])
def test_a_wrong_card_is_found_and_the_right_one_named(right):
    backbone, images = network(card(right)), photos(80, seed=2)
    assert words(backbone, card(right), images) == []
    for wrong in set(NORMALISATIONS) - {right}:
        (text,) = words(backbone, card(wrong), images)
        assert f"With {right} the target's" in text and f"trained with {right}," in text


def test_swapped_channels_are_found_but_not_in_grey_images():
    right = card("ImageNet mean and std")
    backbone, images = network(right), photos(80, seed=2)
    backbone[0].weight.data = backbone[0].weight.data.flip(1)  # as if trained on blue, green, red
    swapped = right | {"mean": right["mean"][::-1], "std": right["std"][::-1]}
    (text,) = words(backbone, swapped, images)
    assert "With BGR" in text and "weight.flip(1)" in text
    grey = images[..., :1].expand(-1, -1, -1, 3).contiguous()
    assert "BGR" not in [row.name for row in rows(backbone, card("mean and std 0.5"), grey)]


def test_the_right_card_is_never_doubted():
    right = card("ImageNet mean and std")
    backbone = network(right)
    assert [words(backbone, right, photos(30, seed=seed)) for seed in range(2, 42)] == [[]] * 40


def test_images_unlike_those_of_training_decide_nothing():
    right, black = card("mean and std 0.5"), torch.zeros(30, 24, 24, 3, dtype=torch.uint8)
    black[:, ::6] = 255
    found = rows(network(right), card("no normalisation"), black)
    assert min(row.divergence for row in found) > remembered.NEAR
    assert not remembered.decides(found) and remembered.words(found, VARIANTS, 0.0) == []
    assert not remembered.decides([])


def test_the_margin_is_the_reduction_that_is_needed():
    backbone, images, wrong = network(card("mean and std 0.5")), photos(80, seed=2), card("ImageNet mean and std")
    best = min(rows(backbone, wrong, images), key=lambda row: row.divergence)
    assert best.name == "mean and std 0.5" and 0.3 < best.lower < best.reduction
    assert words(backbone, wrong, images, margin=best.reduction + 0.001) == []
    assert len(words(backbone, wrong, images, margin=best.reduction - 0.001)) == 1


def test_chance_is_no_warning():
    """Two groups of images whose colours differ: with so few of them, the mean over groups says nothing."""
    right = card("ImageNet mean and std")
    backbone, images = network(right), torch.cat([photos(40, seed=2, warm=30), photos(40, seed=3, warm=-40)])
    tried = {"card": as_on_card, "BGR": VARIANTS["BGR"].prepare}
    seen = {name: remembered.moments(backbone, [lambda way=way: way(images, right)])[1] for name, way in tried.items()}
    groups = np.repeat(["one", "other"], 40)
    assert not remembered.compare(backbone[1], seen, **SETTINGS | {"groups": groups})[1].wins


class Turned(nn.Module):
    """Its layers run in another order than they are listed."""

    def __init__(self, first):
        super().__init__()
        self.late, self.early = nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(3, 4, 3), first)

    def forward(self, inputs):
        return self.late(self.early(inputs))


def test_the_first_layer_is_the_one_that_runs_first():
    first = nn.BatchNorm2d(4)
    nn.init.normal_(first.running_mean)
    inputs = torch.rand(5, 3, 8, 8)
    assert remembered.moments(Turned(first).eval(), [lambda: inputs])[0] is first


@pytest.mark.parametrize("backbone", [nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), Turned(nn.BatchNorm2d(4)),
                                      Turned(nn.BatchNorm2d(4, track_running_stats=False))])  # fmt: skip
def test_a_network_that_remembers_nothing_is_not_asked(backbone):
    assert remembered.moments(backbone.eval(), [lambda: torch.rand(5, 3, 8, 8)]) is None


def test_no_hook_stays_behind():
    backbone = network(card("mean and std 0.5"))
    remembered.moments(backbone, [lambda: torch.rand(5, 3, 8, 8)])
    assert backbone(torch.rand(2, 3, 8, 8)).shape == (2, 16)
