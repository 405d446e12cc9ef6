"""Layers and blocks of networks of both libraries, and the part of them that is trained."""

import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from stages.lib.errors import UserError
from stages.lib.networks import backbones, layers
from stages.lib.params.fields import Strict, Trainable, TrainableOrAll
from tests.lib.libraries import encoders

NETWORKS = [("timm", "test_resnet"), ("timm", "test_vit"), ("timm", "test_efficientnet"), ("timm", "test_convnext"),
            ("timm", "tf_efficientnet_lite0"), ("timm", "resnet18"), ("timm", "convnext_atto"), ("torchvision", "resnet18"),
            ("torchvision", "mobilenet_v2"), ("torchvision", "densenet121"), ("torchvision", "vit_b_16"),
            ("torchvision", "convnext_tiny"), ("small", "lenet5"), ("small", "mobilefacenet"), ("small", "sface")]  # fmt: skip


def build(library, name, head=None):
    """Without values: what is tested here are names and shapes."""
    with torch.device("meta"):
        return backbones.build({"library": library, "model": name, "head": head or {}}, 3)


def names(model):
    return [name for name, _ in model.named_parameters() if name.startswith("backbone.")]


def flat(lists):
    return [item for inner in lists for item in inner]


def by_hand(backbone, num_features=4):
    return backbones.Model(backbone, nn.Linear(num_features, 2))


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_and_blocks_hold_every_parameter_of_the_backbone_once_and_in_order(network):
    model = build(*network)
    assert flat(layer.tensors for layer in layers.layers(model)) == names(model)
    assert flat(layers.blocks(model).values()) == names(model)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_layer_is_in_one_block_and_a_block_is_made_of_layers(network):
    model = build(*network)
    gathered = {}
    for layer in layers.layers(model):
        gathered.setdefault(layer.block, []).extend(layer.tensors)
    assert gathered == layers.blocks(model)
    assert len(gathered) >= 4


@pytest.mark.parametrize("network", NETWORKS)
def test_the_layers_are_the_convolutions_and_linear_layers(network):
    """Attention in torchvision holds the weights of its three projections itself."""
    model = build(*network)
    kinds = nn.Conv2d | nn.Linear | nn.MultiheadAttention
    wanted = [name for name, module in model.backbone.named_modules() if isinstance(module, kinds)]
    found = layers.layers(model)
    assert [layer.name for layer in found] == wanted
    for layer in found:
        own = [
            f"backbone.{layer.name}.{name}"
            for name, _ in model.backbone.get_submodule(layer.name).named_parameters(recurse=False)
        ]
        assert own and set(own) <= set(layer.tensors)


@pytest.mark.parametrize(("network", "count"), [("tf_efficientnet_lite0", 9), ("test_efficientnet", 7)])
def test_the_blocks_of_an_efficientnet_are_its_stages(network, count):
    found = layers.blocks(build("timm", network))
    assert list(found) == ["conv_stem", *(f"blocks.{index}" for index in range(count - 2)), "conv_head"]
    assert found["conv_stem"][-1] == "backbone.bn1.bias"  # a lone norm has no block to itself


def test_embeddings_and_what_comes_first_belong_to_the_first_layer():
    timm = layers.layers(build("timm", "test_vit"))[0]
    assert timm.name == "patch_embed.proj"
    assert {"backbone.cls_token", "backbone.pos_embed"} <= set(timm.tensors)
    torchvision = layers.layers(build("torchvision", "vit_b_16"))[0]
    assert torchvision.tensors == ["backbone.class_token", "backbone.conv_proj.weight", "backbone.conv_proj.bias",
                                   "backbone.encoder.pos_embedding"]  # fmt: skip


def test_the_blocks_of_torchvisions_vit_are_its_transformer_blocks():
    found = layers.blocks(build("torchvision", "vit_b_16"))
    assert list(found) == ["conv_proj", *(f"encoder.layers.encoder_layer_{index}" for index in range(12))]
    assert found["encoder.layers.encoder_layer_11"][-1] == "backbone.encoder.ln.bias"


