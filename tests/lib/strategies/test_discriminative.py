"""The learning rates of discriminative, and what its patterns refuse."""

import pytest
import torch

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.strategies import discriminative
from tests.lib.strategies.blocks import BLOCKS, HEAD, everything, in_block


def test_discriminative_gives_each_block_a_fraction_of_the_rate_of_the_next(model, network):
    (phase,) = discriminative.plan(model, epochs=2, lr=0.1, head_lr=0.5, decay=0.25, rates={})
    lrs = phase.lrs
    assert phase == Phase(lrs=lrs, epochs=2, plain=False, penalties=(), statistics=True)
    assert lrs.keys() == everything(model, 0).keys() | set(HEAD)
    assert [lrs[name] for name in HEAD] == [0.5, 0.5]
    rate = 0.1
    for index in reversed(range(len(BLOCKS[network]))):
        members = in_block(model, network, index)
        assert [lrs[name] for name in members] == pytest.approx([rate] * len(members))
        rate /= 4


def test_discriminative_takes_rates_by_pattern(model, network):
    others = {"epochs": 2, "lr": 0.1, "head_lr": 0.5, "decay": 0.25}
    (plain,) = discriminative.plan(model, **others, rates={})
    beginning = {"test_resnet": "layer2", "test_vit": "blocks.2", "test_efficientnet": "blocks.2"}[network]
    other = {"test_resnet": "conv1.0.weight", "test_vit": "cls_token", "test_efficientnet": "conv_stem.weight"}[network]
    (phase,) = discriminative.plan(model, **others, rates={f"{beginning}.*": 0.03, other: 0.007})
    changed = {name: 0.03 for name in plain.lrs if name.startswith(f"backbone.{beginning}.")} | {f"backbone.{other}": 0.007}
    assert len(changed) > 2
    assert phase.lrs == plain.lrs | changed
    (phase,) = discriminative.plan(model, **others, rates={beginning: 0.03, other: 0.007})
    assert phase.lrs == plain.lrs | changed, "a module's name alone stands for all in it"


def test_discriminative_refuses_a_pattern_that_matches_nothing(model):
    with pytest.raises(UserError, match=r"strategy discriminative: rates: 'layer9\.\*' matches no tensor"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"layer9.*": 0.1})


def test_discriminative_says_where_the_rate_of_the_head_stands(model):
    with pytest.raises(UserError, match="rates: the head has a key of its own, head_lr"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"head": 0.1})


def test_discriminative_refuses_two_patterns_for_one_tensor():
    with torch.device("meta"):
        model = backbones.build({"library": "torchvision", "model": "resnet18"}, 3)
    with pytest.raises(UserError, match=r"rates: layer4\.0\.bn1\.weight matches both 'layer4\.\*' and '\*\.bn1\.weight'"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"layer4.*": 0.1, "*.bn1.weight": 0.1})
