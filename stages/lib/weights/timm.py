"""Weights of timm, by model name (with tag, to pin them): timm's own preprocessing comes along."""

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.strict import Strict
from stages.lib.weights import Source


class Knobs(Strict):
    model: str = Field(min_length=1)


def fetch(*, model: str) -> Source:
    """Download, for example, resnet50.a1_in1k from the hub that timm uses."""
    import timm

    from stages.lib.backbones import from_library

    if not timm.is_model(model) or model not in timm.list_models(model.partition(".")[0] + "*", pretrained=True):
        near = timm.list_models(f"*{model.partition('.')[0]}*", pretrained=True)[:10]
        raise UserError(
            f"model: timm has no weights {model!r}. Allowed, for example: {', '.join(near) or 'timm.list_pretrained()'}."
        )
    try:
        network = timm.create_model(model, pretrained=True)
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(f"timm could not download {model}: {error}") from None
    config = timm.data.resolve_data_config({}, model=network)
    preprocessing = {"px": config["input_size"][1]} | {name: config[name] for name in ("crop_pct", "interpolation")}
    preprocessing |= {name: list(config[name]) for name in ("mean", "std")}
    architecture = {"library": "timm", "model": model}  # with its tag, which decides the number of classes
    tensors = from_library(architecture, network.state_dict(), by_order=False)
    return Source(architecture, tensors, preprocessing, None, f"timm {model}")
