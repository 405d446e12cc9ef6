"""What bitfit trains."""

import pytest
import torch
from torch import nn

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.strategies import bitfit
from tests.lib.strategies.blocks import NORMS, head


def test_bitfit_trains_every_bias_of_the_backbone(model, network):
    """A norm has a scale and a shift, and of the layers those without a norm after them have a bias. Statistics stay."""
    (phase,) = bitfit.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    modules = dict(model.backbone.named_modules())
    owners = [name for name, module in modules.items() if isinstance(getattr(module, "bias", None), nn.Parameter)]
    trained = {f"backbone.{name}.bias": 0.1 for name in owners} | head(0.5)
    assert phase == Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=False)
    assert any(isinstance(modules[name], NORMS[network]) for name in owners)


def test_bitfit_trains_the_biases_of_attention_that_lie_beside_its_weights():
    with torch.device("meta"):
        model = backbones.build({"library": "torchvision", "model": "vit_b_16"}, 3)
    (phase,) = bitfit.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    in_proj = [name for name in phase.lrs if name.endswith("in_proj_bias")]
    assert len(in_proj) == 12
    assert not [name for name in phase.lrs if "embedding" in name or "token" in name]


def test_a_backbone_without_any_is_refused():
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False))
    with pytest.raises(UserError, match="no bias"):
        bitfit.plan(backbones.Model(bare, nn.Linear(4, 2)), epochs=1, lr=0.1, head_lr=0.5)
