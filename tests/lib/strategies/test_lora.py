"""LoRA: which layers get adapters, that they add zero at first, and that merging them changes no answer."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torchvision.models.swin_transformer import ShiftedWindowAttention

from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from stages.lib.strategies import lora
from tests.lib.training.whole import prepare, train
from tests.tiny import noise


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet"])
def test_lora_refuses_a_network_without_linear_layers(network):
    with pytest.raises(UserError, match=r"lora: this backbone has no linear.*Choose partial, bitfit or norm_only"):
        prepare("lora", network)


def test_lora_passes_by_layers_whose_weights_are_taken_without_calling_them():
    attention = ShiftedWindowAttention(8, [2, 2], [0, 0], num_heads=2)
    backbone = torch.nn.ModuleDict({"torch": torch.nn.MultiheadAttention(8, 2), "swin": attention, "mlp": torch.nn.Linear(8, 8)})
    adapters = lora.adapt(SimpleNamespace(backbone=backbone), rank=2, alpha=4.0)
    assert set(adapters.values()) == {"backbone.mlp.weight"}


def test_lora_adds_zero_at_first_and_ends_as_the_network_that_it_was():
    """Before merging, the network with adapters gives what the merged one gives, and the sum is W + alpha / rank * B A."""
    fabric, setup = prepare("lora", "test_vit")
    val = noise(16, 1, px=160)
    plain = backbones.build(setup.architecture, 2)
    plain.load_state_dict(setup.before)
    torch.testing.assert_close(predict(setup.model, val, 8), predict(plain, val, 8), atol=1e-6, rtol=0)

    states = []
    trained = train(fabric, setup, noise(px=160), val, save=lambda state: states.append(copy.deepcopy(state)))
    last = states[-1]["best"]["model"]
    merged = setup.model.state_dict()
    assert list(merged) == list(setup.before)
    adapted = 0
    for name, tensor in merged.items():
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A.default.weight" in last:
            down, up = last[f"{stem}.lora_A.default.weight"].double(), last[f"{stem}.lora_B.default.weight"].double()
            assert down.shape[0] == up.shape[1] == 2
            expected = setup.before[name].double() + 4.0 / 2 * up @ down
            torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=0)
            adapted += 1
        elif not name.startswith("head."):
            assert torch.equal(tensor, setup.before[name])
    assert adapted == 6 * 4  # query-key-value, projection and two of the MLP, in each block

    _, unmerged = prepare("lora", "test_vit")
    unmerged.model.load_state_dict(last)
    torch.testing.assert_close(predict(setup.model, val, 8), predict(unmerged.model, val, 8), atol=1e-5, rtol=0)
    plain.load_state_dict(merged)
    assert torch.equal(predict(plain, val, 8), predict(setup.model, val, 8))
    assert trained.best["val_loss"] == pytest.approx(states[-1]["best"]["loss"], abs=1e-5)
