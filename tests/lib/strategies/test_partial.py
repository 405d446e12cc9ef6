"""What partial trains."""

import pytest

from stages.lib.core.contracts import Phase
from stages.lib.params.fields import Trainable
from stages.lib.strategies import partial
from tests.lib.strategies.blocks import head, last


@pytest.mark.parametrize("count", [1, 3])
def test_partial_trains_what_is_selected_and_the_head(model, network, count):
    phases = partial.plan(model, epochs=2, trainable=Trainable(last_blocks=count), lr=0.1, head_lr=0.5)
    trained = last(model, network, count, 0.1) | head(0.5)
    assert phases == [Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=True)]
