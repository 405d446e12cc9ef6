"""The tiny networks, for which what a strategy trains is known."""

import pytest
import torch

from stages.lib.networks import backbones
from tests.lib.strategies.blocks import BLOCKS


@pytest.fixture(params=BLOCKS)
def network(request):
    return request.param


@pytest.fixture
def model(network):
    """Without values: what is tested are names."""
    with torch.device("meta"):
        return backbones.build({"library": "timm", "model": network}, 3)
