"""Backbones, heads by their specification, and weights of which every tensor is accounted for."""

import pytest
import torch
from torch import nn

from stages.lib.core.contracts import NO_STEP
from stages.lib.errors import UserError
from stages.lib.networks import backbones, heads
from tests import texts
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


def test_a_head_of_other_classes_is_no_reason_to_refuse_a_backbone():
    """One's own earlier checkpoint: the head is replaced in any case."""
    state = backbones._network(RESNET).state_dict()
    own = {key: tensor[:37] if key.startswith("fc.") else tensor for key, tensor in state.items()}
    taken = backbones.from_library(RESNET, own, by_order=False)
    assert taken["head.weight"].shape[0] == taken["head.bias"].shape[0] == 37 and taken.keys() == {
        f"head.{key[3:]}" if key.startswith("fc.") else f"backbone.{key}" for key in state
    }
    assert len(backbones.load(backbones.build(RESNET, 3), taken)) == 2


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


# What there is one output for, and networks without a head.


def encoder(**changes):
    return texts.ARCHITECTURE | {"config": texts.CONFIG, "per": "example"} | changes


@pytest.mark.parametrize("per", ["example", "word"])
def test_an_architecture_is_asked_for_what_a_task_needs(per):
    card = encoder(head={"hidden": 3}, per="word")
    assert backbones.asked_for(card, per) == encoder(per=per) and card["head"] == {"hidden": 3}
    assert backbones.asked_for(texts.ARCHITECTURE, per) == texts.ARCHITECTURE | {"per": per}, "of a source, which has none yet"


def test_a_library_of_one_kind_is_not_told_which():
    assert backbones.asked_for(RESNET | {"head": {"hidden": 3}}, "example") == RESNET


@pytest.mark.parametrize("per", ["word", "frame"])
def test_what_a_library_cannot_give_is_told(per):
    with pytest.raises(UserError, match=f"The task needs one output per {per}, and networks of timm give one per example"):
        backbones.asked_for(RESNET, per)


def test_what_a_network_of_the_library_cannot_give_is_told():
    with pytest.raises(UserError, match="bert gives features per example or word; needed: one per frame"):
        backbones.build(backbones.asked_for(encoder(), "frame"), 2)


def batch(num=3):
    pieces = torch.randint(5, 60, (num, 6), generator=torch.Generator().manual_seed(0))
    starts = torch.tensor([[1, 2, 4], [1, 3, -1], [2, -1, -1]])[:num]
    return pieces, torch.ones_like(pieces, dtype=torch.bool), starts


def test_a_network_without_a_head_gets_one_on_its_features():
    torch.manual_seed(0)
    bare = backbones.build(encoder()).eval()
    assert type(bare.head) is nn.Identity and [name for name in bare.state_dict() if name.startswith("head")] == []
    assert bare(batch()).shape == (3, texts.CONFIG["hidden_size"])
    model = backbones.build(encoder(), 4).eval()
    assert type(model.head) is nn.Linear and model.head.in_features == 16 and model(batch()).shape == (3, 4)
    assert backbones.load(model, bare.state_dict()) == []
    torch.testing.assert_close(model.backbone(batch()), bare(batch()))


def test_a_head_of_a_network_per_word_is_applied_to_each_word():
    model = backbones.build(encoder(per="word", head={"hidden": 5}), 4).eval()
    outputs = model(batch())
    assert type(model.head) is heads.EachStep and outputs.shape == (3, 3, 4)
    assert ((outputs < NO_STEP / 2).all(2) == (batch()[2] < 0)).all()
    one = backbones.build(encoder(), 4)
    assert backbones.load(one, model.state_dict()) == sorted(name for name in model.state_dict() if name.startswith("head."))


def test_weights_of_a_network_without_a_head_are_all_of_the_backbone():
    torch.manual_seed(0)
    original = backbones._network(encoder()).eval()
    tensors = backbones.from_library(encoder(), original.state_dict(), by_order=False)
    assert {f"backbone.{name}" for name in original.state_dict()} == tensors.keys()
    model = backbones.build(encoder(), 2).eval()
    assert backbones.load(model, tensors) == []
    assert torch.equal(model.backbone(batch()), original(batch()))
    state = original.state_dict()
    with pytest.raises(UserError, match=r"classifier\.weight is left over"):
        backbones.from_library(encoder(), state | {"classifier.weight": torch.zeros(2, 16)}, by_order=False)


def test_a_trained_network_comes_back_as_it_was():
    for per in ("example", "word"):
        architecture = encoder(per=per, head={"kind": "linear", "hidden": 0, "dropout": 0.1, "zero": False})
        model = backbones.build(architecture, 2).eval()
        again = backbones.trained(model.state_dict(), architecture, 2)
        assert not again.training and torch.equal(again(batch()), model(batch()))