def test_a_list_that_is_the_smaller_part_of_a_child_or_holds_single_layers_stays_inside_it():
    class Child(nn.Module):
        def __init__(self, extra, parts):
            super().__init__()
            self.extra, self.parts = nn.Linear(4, extra), nn.ModuleList(parts)

    def blocks_of(child):
        return list(layers.blocks(by_hand(nn.ModuleDict({"stem": nn.Linear(4, 8), "child": child}))))

    stack = [nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]
    assert blocks_of(Child(4, stack)) == ["stem", "child.extra", "child.parts.0", "child.parts.1"]
    assert blocks_of(Child(9, stack)) == ["stem", "child"]
    assert blocks_of(Child(4, [nn.Linear(4, 4) for _ in range(2)])) == ["stem", "child"]


def test_a_norm_belongs_to_the_layer_before_it_but_never_leaves_its_block():
    parts = {"norm": nn.BatchNorm2d(4), "conv": nn.Conv2d(4, 4, 1), "norm2": nn.BatchNorm2d(4), "conv2": nn.Conv2d(4, 4, 1)}
    model = by_hand(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ModuleDict(parts)))
    owners = [sorted({tensor.rpartition(".")[0] for tensor in layer.tensors}) for layer in layers.layers(model)]
    assert owners == [["backbone.0", "backbone.1", "backbone.2"], ["backbone.3.conv", "backbone.3.norm", "backbone.3.norm2"],
                      ["backbone.3.conv2"]]  # fmt: skip
    assert list(layers.blocks(model)) == ["1", "3"]


def test_a_norm_over_several_dimensions_is_no_layer_and_an_embedding_is_one():
    model = by_hand(nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm([3, 4]), nn.Linear(4, 4)))
    assert [layer.name for layer in layers.layers(model)] == ["0", "2"]


def test_a_shared_tensor_is_in_one_layer():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = by_hand(nn.Sequential(first, second))
    assert flat(layer.tensors for layer in layers.layers(model)) == ["backbone.0.weight", "backbone.0.bias", "backbone.1.bias"]


def test_the_first_50_layers_of_densenet121_are_the_50_convolutions_that_run_first():
    model = build("torchvision", "densenet121")
    ran = []
    for name, module in model.backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: ran.append(f"backbone.{name}.weight"))
    model.eval()(torch.zeros(1, 3, 64, 64, device="meta"))
    assert len(ran) == 120
    trained = layers.select(model, Trainable(freeze_layers=50))
    assert [name for name in ran if name not in trained] == ran[:50]
    assert set(ran[50:]) <= set(trained)


@pytest.mark.parametrize(
    ("fraction", "count", "frozen"), [(0.8, 5, 4), (0.79, 5, 3), (0.29, 100, 29), (0.57, 100, 57), (0.999, 100, 99), (0.2, 5, 1)]
)
def test_a_fraction_freezes_the_floor_of_its_share_of_the_layers(fraction, count, frozen):
    """0.29 * 100 is 28.999999999999996 as a float."""
    model = by_hand(nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(count))))
    assert layers.select(model, Trainable(freeze_fraction=fraction)) == [
        f"backbone.{index}.weight" for index in range(frozen, count)
    ]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_last_blocks_are_what_comes_after_the_frozen_ones(count):
    model = build("timm", "tf_efficientnet_lite0")
    stems = [f"backbone.{name}." for name in ["conv_stem", "bn1", *(f"blocks.{index}" for index in range(7))]]
    wanted = names(model)
    for stem in stems[: 9 - count + 1]:  # the stem's norm is no block
        wanted = [name for name in wanted if not name.startswith(stem)]
    assert layers.select(model, Trainable(last_blocks=count)) == wanted


def test_patterns_train_what_matches_any_of_them_in_the_order_of_the_network():
    model = build("torchvision", "resnet18")
    found = layers.select(model, Trainable(patterns=["layer4.*", "*.bn1.bias", "conv1.weight"]))
    wanted = [name for name in names(model)
              if name.startswith("backbone.layer4.") or (name.endswith(".bn1.bias") and name != "backbone.bn1.bias")
              or name == "backbone.conv1.weight"]  # fmt: skip
    assert found == wanted


