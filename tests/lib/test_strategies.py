"""What each strategy trains, held against sets of tensors that are made here by other means."""

import inspect

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from stages.lib import backbones, layers
from stages.lib.errors import UserError
from stages.lib.strategies import (
    bitfit,
    bss,
    delta,
    discriminative,
    feature_extraction,
    full,
    gradual,
    l2_sp,
    lp_ft,
    norm_only,
    partial,
)
from stages.lib.strict import Trainable

# Beginnings of the names in each block, read from the printed networks.
BLOCKS = {
    "test_resnet": [["conv1.0.", "conv1.1."], ["conv1.3.", "conv1.4."], ["conv1.6.", "bn1."],
                    *([f"layer{index}."] for index in (1, 2, 3, 4))],
    "test_vit": [["cls_token", "pos_embed", "patch_embed."], *([f"blocks.{index}."] for index in range(5)),
                 ["blocks.5.", "norm."]],
    "test_efficientnet": [["conv_stem.", "bn1."], *([f"blocks.{index}."] for index in range(5)), ["conv_head.", "bn2."]],
}  # fmt: skip
ONE_DIMENSIONAL = {"test_resnet": nn.BatchNorm2d, "test_vit": nn.LayerNorm, "test_efficientnet": nn.BatchNorm2d}
HEAD = ["head.weight", "head.bias"]
LAST = Trainable(last_blocks=2)


@pytest.fixture(params=BLOCKS)
def network(request):
    return request.param


@pytest.fixture
def model(network):
    with torch.device("meta"):
        return backbones.build({"library": "timm", "model": network}, 3)


def head(lr):
    return dict.fromkeys(HEAD, lr)


def in_block(model, network, index):
    """Names of the tensors of one block."""
    beginnings = tuple(f"backbone.{beginning}" for beginning in BLOCKS[network][index])
    return [name for name, _ in model.named_parameters() if name.startswith(beginnings)]


def last(model, network, count, lr):
    every = range(len(BLOCKS[network]))
    return {name: lr for index in every[-count:] for name in in_block(model, network, index)}


def everything(model, lr):
    return {name: lr for name, _ in model.named_parameters() if name.startswith("backbone.")}


def test_the_blocks_of_this_file_hold_every_tensor_once(model, network):
    listed = [name for index in range(len(BLOCKS[network])) for name in in_block(model, network, index)]
    assert sorted(listed + HEAD) == sorted(name for name, _ in model.named_parameters())


def test_feature_extraction_trains_the_head_on_plain_examples(model):
    assert feature_extraction.plan(model, epochs=3, head_lr=0.5) == [(head(0.5), 3, True, (), True)]
    assert set(feature_extraction.UNUSED) == {"augment", "mixup", "cutmix"}


@pytest.mark.parametrize("count", [1, 3])
def test_partial_trains_what_is_selected_and_the_head(model, network, count):
    phases = partial.plan(model, epochs=2, trainable=Trainable(last_blocks=count), lr=0.1, head_lr=0.5)
    assert phases == [(last(model, network, count, 0.1) | head(0.5), 2, False, (), True)]


def test_full_trains_everything(model):
    assert full.plan(model, epochs=2, lr=0.1, head_lr=0.5) == [(everything(model, 0.1) | head(0.5), 2, False, (), True)]


def test_discriminative_gives_each_block_a_fraction_of_the_rate_of_the_next(model, network):
    ((lrs, *rest),) = discriminative.plan(model, epochs=2, lr=0.1, head_lr=0.5, decay=0.25, rates={})
    assert rest == [2, False, (), True]
    assert lrs.keys() == everything(model, 0).keys() | set(HEAD)
    assert [lrs[name] for name in HEAD] == [0.5, 0.5]
    rate = 0.1
    for index in reversed(range(len(BLOCKS[network]))):
        members = in_block(model, network, index)
        assert [lrs[name] for name in members] == pytest.approx([rate] * len(members))
        rate /= 4


def test_discriminative_takes_rates_by_pattern(model, network):
    knobs = {"epochs": 2, "lr": 0.1, "head_lr": 0.5, "decay": 0.25}
    ((before, *_),) = discriminative.plan(model, **knobs, rates={})
    beginning = {"test_resnet": "layer2", "test_vit": "blocks.2", "test_efficientnet": "blocks.2"}[network]
    other = {"test_resnet": "conv1.0.weight", "test_vit": "cls_token", "test_efficientnet": "conv_stem.weight"}[network]
    ((lrs, *_),) = discriminative.plan(model, **knobs, rates={f"{beginning}.*": 0.03, other: 0.007})
    changed = {name: 0.03 for name in before if name.startswith(f"backbone.{beginning}.")} | {f"backbone.{other}": 0.007}
    assert len(changed) > 2
    assert lrs == before | changed
    ((lrs, *_),) = discriminative.plan(model, **knobs, rates={beginning: 0.03, other: 0.007})
    assert lrs == before | changed, "a module's name alone stands for all in it"


