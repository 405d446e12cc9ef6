"""What lp_ft trains, and when."""

from stages.lib.core.contracts import Phase
from stages.lib.strategies import lp_ft
from tests.lib.strategies.blocks import everything, head


def test_lp_ft_probes_and_then_trains_everything_with_one_rate(model):
    probe, tuning = lp_ft.plan(model, probe_epochs=3, head_lr=0.5, epochs=2, lr=0.1)
    assert probe == Phase(lrs=head(0.5), epochs=3, plain=True, penalties=(), statistics=True)
    assert tuning == Phase(lrs=everything(model, 0.1) | head(0.1), epochs=2, plain=False, penalties=(), statistics=True)
