"""Batch statistics over several GPUs: where they are shared, and that nothing else of the network changes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stages.lib.networks import backbones
from stages.lib.training.setup import synchronised

NETWORKS = [("timm", "tf_efficientnet_lite0", 40), ("torchvision", "resnet18", 20)]


def processes(num, device):
    """What a launched Fabric tells of itself; such machines are not at hand."""
    return SimpleNamespace(world_size=num, device=SimpleNamespace(type=device))


def normalisations(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(("library", "name", "least"), NETWORKS)
def test_several_gpus_share_their_batch_statistics_and_the_network_stays_the_same(library, name, least):
    """In timm a normalisation holds its activation, which torch's own conversion would drop without a word."""
    torch.manual_seed(0)
    model = backbones.build({"library": library, "model": name}, 2).eval()
    inputs = torch.randn(2, 3, 64, 64)
    before, num = model(inputs), len(normalisations(model, nn.BatchNorm2d))
    converted = synchronised(processes(2, "cuda"), model)
    assert len(normalisations(converted, nn.SyncBatchNorm)) == num >= least and not normalisations(converted, nn.BatchNorm2d)
    torch.testing.assert_close(converted.eval()(inputs), before)


@pytest.mark.parametrize(("num", "device"), [(1, "cuda"), (1, "cpu"), (2, "cpu")])
def test_one_process_and_cpus_keep_their_own(num, device):
    model = backbones.build({"library": "torchvision", "model": "resnet18"}, 2)
    assert synchronised(processes(num, device), model) is model
    assert len(normalisations(model, nn.BatchNorm2d)) == 20 and not normalisations(model, nn.SyncBatchNorm)
