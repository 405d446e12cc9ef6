"""BatchNorms folded into convolutions: the same outputs, or the network itself."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.lib.networks import backbones
from stages.lib.networks.folding import folded


def lived(network):
    """A network whose normalisations have seen something, in evaluation mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network.eval()


def built(library, model):
    torch.manual_seed(0)
    return lived(backbones.build({"library": library, "model": model}, 3))


def num_norms(network):
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


@pytest.mark.parametrize(
    ("library", "model", "left"),
    [("timm", "test_resnet", 0), ("timm", "tf_efficientnet_lite0", 0), ("torchvision", "mobilenet_v2", 0),
     ("torchvision", "resnet18", 0), ("small", "mobilefacenet", None)],
)  # fmt: skip
def test_a_folded_network_gives_the_same(library, model, left):
    network = built(library, model)
    before = copy.deepcopy(network.state_dict())
    inputs = torch.randn(5, 3, 64 if library != "small" else 112, 64 if library != "small" else 112)
    with torch.inference_mode():
        made = folded(network, lambda: inputs[:2])
        (features, outputs), (wanted_features, wanted) = made.both(inputs), network.both(inputs)
    assert num_norms(made) < num_norms(network) if left is None else num_norms(made) == left
    torch.testing.assert_close(outputs, wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(features, wanted_features, atol=1e-3, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()), "it is left as it was"


class Both(nn.Module):
    """A convolution whose outputs go to a BatchNorm and around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, inputs):
        seen = self.conv(inputs)
        return (self.norm(seen) + seen).mean((2, 3))


class Twice(Both):
    """A convolution that is used again, without the BatchNorm."""

    def forward(self, inputs):
        return self.norm(self.conv(self.conv(inputs))).mean((2, 3))


class Standardised(nn.Conv2d):
    """A convolution that computes its weights in each pass."""

    def forward(self, inputs):
        return self._conv_forward(inputs, self.weight - self.weight.mean(), self.bias)


@pytest.mark.parametrize(
    "network", [Both(), Twice(), nn.Sequential(Standardised(3, 3, 1), nn.BatchNorm2d(3), nn.Flatten()),
                nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()), nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten())],
)  # fmt: skip
def test_what_would_not_give_the_same_stays_as_it_is(network):
    assert folded(lived(network), lambda: torch.randn(2, 3, 4, 4)) is network


def test_where_rounding_would_differ_nothing_is_folded():
    network = built("timm", "test_resnet")
    with torch.autocast("cpu", torch.bfloat16):
        assert folded(network, lambda: torch.randn(2, 3, 64, 64)) is network
