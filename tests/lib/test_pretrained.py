"""Weights of every kind become a Source, safely, with all that goes with them."""

import hashlib
import io

import pytest
import torch
from safetensors.torch import save

from stages.lib import backbones, plugins, pretrained
from stages.lib.errors import UserError
from stages.lib.strict import Architecture, Preprocessing

TINY = Architecture(library="timm", model="test_resnet")
HOW = Preprocessing(px=32, crop_pct=1.0, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def state():
    torch.manual_seed(0)
    return backbones._network(TINY.model_dump()).state_dict()


def torch_file(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read(content, name="w.pth", by_order=False):
    return pretrained.read(content, name, "a test", by_order, TINY, HOW)


def test_all_formats_and_wrappers_give_the_same_tensors(state):
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}
    sources = [
        read(save(state), "w.safetensors"),
        read(torch_file(state)),
        read(torch_file(wrapped)),
        read(torch_file({f"x{index}": tensor for index, tensor in enumerate(state.values())}), by_order=True),
    ]
    for source in sources:
        assert source.tensors.keys() == sources[0].tensors.keys()
        assert all(torch.equal(tensor, sources[0].tensors[name]) for name, tensor in source.tensors.items())
        assert source.preprocessing["mean"] == (0.5, 0.5, 0.5)


class Evil:
    def __reduce__(self):
        return print, ("this code must not run",)


def test_a_file_that_would_run_code_is_refused(capsys):
    with pytest.raises(UserError, match="can run code"):
        read(torch_file({"w": Evil()}))
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not weights", torch_file({"epoch": 3}), torch_file([1, 2])])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_weights_file_is_said_to_be_none(content, name):
    with pytest.raises(UserError, match=r"w\.(pth|safetensors)"):
        read(content, name)


def test_a_local_file_must_be_the_one_that_params_name(tmp_path, state):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(state))
    plugin = plugins.load("weights", "file")
    values = {"path": str(path), "by_order": False, "architecture": TINY, "preprocessing": HOW}
    source = plugin.fetch(**values, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert source.origin == str(path)
    with pytest.raises(UserError, match="copy its sha256"):
        plugin.fetch(**values, sha256="0" * 64)
    with pytest.raises(UserError, match="there is no file"):
        plugin.fetch(**values | {"path": "nowhere.pth"}, sha256="0" * 64)


def test_random_weights_come_from_their_seed():
    plugin = plugins.load("weights", "random")
    first, again, other = (plugin.fetch(seed=seed, architecture=TINY, preprocessing=HOW).tensors for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_torchvision_weights_bring_their_preprocessing_and_classes(tmp_path, monkeypatch):
    """torchvision's own download path, with a file of the right name in its cache instead of the network."""
    import torchvision

    with pytest.raises(UserError, match=r"no weights 'ResNet18_Weights.V9'. Allowed: ResNet18_Weights.IMAGENET1K_V1"):
        plugins.load("weights", "torchvision").fetch(enum="ResNet18_Weights.V9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "hub/checkpoints" / weights.url.rpartition("/")[2])
    source = plugins.load("weights", "torchvision").fetch(enum="ResNet18_Weights.IMAGENET1K_V1")
    assert source.preprocessing == {"px": 224, "crop_pct": 0.875, "interpolation": "bilinear",
                                    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip
    assert source.classes[0] == "tench"
    assert torch.equal(source.tensors["head.weight"], network.fc.weight)


def test_timm_names_that_do_not_exist_get_near_ones():
    with pytest.raises(UserError, match="tf_efficientnet_lite0"):
        plugins.load("weights", "timm").fetch(model="efficientnet_lite0.nonsense")
