"""Weights of torchvision, by their name in its enums: the weights' own preprocessing and classes come along."""

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.strict import Strict
from stages.lib.weights import Source


class Knobs(Strict):
    enum: str = Field(pattern=r"^\w+\.\w+$")


def fetch(*, enum: str) -> Source:
    """Download, for example, ResNet50_Weights.IMAGENET1K_V2 with torchvision."""
    import torchvision

    from stages.lib.backbones import from_library

    family, _, name = enum.partition(".")
    known = {
        torchvision.models.get_model_weights(model).__name__: (model, torchvision.models.get_model_weights(model))
        for model in torchvision.models.list_models(module=torchvision.models)
    }
    if family not in known or name not in known[family][1].__members__:
        allowed = [f"{family}.{member}" for member in known[family][1].__members__] if family in known else sorted(known)
        raise UserError(f"enum: torchvision has no weights {enum!r}. Allowed: {', '.join(allowed)}.")
    model, weights = known[family][0], known[family][1][name]
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
    architecture = {"library": "torchvision", "model": model}
    tensors = from_library(architecture, state, by_order=False)
    return Source(architecture, tensors, preprocessing, weights.meta["categories"], f"torchvision {enum}, {weights.url}")
