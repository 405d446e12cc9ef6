"""The params that the repository ships."""

import pytest

from stages.lib.params import read as params
from tests.tiny import ROOT


@pytest.fixture
def raw():
    return params.read(ROOT / "params.yaml")
