"""A network that fits on one line, for the tests of what may move."""

import pytest
import torch
from torch import nn


@pytest.fixture
def model():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    return nn.ModuleDict({"backbone": first, "head": nn.Linear(4, 2)})
