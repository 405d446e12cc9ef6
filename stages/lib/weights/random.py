"""Random weights: the start of a hop that pretrains on data of your own."""

from pydantic import Field

from stages.lib.strict import Architecture, Preprocessing, Strict
from stages.lib.weights import Source


class Knobs(Strict):
    seed: int = Field(ge=0)
    architecture: Architecture
    preprocessing: Preprocessing


def fetch(*, seed, architecture, preprocessing) -> Source:
    """The library's own initialisation, from a seed."""
    import torch

    from stages.lib.backbones import build
    from stages.lib.seeds import seed_for

    torch.manual_seed(seed_for(seed, "random weights"))
    network = architecture.model_dump()
    return Source(network, build(network).state_dict(), preprocessing.model_dump(), None, f"random weights, seed {seed}")
