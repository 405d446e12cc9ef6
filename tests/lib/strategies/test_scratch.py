"""What scratch trains."""

from stages.lib.core.contracts import Phase
from stages.lib.strategies import scratch
from tests.lib.strategies.blocks import everything, head


def test_scratch_trains_everything_with_one_rate(model):
    phases = scratch.plan(model, epochs=2, lr=0.1)
    trained = everything(model, 0.1) | head(0.1)
    assert phases == [Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=True)]
