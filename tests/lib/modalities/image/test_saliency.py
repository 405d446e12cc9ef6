"""Grad-CAM against the paper's formula by hand, and on every kind of network."""

import pytest
import torch
from torch import nn

from stages.lib.modalities.image.saliency import grad_cam
from stages.lib.networks import backbones


class Maps(nn.Module):
    """A backbone whose last maps are its input's channels, which are then averaged."""

    def __init__(self):
        super().__init__()
        self.last = nn.Identity()

    def forward(self, images):
        return self.last(images).mean((2, 3))


def test_by_hand():
    """With averaged maps and a linear head the gradient is the weight over the number of places, so the map is known."""
    torch.manual_seed(0)
    model = backbones.Model(Maps(), nn.Linear(3, 2)).eval()
    images = torch.randn(4, 3, 6, 6)
    classes = torch.tensor([0, 1, 1, 0])
    weighted = torch.einsum("nc,nchw->nhw", model.head.weight[classes] / 36, images).relu()
    expected = weighted / weighted.amax((1, 2), keepdim=True)
    torch.testing.assert_close(grad_cam(model, images, classes), expected)
    assert all(parameter.grad is None for parameter in model.parameters())


NETWORKS = [("timm", "tf_efficientnet_lite0", 64), ("timm", "resnet18", 64), ("timm", "convnext_atto", 64),
            ("timm", "swin_tiny_patch4_window7_224", 224), ("torchvision", "densenet121", 64),
            ("torchvision", "mobilenet_v3_small", 64), ("small", "mobilefacenet", 112), ("small", "sface", 112)]  # fmt: skip


@pytest.mark.parametrize(("library", "name", "px"), NETWORKS)
def test_it_covers_the_image_whatever_the_network(library, name, px):
    torch.manual_seed(0)
    model = backbones.build({"library": library, "model": name}, 3).eval()
    found = grad_cam(model, torch.randn(2, 3, px, px), torch.tensor([2, 0]))
    assert found.shape == (2, px, px)
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0


def test_the_maps_of_lenet_are_those_after_its_last_pooling():
    """4 x 4 places of a grey image."""
    torch.manual_seed(0)
    model = backbones.build({"library": "small", "model": "lenet5"}, 2).eval()
    with torch.no_grad():
        for name in ("fc1", "fc2"):
            model.backbone.get_submodule(name).weight.abs_()
        model.head.weight.abs_()  # so that all that the second convolution finds speaks for each class
    image = torch.randn(1, 1, 28, 28)
    maps = model.backbone.pool(model.backbone.conv2(model.backbone.pool(model.backbone.conv1(image).relu())).relu())
    found = grad_cam(model, image, torch.tensor([1]))
    assert maps.shape == (1, 16, 4, 4) and found.shape == (1, 28, 28) and found.max() > 0.9
    flat = found.flatten()
    largest = torch.nn.functional.interpolate(maps.sum(1, keepdim=True), (28, 28), mode="bilinear").flatten()
    assert torch.corrcoef(torch.stack([flat, largest]))[0, 1] > 0.9


def test_it_is_told_apart_for_what_class_it_is():
    torch.manual_seed(0)
    model = backbones.build({"library": "timm", "model": "test_resnet"}, 2).eval()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(grad_cam(model, image, torch.tensor([0])), grad_cam(model, image, torch.tensor([1])))


def test_a_transformer_has_no_maps():
    """Its only maps are those of the patches before the first block, which say nothing about an answer."""
    model = backbones.build({"library": "timm", "model": "test_vit"}, 2).eval()
    assert grad_cam(model, torch.randn(1, 3, 160, 160), torch.tensor([0])) is None
