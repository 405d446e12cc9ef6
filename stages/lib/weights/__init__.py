"""What a kind of weights is: a file here with `Knobs` (its params) and `fetch` (which returns a Source)."""

from typing import Any, NamedTuple


class Source(NamedTuple):
    """Pretrained (or random) weights, by the names that stages.lib.backbones.Model has for them."""

    architecture: dict[str, str]  # library and model, as stages.lib.backbones.build takes them
    tensors: dict[str, Any]  # torch tensors; torch is not imported here, so that checking params.yaml stays quick
    preprocessing: dict[str, Any]  # px, crop_pct, interpolation, mean, std: as the weights were trained
    classes: list[str] | None  # what the head's outputs mean, where the library says it
    origin: str  # where the weights came from, for the card
