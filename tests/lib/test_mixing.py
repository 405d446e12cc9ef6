"""Mixup and cutmix: how a batch is mixed, and that pixels and labels agree about it."""

import numpy as np
import pytest
import torch
from scipy import stats

from stages.lib import mixing


def draws(num=4000, size=8, **alphas):
    chance = np.random.default_rng(0)
    return [mixing.draw(size, **alphas, chance=chance) for _ in range(num)]


def by_label(labels, num_classes, height, width):
    """Images that show their label: channel c is 1 where the label is c. The mean over pixels is then the soft label."""
    images = torch.nn.functional.one_hot(labels, num_classes).float()
    return images[:, :, None, None].expand(-1, -1, height, width).contiguous()


def test_without_an_alpha_nothing_is_mixed_and_nothing_is_drawn():
    chance = np.random.default_rng(0)
    before = chance.bit_generator.state
    assert mixing.draw(8, mixup=0, cutmix=0, chance=chance) is None
    assert chance.bit_generator.state == before


def test_equal_generators_draw_equal_mixes():
    """Each process draws for itself how the whole batch is mixed."""
    one, other = (mixing.draw(8, mixup=0.4, cutmix=1.0, chance=np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.partner, other.partner) and one[1:] == other[1:]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_drawn_from_the_beta_distribution(kind, alpha):
    found = draws(**{"mixup": 0, "cutmix": 0} | {kind: alpha})
    assert all((mix.box is not None) == (kind == "cutmix") for mix in found)
    assert stats.kstest([mix.share for mix in found], stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_with_both_each_batch_takes_one_of_them_by_a_coin():
    cut = np.array([mix.box is not None for mix in draws(mixup=1.0, cutmix=1.0)])
    assert abs(cut.mean() - 0.5) < 0.03


@pytest.mark.parametrize("size", [1, 2, 7])
def test_partners_are_a_permutation_of_the_batch(size):
    found = draws(50, size, mixup=1.0, cutmix=0)
    assert all(sorted(mix.partner.tolist()) == list(range(size)) for mix in found)
    assert len({tuple(mix.partner.tolist()) for mix in found}) == {1: 1, 2: 2, 7: 50}[size]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("sides", [(32, 32), (17, 40)])
def test_the_pixels_of_an_image_say_its_label_shares(kind, sides):
    labels = torch.tensor([0, 1, 2, 2, 0])
    images = by_label(labels, 3, *sides)
    shares = []
    for mix in draws(200, 5, **{"mixup": 0, "cutmix": 0} | {kind: 1.0}):
        mixed, kept = mixing.apply(images, images[mix.partner], mix)
        wanted = kept * images[:, :, 0, 0] + (1 - kept) * images[mix.partner][:, :, 0, 0]
        torch.testing.assert_close(mixed.mean((2, 3)), wanted, atol=1e-5, rtol=0)
        assert 0 <= kept <= 1 and mixed.shape == images.shape
        shares.append(kept)
    assert min(shares) < 0.2 and max(shares) > 0.9


def test_mixup_is_a_straight_line_between_two_images():
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    mix = mixing.Mix(torch.tensor([2, 0, 3, 1]), 0.3, None)
    mixed, kept = mixing.apply(images, images[mix.partner], mix)
    assert kept == 0.3
    np.testing.assert_allclose(mixed, 0.3 * images.numpy() + 0.7 * images.numpy()[[2, 0, 3, 1]], atol=1e-6)


def test_cutmix_pastes_one_rectangle_and_leaves_the_rest():
    images = torch.randn(3, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    mix = mixing.Mix(torch.tensor([1, 2, 0]), 0.5, (0.1, 0.5, 0.25, 0.8))
    mixed, kept = mixing.apply(images, images[mix.partner], mix)
    expected = given.numpy().copy()
    expected[:, :, 2:10, 10:32] = given.numpy()[[1, 2, 0], :, 2:10, 10:32]
    np.testing.assert_array_equal(mixed, expected)
    assert kept == pytest.approx(1 - 8 * 22 / 800)
    assert torch.equal(images, given)  # what was given may be someone else's


def test_boxes_have_the_drawn_area_but_for_what_the_border_cuts_off():
    """The centre lies anywhere in the image, as in the paper, so a box may reach over the border."""
    whole = 0
    for mix in draws(500, mixup=0, cutmix=1.0):
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 1 and 0 <= left <= right <= 1
        if min(top, left) > 0 and max(bottom, right) < 1:
            assert (bottom - top) * (right - left) == pytest.approx(1 - mix.share)
            assert bottom - top == pytest.approx(right - left)
            whole += 1
        else:
            assert (bottom - top) * (right - left) <= 1 - mix.share + 1e-9
    assert whole > 50


def test_mixed_images_stay_in_the_memory_format_that_is_fast():
    images = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    for box in (None, (0.0, 0.5, 0.0, 0.5)):
        mixed, _ = mixing.apply(images, images.flip(0), mixing.Mix(torch.tensor([1, 0]), 0.5, box))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
