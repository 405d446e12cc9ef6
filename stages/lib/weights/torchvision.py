"""Weights from torchvision, by version, with their own preprocessing and classes."""

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.errors import UserError, nearest
from stages.lib.params.fields import Architecture, Strict

BRINGS_PREPROCESSING = True


class Params(Strict):
    version: str = Field(min_length=1)


def fetch(*, architecture: Architecture, version: str) -> Source:
    """Download, for example, version IMAGENET1K_V2 of resnet50 with torchvision."""
    import torchvision

    from stages.lib.networks.backbones import from_library

    if architecture.library != "torchvision":
        raise UserError(f"architecture.library: torchvision's weights are for its own networks; given: {architecture.library}.")
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture.model not in known:
        raise UserError(
            f"architecture.model: torchvision has no weights for {architecture.model!r}.{nearest(architecture.model, known)} "
            f"Allowed: {', '.join(known)}."
        )
    versions = torchvision.models.get_model_weights(architecture.model).__members__
    if version not in versions:
        raise UserError(
            f"version: torchvision has no weights {version!r} for {architecture.model}.{nearest(version, versions)} "
            f"Allowed: {', '.join(versions)}."
        )
    weights = versions[version]
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision could not download {weights.url}: {error}") from None
    transforms = weights.transforms()
    preprocessing = {
        "px": transforms.crop_size[0],
        "crop_pct": transforms.crop_size[0] / transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "mean": list(transforms.mean),
        "std": list(transforms.std),
    }
    tensors = from_library(architecture.model_dump(), state, by_order=False)
    origin = f"torchvision {architecture.model} {version}, {weights.url}"
    return Source(architecture.model_dump(), tensors, preprocessing, weights.meta["categories"], origin)
