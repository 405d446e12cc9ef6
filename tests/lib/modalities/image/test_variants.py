"""Each variant is the mistake that its name says."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stages.lib.advice.preprocessing import possible
from stages.lib.modalities.image.variants import NORMALISATIONS, TRAINED_SIZE, VARIANTS, as_on_card

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "px": 24}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "px": 24}


def noise(num, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (num, height, width, 3), dtype=np.uint8))


def possible_for(images, preprocessing):
    return possible(VARIANTS, as_on_card, images, preprocessing)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no normalisation", lambda x: x / 255),
        ("mean and std 0.5", lambda x: x / 127.5 - 1),
        ("ImageNet mean and std", lambda x: (x / 255 - IMAGENET["mean"]) / IMAGENET["std"]),
        ("0 to 255", lambda x: x),
        ("BGR", lambda x: (x[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]),
    ],
)
def test_a_variant_is_what_its_name_says(name, expected):
    images = noise(3, 6, 6)
    inputs = VARIANTS[name].prepare(images, {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "px": 6})
    assert inputs.dtype == torch.float32 and inputs.shape == (3, 3, 6, 6)
    np.testing.assert_allclose(inputs.permute(0, 2, 3, 1).numpy(), expected(images.numpy().astype(float)), atol=1e-4)


@pytest.mark.parametrize(("name", "side"), [("half size", 12), (TRAINED_SIZE, 31)])
def test_sizes_are_resampled_as_pillow_does(name, side):
    images = noise(2, 24, 24)
    inputs = VARIANTS[name].prepare(images, HALF | {"px": 31})
    assert inputs.dtype == torch.float32 and inputs.shape == (2, 3, side, side)
    for image, planes in zip(images.numpy(), inputs.numpy(), strict=True):
        for channel, plane in enumerate(planes):
            whole = Image.fromarray((image[..., channel] / 127.5 - 1).astype(np.float32))
            expected = np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(plane, expected, atol=1e-4)


def test_variants_that_change_nothing_are_left_out():
    colour = noise(5, 24, 24)
    assert list(possible_for(colour, IMAGENET | {"px": 32})) == [name for name in VARIANTS if name != "ImageNet mean and std"]
    assert list(possible_for(colour, HALF)) == [name for name in VARIANTS if name not in ("mean and std 0.5", TRAINED_SIZE)]
    assert "half size" not in possible_for(colour, HALF | {"px": 12}), "it is the size the weights were trained at"
    assert TRAINED_SIZE in possible_for(colour, HALF | {"px": 12})
    nearly = {"mean": [0.5] * 3, "std": [0.500001] * 3, "px": 24}
    assert "mean and std 0.5" not in possible_for(colour, nearly)
    assert "mean and std 0.5" in possible_for(colour, HALF | {"std": [0.5, 0.5, 0.49]})


def test_channels_count_where_any_image_has_colour():
    grey = noise(70, 8, 8)[..., :1].repeat(1, 1, 1, 3)
    assert "BGR" not in possible_for(grey, IMAGENET)
    grey[67, 3, 3, 0] = 255 - grey[67, 3, 3, 2]
    assert "BGR" in possible_for(grey, IMAGENET)


def test_the_advice_on_swapped_channels_works():
    """A convolution with reversed input channels and a card with reversed mean answers as the variant does."""
    card = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "px": 8}
    turned = {"mean": card["mean"][::-1], "std": card["std"][::-1], "px": 8}
    weight, images = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)), noise(2, 8, 8)
    wanted = nn.functional.conv2d(VARIANTS["BGR"].prepare(images, card), weight)
    torch.testing.assert_close(nn.functional.conv2d(as_on_card(images, turned), weight.flip(1)), wanted, rtol=0, atol=1e-4)


def test_every_variant_of_a_normalisation_is_a_card_that_could_be_written():
    images = noise(2, 6, 6)
    for name, (mean, std) in NORMALISATIONS.items():
        card = {"mean": mean, "std": std, "px": 6}
        torch.testing.assert_close(VARIANTS[name].prepare(images, HALF), as_on_card(images, card), rtol=0, atol=0)
        assert name not in possible_for(images, card)


def test_grey_images_get_the_mean_over_the_channels_and_no_swapped_ones():
    grey, card = noise(5, 28, 28)[..., :1], {"mean": [0.1307], "std": [0.3081], "px": 28}
    found = possible_for(grey, card)
    assert list(found) == [name for name in VARIANTS if name not in ("BGR", TRAINED_SIZE)]
    inputs = found["ImageNet mean and std"].prepare(grey, card)
    expected = (grey[..., 0].numpy() / 255 - np.mean(IMAGENET["mean"])) / np.mean(IMAGENET["std"])
    np.testing.assert_allclose(inputs[:, 0].numpy(), expected, atol=1e-4)
    assert "(for grey images [0.449] and [0.226])" in VARIANTS["ImageNet mean and std"].remedy