def test_all_is_every_parameter_of_the_backbone():
    model = build("timm", "test_vit")
    assert layers.select(model, "all") == names(model)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("last_blocks", 7, ["last_blocks: 7", "trains everything", "7 blocks (conv_stem, blocks.0", "Allowed: 1 to 6"]),
        ("last_blocks", 99, ["last_blocks: 99", "trains everything"]),
        ("freeze_layers", 17, ["freeze_layers: 17", "trains nothing", "17 layers", "Allowed: 1 to 16"]),
        ("freeze_fraction", 0.05, ["freeze_fraction: 0.05", "trains everything", "0.0588"]),
        ("patterns", ["*"], ["patterns: ['*']", "trains everything"]),
    ],
)
def test_what_would_freeze_or_train_nothing_is_refused_with_what_there_is(key, value, says):
    with pytest.raises(UserError) as error:
        layers.select(build("timm", "test_efficientnet"), Trainable(**{key: value}))
    for text in [*says, "use strategy full", "use feature_extraction"]:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("layer5.*", "layer4.*"),
        ("layer", "layer4.*"),
        ("backbone.layer4.*", "layer4.*"),
        ("layer4.1.conv2.wieght", "layer4.1.conv2.weight"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_what_comes_near(pattern, near):
    with pytest.raises(UserError) as error:
        layers.select(build("torchvision", "resnet18"), Trainable(patterns=["layer3.*", pattern]))
    said = str(error.value)
    assert f"trainable.patterns: {pattern!r}" in said and near in said.partition("Similar names:")[2].partition(" A pattern")[0]
    assert "conv1, layer1.0, layer1.1" in said


@pytest.mark.parametrize("given", [{}, {"last_blocks": None}, {"last_blocks": 1, "patterns": ["a"]}])
def test_exactly_one_way_to_choose_must_be_given(given):
    with pytest.raises(
        ValidationError,
        match="must hold exactly one of last_blocks, freeze_fraction, freeze_layers, patterns, freeze_feature_encoder",
    ):
        Trainable.model_validate(given)


@pytest.mark.parametrize(
    "given", [{"last_blocks": 0}, {"last_blocks": 1.0}, {"freeze_fraction": 1.0}, {"freeze_fraction": 0}, {"freeze_layers": 0},
              {"patterns": []}, {"patterns": "layer4.*"}, {"blocks": 2}]
)  # fmt: skip
def test_a_value_out_of_range_is_refused(given):
    with pytest.raises(ValidationError):
        Trainable.model_validate(given)


class Holder(Strict):
    trainable: TrainableOrAll


@pytest.mark.parametrize("given", ["all", {"last_blocks": 2}, {"patterns": ["layer4.*"]}])
def test_the_word_all_stands_beside_a_choice_and_both_become_json(given):
    holder = Holder.model_validate({"trainable": given})
    assert json.loads(holder.model_dump_json())["trainable"] == given
    assert holder.trainable == given or holder.trainable.model_dump(exclude_none=True) == given


@pytest.mark.parametrize(
    ("given", "where"),
    [("al", ("trainable",)), (3, ("trainable",)), ({"last_blocks": "2"}, ("trainable", "last_blocks"))],
)
def test_a_mistake_beside_the_word_all_has_the_path_of_its_key(given, where):
    with pytest.raises(ValidationError) as error:
        Holder.model_validate({"trainable": given})
    assert [mistake["loc"] for mistake in error.value.errors()] == [where]


@pytest.mark.parametrize(
    ("model", "convolutions"), [("whisper", ["base.conv1", "base.conv2"]), ("wav2vec2", ["base.feature_extractor"])]
)
def test_the_feature_encoder_of_a_speech_encoder_can_be_frozen(model, convolutions):
    speech = backbones.Model(encoders.built(model, encoders.TINY[model], "frame"), nn.Identity())
    chosen = layers.select(speech, Trainable(freeze_feature_encoder=True))
    frozen = {name for name, _ in speech.named_parameters()} - set(chosen)
    assert frozen and all(name.startswith(tuple(f"backbone.{each}." for each in convolutions)) for name in frozen)
    left = {name for name in chosen if any(f".{each.rpartition('.')[2]}." in name for each in convolutions)}
    assert not left


def test_a_network_without_a_feature_encoder_says_so():
    with pytest.raises(UserError, match="Only speech encoders"):
        layers.select(build("timm", "test_resnet"), Trainable(freeze_feature_encoder=True))
