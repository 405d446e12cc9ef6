"""Mixup and cutmix as they are drawn for each batch. (That pixels and labels agree about it is tested where images are mixed.)"""

import numpy as np
import pytest
import torch
from scipy import stats

from stages.lib.training import mixing


def draws(num=4000, size=8, **alphas):
    random = np.random.default_rng(0)
    return [mixing.draw(size, **alphas, random=random) for _ in range(num)]


def test_without_an_alpha_nothing_is_mixed_and_nothing_is_drawn():
    random = np.random.default_rng(0)
    before = random.bit_generator.state
    assert mixing.draw(8, mixup=0, cutmix=0, random=random) is None
    assert random.bit_generator.state == before


def test_equal_generators_draw_equal_mixes():
    """Each process draws for itself how the whole batch is mixed."""
    one, other = (mixing.draw(8, mixup=0.4, cutmix=1.0, random=np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.partner, other.partner) and one[1:] == other[1:]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_fractions_are_drawn_from_the_beta_distribution(kind, alpha):
    found = draws(**{"mixup": 0, "cutmix": 0} | {kind: alpha})
    assert all((mix.box is not None) == (kind == "cutmix") for mix in found)
    assert stats.kstest([mix.fraction for mix in found], stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_with_both_each_batch_takes_one_of_them_by_a_coin():
    cut = np.array([mix.box is not None for mix in draws(mixup=1.0, cutmix=1.0)])
    assert abs(cut.mean() - 0.5) < 0.03


@pytest.mark.parametrize("size", [1, 2, 7])
def test_partners_are_a_permutation_of_the_batch(size):
    found = draws(50, size, mixup=1.0, cutmix=0)
    assert all(sorted(mix.partner.tolist()) == list(range(size)) for mix in found)
    assert len({tuple(mix.partner.tolist()) for mix in found}) == {1: 1, 2: 2, 7: 50}[size]


def test_boxes_have_the_drawn_area_but_for_what_the_border_cuts_off():
    """The centre lies anywhere in the image, as in the paper, so a box may reach over the border."""
    whole = 0
    for mix in draws(500, mixup=0, cutmix=1.0):
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 1 and 0 <= left <= right <= 1
        if min(top, left) > 0 and max(bottom, right) < 1:
            assert (bottom - top) * (right - left) == pytest.approx(1 - mix.fraction)
            assert bottom - top == pytest.approx(right - left)
            whole += 1
        else:
            assert (bottom - top) * (right - left) <= 1 - mix.fraction + 1e-9
    assert whole > 50
