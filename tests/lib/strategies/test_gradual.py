"""What gradual unfreezes in each of its phases."""

import pytest

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.strategies import gradual
from tests.lib.strategies.blocks import head, last


@pytest.mark.parametrize(("steps", "unfrozen"), [(1, [7]), (2, [3, 7]), (3, [2, 4, 7]), (7, [1, 2, 3, 4, 5, 6, 7])])
def test_gradual_unfreezes_from_the_head_down(model, network, steps, unfrozen):
    first, *later = gradual.plan(model, epochs=2, steps=steps, lr=0.1, head_lr=0.5, decay=0.5)
    assert first == Phase(lrs=head(0.5), epochs=2, plain=True, penalties=(), statistics=True)
    assert len(later) == steps
    for step, (count, phase) in enumerate(zip(unfrozen, later, strict=True)):
        rate = 0.1 / 2**step
        trained = last(model, network, count, rate) | head(rate)
        assert phase == Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=True)


def test_gradual_with_more_steps_than_blocks_says_how_many_there_are(model, network):
    first = {"test_resnet": "conv1.0", "test_vit": "patch_embed", "test_efficientnet": "conv_stem"}[network]
    with pytest.raises(UserError, match=rf"steps: 8 was given, but this backbone has 7 blocks \({first}.*Allowed: 1 to 7"):
        gradual.plan(model, epochs=2, steps=8, lr=0.1, head_lr=0.5, decay=0.5)
