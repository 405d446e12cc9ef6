"""Weights of every kind become a Source, safely, with all that goes with them."""

import hashlib
import http.server
import io
import re
import threading
import warnings
from functools import partial

import pytest
import torch
from safetensors.torch import save

from stages.lib.core import plugins
from stages.lib.errors import UserError
from stages.lib.libraries import timm as library
from stages.lib.modalities.image import Preprocessing
from stages.lib.networks import backbones
from stages.lib.params.fields import Architecture
from stages.lib.weights import _tensors
from tests.tiny import HOW, RESNET

ARCHITECTURE, PREPROCESSING = Architecture.model_validate(RESNET), Preprocessing.model_validate(HOW)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return library.network(RESNET["model"]).state_dict()


def torch_file(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read(content, name="w.pth", by_order=False):
    return _tensors.read(content, name, "a test", by_order, ARCHITECTURE, PREPROCESSING)


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


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model.", "backbone.", "encoder.net."])
def test_what_trainers_put_before_every_name_is_taken_off(state, prefix):
    source = read(torch_file({"state_dict": {prefix + name: tensor for name, tensor in state.items()}}))
    plain = read(save(state), "w.safetensors")
    assert source.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(tensor, plain.tensors[name]) for name, tensor in source.tensors.items())


def test_a_tensor_without_the_prefix_is_left_over(state):
    content = torch_file({f"model.{name}": tensor for name, tensor in state.items()} | {"loss.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"loss\.weight is left over\. Name"):
        read(content)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_head_may_be_of_other_classes_or_missing(state, prefix):
    headless = {prefix + name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    other = headless | {f"{prefix}fc.weight": torch.zeros(37, state["fc.weight"].shape[1]), f"{prefix}fc.bias": torch.zeros(37)}
    whole = read(save(state), "w.safetensors").tensors
    for given in (headless, other):
        found = read(torch_file(given)).tensors
        assert {name for name in found if name.startswith("backbone.")} == {
            name for name in whole if name.startswith("backbone.")
        }
        model = backbones.build(ARCHITECTURE.model_dump(), 5)
        backbones.load(model, found)
        assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(state, value):
    name = "conv1.0.weight"
    damaged = state[name].clone()
    damaged[0, 0, 0, 0] = value
    with pytest.raises(UserError, match=r"w\.pth holds numbers that are NaN or infinite, in 1 of \d+ tensors: backbone\.conv1"):
        read(torch_file(state | {name: damaged}))


def test_a_program_is_refused_in_words(capsys):
    """TorchScript, which torch.load would run."""
    from torch import jit, nn

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit.save(jit.script(nn.Linear(2, 2)), buffer)
        with pytest.raises(UserError, match=r"it is a program \(TorchScript\)") as error:
            read(buffer.getvalue())
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("cut", [4, 40, 400, 4000, -40])
def test_a_file_that_was_cut_off_is_refused_in_words(state, cut):
    with pytest.raises(UserError, match=r"w\.pth cannot be read as weights") as error:
        read(torch_file(state)[:cut])
    assert "weights_only" not in str(error.value)


class Evil:
    def __reduce__(self):
        return print, ("this code must not run",)


def test_a_file_that_would_run_code_is_refused(capsys):
    with pytest.raises(UserError, match="can run code"):
        read(torch_file({"w": Evil()}))
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"not weights", torch_file({"epoch": 3}), torch_file([1, 2]), torch_file({0: torch.zeros(2)})]
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_weights_file_is_said_to_be_none(content, name):
    with pytest.raises(UserError, match=r"w\.(pth|safetensors)"):
        read(content, name)


def test_a_local_file_must_be_the_one_that_params_name(tmp_path, state):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(state))
    plugin = plugins.load("weights", "file")
    values = {"path": str(path), "by_order": False, "architecture": ARCHITECTURE, "preprocessing": PREPROCESSING}
    source = plugin.fetch(**values, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert source.origin == str(path)
    with pytest.raises(UserError, match="copy its sha256"):
        plugin.fetch(**values, sha256="0" * 64)
    with pytest.raises(UserError, match="there is no file"):
        plugin.fetch(**values | {"path": "nowhere.pth"}, sha256="0" * 64)


def test_weights_behind_an_address_are_those_of_the_file(tmp_path, state):
    content = save(state)
    (tmp_path / "w.safetensors").write_bytes(content)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/w.safetensors"
        how = {"url": url, "by_order": False, "architecture": ARCHITECTURE, "preprocessing": PREPROCESSING}
        source = plugins.load("weights", "url").fetch(**how, sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(UserError, match="copy its sha256"):
            plugins.load("weights", "url").fetch(**how, sha256="0" * 64)
        server.shutdown()
    assert source.origin == url
    assert all(torch.equal(tensor, read(content, "w.safetensors").tensors[name]) for name, tensor in source.tensors.items())


def test_random_weights_come_from_their_seed():
    fetch = partial(plugins.load("weights", "random").fetch, architecture=ARCHITECTURE, preprocessing=PREPROCESSING)
    first, again, other = (fetch(seed=seed).tensors for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_torchvision_weights_bring_their_preprocessing_and_classes(tmp_path, monkeypatch):
    """torchvision's own download path, with a file of the right name in its cache instead of the network."""
    import torchvision

    resnet = Architecture(library="torchvision", model="resnet18")
    fetch = plugins.load("weights", "torchvision").fetch
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "hub/checkpoints" / weights.url.rpartition("/")[2])
    source = fetch(architecture=resnet, version="IMAGENET1K_V1")
    assert source.preprocessing == {"px": 224, "crop_pct": 0.875, "interpolation": "bilinear",
                                    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip
    assert source.architecture == {"library": "torchvision", "model": "resnet18"}
    assert source.classes[0] == "tench" and source.origin == f"torchvision resnet18 IMAGENET1K_V1, {weights.url}"
    assert torch.equal(source.tensors["head.weight"], network.fc.weight)


@pytest.mark.parametrize(
    ("library", "model", "version", "said"),
    [
        ("torchvision", "resnet18", "IMAGENET1K_V2", "version: torchvision has no weights 'IMAGENET1K_V2' for resnet18. Did you "
         "mean 'IMAGENET1K_V1'? Allowed: IMAGENET1K_V1, DEFAULT"),
        ("torchvision", "resnet19", "V1", "architecture.model: torchvision has no weights for 'resnet19'. Did you mean 'resnet"),
        ("timm", "resnet18", "V1", "architecture.library: torchvision's weights are for its own networks; given: timm"),
    ],
)  # fmt: skip
def test_weights_that_torchvision_does_not_have_are_answered_in_words(library, model, version, said):
    with pytest.raises(UserError, match=re.escape(said)):
        plugins.load("weights", "torchvision").fetch(architecture=Architecture(library=library, model=model), version=version)


def test_timm_names_that_do_not_exist_get_near_ones():
    fetch = plugins.load("weights", "timm").fetch
    with pytest.raises(UserError, match=r"architecture\.model: timm has no weights .*tf_efficientnet_lite0"):
        fetch(architecture=Architecture(library="timm", model="efficientnet_lite0.nonsense"))
    with pytest.raises(UserError, match=r"architecture\.library: weights of timm are for networks of timm; given: torchvision"):
        fetch(architecture=Architecture(library="torchvision", model="resnet18"))
