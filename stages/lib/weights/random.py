"""Random weights: the starting point of a hop that pretrains on your own data."""

from pydantic import Field

from stages.lib.core import plugins
from stages.lib.core.contracts import Source
from stages.lib.params.fields import Architecture, Strict


class Params(Strict):
    seed: int = Field(ge=0)


def fetch(*, seed: int, architecture: Architecture, preprocessing: Strict) -> Source:
    """The library's own initialisation, from a seed."""
    import torch

    from stages.lib.core.seeds import seed_for
    from stages.lib.networks.backbones import asked_for, build

    torch.manual_seed(seed_for(seed, "random weights"))
    network = architecture.model_dump()
    library = plugins.load("libraries", architecture.library)
    if hasattr(library, "complete"):
        network = library.complete(network, {})
    network = asked_for(network, "example")
    return Source(network, build(network).state_dict(), preprocessing.model_dump(), None, f"random weights, seed {seed}")