def test_discriminative_refuses_a_pattern_that_matches_nothing(model):
    with pytest.raises(UserError, match=r"strategy discriminative: rates: 'layer9\.\*' matches no tensor"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"layer9.*": 0.1})


def test_discriminative_says_where_the_rate_of_the_head_stands(model):
    with pytest.raises(UserError, match="rates: the head has a key of its own, head_lr"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"head": 0.1})


def test_norm_only_knows_the_normalisations_that_timm_wrote_itself():
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": "vit_dlittle_patch16_reg1_gap_256"}, 3)
    owners = {name for name, module in model.backbone.named_modules() if "norm" in type(module).__name__.lower()}
    names = [name for name, _ in model.backbone.named_parameters() if name.rpartition(".")[0] in owners]
    assert any("RmsNorm" in type(module).__name__ for module in model.backbone.modules())
    assert norm_only.trained(model) == [f"backbone.{name}" for name in names]


def test_discriminative_refuses_two_patterns_for_one_tensor():
    with torch.device("meta"):
        model = backbones.build({"library": "torchvision", "model": "resnet18"}, 3)
    with pytest.raises(UserError, match=r"rates: layer4\.0\.bn1\.weight matches both 'layer4\.\*' and '\*\.bn1\.weight'"):
        discriminative.plan(model, epochs=1, lr=0.1, head_lr=0.5, decay=1.0, rates={"layer4.*": 0.1, "*.bn1.weight": 0.1})


@pytest.mark.parametrize(("steps", "unfrozen"), [(1, [7]), (2, [3, 7]), (3, [2, 4, 7]), (7, [1, 2, 3, 4, 5, 6, 7])])
def test_gradual_unfreezes_from_the_head_down(model, network, steps, unfrozen):
    first, *later = gradual.plan(model, epochs=2, steps=steps, lr=0.1, head_lr=0.5, decay=0.5)
    assert first == (head(0.5), 2, True, (), True)
    assert len(later) == steps
    for step, (count, phase) in enumerate(zip(unfrozen, later, strict=True)):
        rate = 0.1 / 2**step
        assert phase == (last(model, network, count, rate) | head(rate), 2, False, (), True)


def test_gradual_with_more_steps_than_blocks_says_how_many_there_are(model, network):
    first = {"test_resnet": "conv1.0", "test_vit": "patch_embed", "test_efficientnet": "conv_stem"}[network]
    with pytest.raises(UserError, match=rf"steps: 8 was given, but this backbone has 7 blocks \({first}.*Allowed: 1 to 7"):
        gradual.plan(model, epochs=2, steps=8, lr=0.1, head_lr=0.5, decay=0.5)


def test_lp_ft_probes_and_then_trains_everything_with_one_rate(model):
    phases = lp_ft.plan(model, probe_epochs=3, head_lr=0.5, epochs=2, lr=0.1)
    assert phases == [(head(0.5), 3, True, (), True), (everything(model, 0.1) | head(0.1), 2, False, (), True)]


@pytest.mark.parametrize("strategy", [l2_sp, bss, delta], ids=["l2_sp", "bss", "delta"])
@pytest.mark.parametrize("part", [True, False])
def test_a_penalty_belongs_to_the_phase_that_trains_the_backbone(model, network, strategy, part):
    strengths = {l2_sp: {"alpha": 0.01, "beta": 0.02}, bss: {"eta": 0.03, "k": 2},
                 delta: {"alpha": 0.01, "beta": 0.02, "blocks": 2, "attention_images": 4}}[strategy]  # fmt: skip
    probe = {"probe_epochs": 5} if strategy is delta else {}
    *before, phase = strategy.plan(model, epochs=2, lr=0.1, head_lr=0.5, trainable=LAST if part else "all", **strengths, **probe)
    assert before == ([(head(0.5), 5, True, (), True)] if strategy is delta else [])
    trained = last(model, network, 2, 0.1) if part else everything(model, 0.1)
    assert phase[:3] == (trained | head(0.5), 2, False)
    (penalty,) = phase.penalties
    assert penalty.func.__module__ == f"stages.lib.losses.{strategy.__name__.rpartition('.')[2]}"
    assert penalty.keywords == strengths
    inspect.signature(penalty).bind(None, None, None)  # nothing else is asked for


def test_bitfit_trains_every_bias_of_the_backbone(model, network):
    """A norm has a scale and a shift, and of the layers those without a norm after them have a bias. Statistics stay."""
    ((lrs, *rest),) = bitfit.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    modules = dict(model.backbone.named_modules())
    owners = [name for name, module in modules.items() if isinstance(getattr(module, "bias", None), nn.Parameter)]
    assert lrs == {f"backbone.{name}.bias": 0.1 for name in owners} | head(0.5)
    assert rest == [2, False, (), False]
    assert any(isinstance(modules[name], ONE_DIMENSIONAL[network]) for name in owners)


