"""Weights from timm, by model name (with a tag, to pin them), with timm's own preprocessing."""

from stages.lib.core.contracts import Source
from stages.lib.errors import UserError
from stages.lib.params.fields import Architecture, Strict

BRINGS_PREPROCESSING = True


class Params(Strict):
    """None: the architecture identifies the weights."""


def fetch(*, architecture: Architecture) -> Source:
    """Download, for example, resnet50.a1_in1k from the hub that timm uses."""
    import timm

    from stages.lib.networks.backbones import from_library

    name = architecture.model
    if architecture.library != "timm":
        raise UserError(f"architecture.library: weights of timm are for networks of timm; given: {architecture.library}.")
    if not timm.is_model(name) or name not in timm.list_models(name.partition(".")[0] + "*", pretrained=True):
        near = timm.list_models(f"*{name.partition('.')[0]}*", pretrained=True)[:10]
        raise UserError(
            f"architecture.model: timm has no weights {name!r}. "
            f"Allowed, for example: {', '.join(near) or 'timm.list_pretrained()'}."
        )
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises many kinds of exceptions
        raise UserError(f"timm could not download {name}: {error}") from None
    config = timm.data.resolve_data_config({}, model=network)
    preprocessing = {"px": config["input_size"][1]} | {key: config[key] for key in ("crop_pct", "interpolation")}
    preprocessing |= {key: list(config[key]) for key in ("mean", "std")}
    tensors = from_library(architecture.model_dump(), network.state_dict(), by_order=False)
    return Source(architecture.model_dump(), tensors, preprocessing, None, f"timm {name}")
