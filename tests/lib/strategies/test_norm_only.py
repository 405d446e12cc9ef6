"""What norm_only trains, whichever library wrote the normalisations."""

import pytest
import torch
from torch import nn

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.strategies import norm_only
from tests.lib.strategies.blocks import NORMS, head


def test_norm_only_knows_the_normalisations_that_timm_wrote_itself():
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": "vit_dlittle_patch16_reg1_gap_256"}, 3)
    owners = {name for name, module in model.backbone.named_modules() if "norm" in type(module).__name__.lower()}
    names = [name for name, _ in model.backbone.named_parameters() if name.rpartition(".")[0] in owners]
    assert any("RmsNorm" in type(module).__name__ for module in model.backbone.modules())
    assert norm_only.trained(model) == [f"backbone.{name}" for name in names]


def test_norm_only_trains_scales_and_shifts(model, network):
    (phase,) = norm_only.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    norms = [name for name, module in model.backbone.named_modules() if isinstance(module, NORMS[network])]
    trained = {f"backbone.{name}.{which}": 0.1 for name in norms for which in ("weight", "bias")} | head(0.5)
    assert phase == Phase(lrs=trained, epochs=2, plain=False, penalties=(), statistics=False)
    assert len(norms) > 10


def test_norm_only_knows_the_norms_of_both_libraries():
    """timm joins norm and activation, and has its own LayerNorm over channels; a hop on several GPUs synchronises them."""
    from timm.layers import convert_sync_batchnorm

    for library, name, count in [("timm", "convnext_atto", 12 + 5), ("torchvision", "convnext_tiny", 18 + 5)]:
        with torch.device("meta"):
            model = backbones.build({"library": library, "model": name}, 3)
        scales = [name for name, _ in model.backbone.named_parameters() if "norm" in name and name.endswith("weight")]
        (phase,) = norm_only.plan(model, epochs=1, lr=0.1, head_lr=0.5)
        assert {f"backbone.{name}" for name in scales} <= phase.lrs.keys()
        assert len(phase.lrs) == 2 * count + 2
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": "test_efficientnet"}, 3)
    before = norm_only.plan(model, epochs=1, lr=0.1, head_lr=0.5)
    assert norm_only.plan(convert_sync_batchnorm(model), epochs=1, lr=0.1, head_lr=0.5) == before


def test_a_backbone_without_any_is_refused():
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False))
    with pytest.raises(UserError, match="no normalisation"):
        norm_only.plan(backbones.Model(bare, nn.Linear(4, 2)), epochs=1, lr=0.1, head_lr=0.5)