def test_bitfit_trains_the_biases_of_attention_that_lie_beside_its_weights():
    with torch.device("meta"):
        model = backbones.build({"library": "torchvision", "model": "vit_b_16"}, 3)
    ((lrs, *_),) = bitfit.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    in_proj = [name for name in lrs if name.endswith("in_proj_bias")]
    assert len(in_proj) == 12
    assert not [name for name in lrs if "embedding" in name or "token" in name]


def test_norm_only_trains_scales_and_shifts(model, network):
    ((lrs, *rest),) = norm_only.plan(model, epochs=2, lr=0.1, head_lr=0.5)
    norms = [name for name, module in model.backbone.named_modules() if isinstance(module, ONE_DIMENSIONAL[network])]
    assert lrs == {f"backbone.{name}.{which}": 0.1 for name in norms for which in ("weight", "bias")} | head(0.5)
    assert rest == [2, False, (), False]
    assert len(norms) > 10


def test_norm_only_knows_the_norms_of_both_libraries():
    """timm joins norm and activation, and has its own LayerNorm over channels; a hop on several GPUs synchronises them."""
    from timm.layers import convert_sync_batchnorm

    for library, name, count in [("timm", "convnext_atto", 12 + 5), ("torchvision", "convnext_tiny", 18 + 5)]:
        with torch.device("meta"):
            model = backbones.build({"library": library, "model": name}, 3)
        scales = [name for name, _ in model.backbone.named_parameters() if "norm" in name and name.endswith("weight")]
        ((lrs, *_),) = norm_only.plan(model, epochs=1, lr=0.1, head_lr=0.5)
        assert {f"backbone.{name}" for name in scales} <= lrs.keys()
        assert len(lrs) == 2 * count + 2
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": "test_efficientnet"}, 3)
    before = norm_only.plan(model, epochs=1, lr=0.1, head_lr=0.5)
    assert norm_only.plan(convert_sync_batchnorm(model), epochs=1, lr=0.1, head_lr=0.5) == before


@pytest.mark.parametrize(
    ("strategy", "says"), [(bitfit, "no bias"), (norm_only, "no normalisation")], ids=["bitfit", "norm_only"]
)
def test_a_backbone_without_what_is_to_be_trained_is_refused(strategy, says):
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False))
    with pytest.raises(UserError, match=says):
        strategy.plan(backbones.Model(bare, nn.Linear(4, 2)), epochs=1, lr=0.1, head_lr=0.5)


def test_a_head_of_several_layers_is_trained_whole(network):
    with torch.device("meta"):
        architecture = {"library": "timm", "model": network, "head": {"hidden": 4, "dropout": 0.1}}
        model = backbones.build(architecture, 3)
    wanted = {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
    for phase in gradual.plan(model, epochs=1, steps=2, lr=0.1, head_lr=0.5, decay=0.5):
        assert {name for name in phase.lrs if name.startswith("head.")} == wanted


def test_what_a_table_shows_is_what_a_plan_trains(model):
    phases = gradual.plan(model, epochs=1, steps=3, lr=0.1, head_lr=0.5, decay=0.5)
    table = layers.table(model, phases)
    for number, phase in enumerate(phases):
        trained = sum(parameter.numel() for name, parameter in model.named_parameters() if name in phase.lrs)
        assert table[table.phase == number].trainable.sum() == trained
        assert set(table[table.phase == number].lr_max) - {0.0} == set(phase.lrs.values())


@pytest.mark.parametrize(
    ("strategy", "wrong"),
    [(partial, {"trainable": {"last_blocks": 1, "freeze_layers": 1}}), (partial, {"blocks": 2}), (partial, {"trainable": "all"}),
     (discriminative, {"decay": 0}), (discriminative, {"decay": 1.1}), (discriminative, {"rates": {"a": 0}}),
     (discriminative, {"rates": {"a": "0.1"}}), (gradual, {"steps": 0}), (l2_sp, {"alpha": -1}), (l2_sp, {"trainable": "none"}),
     (bss, {"k": 0}), (delta, {"blocks": 0}), (delta, {"attention_images": -1})]
)  # fmt: skip
def test_a_knob_out_of_range_is_refused(strategy, wrong):
    right = {"epochs": 1, "lr": 0.1, "head_lr": 0.5, "trainable": {"last_blocks": 1}, "decay": 0.5, "rates": {"a": 0.1},
             "steps": 2, "alpha": 0.1, "beta": 0.0, "eta": 0.1, "k": 1, "probe_epochs": 1, "blocks": 1,
             "attention_images": 0}  # fmt: skip
    own = {name: value for name, value in right.items() if name in strategy.Knobs.model_fields}
    strategy.Knobs.model_validate(own)
    with pytest.raises(ValidationError):
        strategy.Knobs.model_validate(own | wrong)
