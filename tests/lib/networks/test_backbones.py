"""Backbones, heads by their specification, and weights of which every tensor is accounted for."""

import pytest
import torch
from torch import nn

from stages.lib.errors import UserError
from stages.lib.networks import backbones
from tests.tiny import RESNET

NETWORKS = [("timm", "test_resnet"), ("timm", "test_vit"), ("timm", "test_efficientnet"), ("timm", "test_convnext"),
            ("timm", "tf_efficientnet_lite0"), ("torchvision", "resnet18"), ("torchvision", "mobilenet_v2"),
            ("torchvision", "densenet121"), ("torchvision", "vgg11")]  # fmt: skip


def name(network):
    return {"library": network[0], "model": network[1]}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_becomes_a_backbone_and_a_head(network):
    px = 160 if "vit" in network[1] else 64
    with torch.device("meta"):  # shapes alone
        assert backbones.build(name(network), 3).eval()(torch.zeros(2, 3, px, px)).shape == (2, 3)


def test_a_network_without_one_linear_head_is_refused():
    for network in ("vit_small_patch14_dinov2.lvd142m", "deit_tiny_distilled_patch16_224"):
        with pytest.raises(UserError, match="no single linear layer"):
            backbones.build(name(("timm", network)), 2)


def test_a_tag_decides_the_number_of_outputs():
    assert backbones.build(name(("timm", "vit_tiny_patch16_224.augreg_in21k"))).head.out_features == 21843


def test_a_new_head_starts_small():
    """timm's own initialisation of a head for 2 classes gives logits of about 10, which spoil the first epochs."""
    torch.manual_seed(0)
    model = backbones.build(name(("timm", "tf_efficientnet_lite0")), 2)
    assert model.head.weight.abs().max() <= 1280**-0.5


WIDTH = 96  # of the features of test_resnet
HEADS = [
    ({}, {"head.weight": (3, WIDTH), "head.bias": (3,)}),
    ({"kind": "linear", "hidden": 0, "dropout": 0, "zero": True}, {"head.weight": (3, WIDTH), "head.bias": (3,)}),
    ({"dropout": 0.1}, {"head.1.weight": (3, WIDTH), "head.1.bias": (3,)}),
    ({"hidden": 5}, {"head.0.weight": (5, WIDTH), "head.0.bias": (5,), "head.2.weight": (3, 5), "head.2.bias": (3,)}),
    ({"kind": "prototype", "temperature": 0.1}, {"head.means": (3, WIDTH)}),
    ({"kind": "knn", "temperature": 0.1, "neighbours": 2, "num_examples": 7},
     {"head.features": (7, WIDTH), "head.labels": (7,)}),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "tensors"), HEADS)
def test_a_head_is_made_from_its_specification(spec, tensors):
    """A specification of nothing, or none at all, is a linear layer: so it is on cards that were written before."""
    model = backbones.build(RESNET | {"head": spec}, 3)
    found = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if key.startswith("head.")}
    assert found == tensors
    assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert type(backbones.build(RESNET, 3).head) is nn.Linear


def test_without_a_number_of_outputs_the_librarys_own_head_stays():
    model = backbones.build(RESNET | {"head": {"hidden": 5}})
    assert type(model.head) is nn.Linear and model.head.out_features == 1000


@pytest.mark.parametrize(("spec", "tensors"), HEADS)
def test_a_backbone_is_loaded_whatever_head_it_had(spec, tensors):
    network = RESNET
    source, model = backbones.build(network | {"head": spec}, 3), backbones.build(network | {"head": {"hidden": 4}}, 2)
    head = {key: tensor.clone() for key, tensor in model.head.state_dict().items()}
    assert backbones.load(model, source.state_dict()) == sorted(tensors)
    assert all(torch.equal(tensor, source.backbone.state_dict()[key]) for key, tensor in model.backbone.state_dict().items())
    assert all(torch.equal(tensor, head[key]) for key, tensor in model.head.state_dict().items())


@pytest.mark.parametrize("network", [("timm", "test_efficientnet"), ("torchvision", "resnet18")])
def test_weights_of_the_library_give_the_same_answers(network):
    torch.manual_seed(0)
    original = backbones._network(name(network)).eval()
    tensors = backbones.from_library(name(network), original.state_dict(), by_order=False)
    model = backbones.build(name(network)).eval()
    model.load_state_dict(tensors)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images), original(images))


def test_every_tensor_is_loaded_replaced_on_purpose_or_an_error():
    network = RESNET
    source = backbones.build(network, 7)
    model = backbones.build(network, 2)
    assert backbones.load(model, source.state_dict()) == ["head.bias", "head.weight"]
    for key, tensor in source.backbone.state_dict().items():
        assert torch.equal(tensor, model.backbone.state_dict()[key])
    tensors = source.state_dict()
    first = next(name for name in tensors if name.startswith("backbone."))
    with pytest.raises(UserError, match="is missing"):
        backbones.load(model, {key: value for key, value in tensors.items() if key != first})
    with pytest.raises(UserError, match="extra is left over"):
        backbones.load(model, tensors | {"backbone.extra": torch.zeros(1)})
    with pytest.raises(UserError, match="do not fit"):
        backbones.load(model, tensors | {first: torch.zeros(1)})


def test_weights_of_another_network_are_refused_with_their_names():
    other = backbones._network(name(("timm", "test_vit"))).state_dict()
    with pytest.raises(UserError, match=r"is missing.*and \d+ more"):
        backbones.from_library(RESNET, other, by_order=False)


def test_weights_by_order_must_agree_in_shape():
    network = RESNET
    state = backbones._network(network).state_dict()
    renamed = {f"_{index}": tensor for index, tensor in enumerate(state.values())}
    by_order = backbones.from_library(network, renamed, by_order=True)
    assert all(torch.equal(a, b) for a, b in zip(by_order.values(), state.values(), strict=True))
    with pytest.raises(UserError, match="has shape"):
        backbones.from_library(network, dict(reversed(renamed.items())), by_order=True)


@pytest.mark.parametrize(
    "network", [("timm", "tf_eficientnet_lite0"), ("torchvision", "resnet19"), ("torchvision", "squeezenet1_0")]
)
def test_an_unknown_or_unfit_network_is_an_error_for_people(network):
    with pytest.raises(UserError, match=network[1]):
        backbones.build(name(network), 2)
