"""What full trains."""

from stages.lib.core.contracts import Phase
from stages.lib.strategies import full
from tests.lib.strategies.blocks import everything, head


def test_full_trains_everything(model):
    trained = everything(model, 0.1) | head(0.5)
    phases = full.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    assert phases == [Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=True)]
