"""The networks of the library small: what they take and give, and the weights that others made for them."""

import io

import pytest
import torch
from torch import nn

from stages.lib.core import cards
from stages.lib.errors import UserError
from stages.lib.libraries import small
from stages.lib.modalities.image import Preprocessing
from stages.lib.networks import backbones, layers
from stages.lib.params.fields import Architecture
from stages.lib.weights import _tensors
from tests.tiny import model_card

PX = {"conv4": 28, "lenet5": 28, "mobilefacenet": 112, "sface": 112}


def built(name, num_outputs=None, seed=0):
    torch.manual_seed(seed)
    return backbones.build({"library": "small", "model": name}, num_outputs)


def images(name, num=2):
    return torch.randn(num, small.channels(name), PX[name], PX[name], generator=torch.Generator().manual_seed(1))


def test_every_network_is_tested_here():
    assert PX.keys() == small.CHANNELS.keys()


@pytest.mark.parametrize(
    ("name", "features", "parameters"),
    [("conv4", 64, 111_936), ("lenet5", 84, 44_426), ("mobilefacenet", 128, 999_552), ("sface", 128, 9_642_880)],
)
def test_a_network_has_the_parameters_of_its_paper_and_all_get_a_gradient(name, features, parameters):
    own = built(name)
    assert sum(each.numel() for each in own.parameters()) == parameters
    model = built(name, 3)
    assert model.head.in_features == features
    outputs = model(images(name))
    assert outputs.shape == (2, 3)
    outputs.square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in model.parameters())


def test_a_network_of_faces_has_no_head_and_gives_embeddings():
    for name in ("mobilefacenet", "sface"):
        assert small.head(small.network(name)) == ""
        assert built(name).eval()(images(name)).shape == (2, 128)


def test_the_blocks_are_the_parts_that_a_paper_would_name():
    with torch.device("meta"):
        models = {name: built(name, 3) for name in PX}
    found = {name: list(layers.blocks(model)) for name, model in models.items()}
    assert found["lenet5"] == ["conv1", "conv2", "fc1", "fc2"]
    assert found["conv4"] == [f"blocks.{n}" for n in range(4)]
    assert found["mobilefacenet"] == ["conv1", "dw_conv1", *(f"blocks.{n}" for n in range(15)), "conv2", "linear7", "linear1"]
    assert found["sface"] == ["stem", *(f"blocks.{n}" for n in range(13)), "embedding"]
    convolutions = [layer for layer in layers.layers(models["sface"]) if layer.block != "embedding"]
    assert len(convolutions) == 27


def test_lenet_computes_what_its_layers_one_by_one_compute():
    model = built("lenet5").eval()
    conv1, conv2, fc1, fc2 = (model.backbone.get_submodule(name) for name in ("conv1", "conv2", "fc1", "fc2"))
    chain = nn.Sequential(conv1, nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), fc1, nn.ReLU(),
                          fc2, nn.ReLU(), model.head)  # fmt: skip
    assert torch.equal(model(images("lenet5")), chain(images("lenet5")))


@pytest.mark.parametrize(("name", "wrapper"), [("lenet5", "model_state_dict"), ("mobilefacenet", "net_state_dict")])
def test_weights_that_a_script_saved_give_its_outputs_again(name, wrapper):
    """In the old format too, which is no zip file, and with what scripts keep beside the tensors."""
    torch.manual_seed(3)
    network = small.network(name).eval()
    file = io.BytesIO()
    torch.save({"epoch": 68, wrapper: network.state_dict()}, file, _use_new_zipfile_serialization=False)
    mean = (0.5,) * small.channels(name)
    how = Preprocessing(px=PX[name], crop_pct=1.0, interpolation="bilinear", mean=mean, std=mean)
    source = _tensors.read(file.getvalue(), "w.ckpt", "a test", False, Architecture(library="small", model=name), how)
    model = built(name, seed=4).eval()
    model.load_state_dict(source.tensors)
    assert torch.equal(model(images(name)), network(images(name)))


@pytest.mark.parametrize("name", PX)
def test_a_trained_network_gives_the_same_logits_before_and_after_it_was_saved(name, tmp_path):
    """Bit for bit, statistics of its normalisations included."""
    model = built(name, 3).train()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images(name, 4)), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    logits = model.eval()(images(name))
    card = model_card("t", architecture={"library": "small", "model": name}, output_names=["a", "b", "c"])
    cards.write_model(tmp_path, model.state_dict(), card)
    tensors, card = cards.read_model(tmp_path)
    again = backbones.trained(tensors, card.architecture, card.num_outputs)
    assert torch.equal(again(images(name)), logits)


def test_a_face_of_another_size_is_seen_as_112_by_96():
    model, faces = built("mobilefacenet").eval(), images("mobilefacenet")
    narrow = nn.functional.interpolate(faces, (112, 96), mode="bilinear", align_corners=False)
    assert torch.equal(model(faces), model(narrow))


def test_a_name_that_is_none_gets_the_names():
    with pytest.raises(UserError, match=r"small has no model 'lenet'\. Did you mean 'lenet5'"):
        small.network("lenet")
