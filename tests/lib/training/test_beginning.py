"""The frozen beginning of a network is computed once where inputs do not change, and gives what the whole network gives."""

import copy

import pytest
import torch
from torch import nn

from stages.lib.core.contracts import Phase
from stages.lib.networks import backbones
from stages.lib.networks.layers import units
from stages.lib.training import beginning
from tests.lib.training.small import PLAIN, PLANS, copied, custom, equal, points, run, without_times
from tests.tiny import network

BATCHES = 4 + 3  # of train and val


def trained(model, phases, first, monkeypatch=None, **changes):
    """History, tensors, how often the first part of the network computed something, and the rest."""
    through = []
    first.register_forward_hook(lambda module, *_: None if "forward" in vars(module) else through.append(1))
    if monkeypatch:
        monkeypatch.setattr(beginning, "MOST_BYTES", 0)
    fitted = run(model, phases, **changes)
    return without_times(fitted.history), copied(model), len(through), fitted


def both(make, plan, monkeypatch, **changes):
    """The same training with its beginning computed once, and without."""
    found = []
    for whole in (None, monkeypatch):
        model = make()
        found.append(trained(model, plan(model), next(iter(units(model).values())), whole, **changes))
    return found


@pytest.mark.parametrize("ema", [0, 0.9])
def test_the_same_bits_with_fewer_passes(monkeypatch, ema):
    once, always = both(network, PLANS["partial"], monkeypatch, ema=ema)
    assert once[0] == always[0] and equal(once[1], always[1])
    assert once[2] == BATCHES + 2, "once, and twice to try it"
    assert always[2] == 3 * BATCHES + 2, "in each epoch, and to try it"
    certificate = once[3].certificates[0]
    assert set(certificate[certificate.declared == "frozen"].verdict) == {"ok"}


def test_it_resumes_to_the_same_bits():
    states = []
    whole = trained(
        model := network(),
        PLANS["partial"](model),
        model.backbone.conv1[0],
        ema=0.9,
        save=lambda state: states.append(copy.deepcopy(state)),
    )
    again = trained(model := network(), PLANS["partial"](model), model.backbone.conv1[0], ema=0.9, state=states[0])
    assert again[0] == whole[0] and equal(again[1], whole[1])


@pytest.mark.parametrize("changes", [{"augment": "inspection"}, {"mixup": 0.5}, {"cutmix": 0.5}])
def test_inputs_that_change_pass_through_all_of_it(changes):
    model = network()
    *_, calls, _ = trained(model, PLANS["partial"](model), model.backbone.conv1[0], **changes)
    assert calls >= 3 * BATCHES


def test_a_penalty_sees_the_whole_network():
    model = network()
    assert trained(model, PLANS["l2_sp"](model), model.backbone.conv1[0])[2] >= 3 * BATCHES


class Around(nn.Module):
    """No chain: what comes first is also used later."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, inputs):
        begun = self.first(inputs)
        return self.third(self.second(begun).relu()) + begun


def test_a_network_that_is_no_chain_stays_whole():
    torch.manual_seed(0)
    model = backbones.Model(Around(), nn.Linear(5, 3))
    rates = {name: 0.01 for name, _ in model.named_parameters() if "third" in name or "head" in name}
    calls = trained(model, [Phase(rates, 3)], model.backbone.first, train=points(), val=points(12, 1), **PLAIN)[2]
    assert calls == 3 * 2 + 2
    assert not any("forward" in vars(module) for module in model.modules())


def test_nothing_stays_changed():
    model = custom()
    rates = {name: 0.01 for name, _ in model.named_parameters() if name.startswith(("backbone.5", "head"))}
    trained(model, [Phase(rates, 2)], model.backbone[0])
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_vit", "test_mambaout"])
def test_every_network_trains_to_the_same_bits(name, monkeypatch):
    once, always = both(lambda: network(name), PLANS["partial"], monkeypatch)
    assert once[0] == always[0] and equal(once[1], always[1])
