"""Train everything, each block with a lower learning rate than the one after it (Howard & Ruder, ULMFiT, ACL 2018)."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks.layers import blocks, head_rates, matching
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    decay: float = Field(gt=0, le=1)
    rates: dict[str, Annotated[float, Field(gt=0, le=10)]]


def plan(model: "Model", *, epochs: int, lr: float, head_lr: float, decay: float, rates: dict[str, float]) -> list[Phase]:
    """One phase that trains every parameter.

    Args:
        lr: of the last block.
        decay: each block's learning rate is that of the next block times this. ULMFiT uses 1/2.6 for its four layers; a network
            with many blocks needs a value closer to 1, or its first blocks hardly change.
        rates: learning rates by pattern ("layer4.*", or just "layer4") that override the above; {} for none.

    Raises:
        UserError: a pattern matches nothing or refers to the head, or a tensor matches two patterns.
    """
    if "head" in rates:
        raise UserError("strategy discriminative: rates: the head has a key of its own, head_lr. Take head out of rates.")
    named = blocks(model)
    lrs: dict[str, float] = {}
    for distance, block in zip(reversed(range(len(named))), named, strict=True):
        lrs |= dict.fromkeys(named[block], lr * decay**distance)
    chosen: dict[str, str] = {}
    for pattern in rates:
        for tensor in matching(model, pattern, "strategy discriminative: rates"):
            if tensor in chosen:
                raise UserError(
                    f"strategy discriminative: rates: {tensor.removeprefix('backbone.')} matches both {chosen[tensor]!r} and "
                    f"{pattern!r}, so its learning rate is not clear. Make one of them narrower."
                )
            chosen[tensor] = pattern
    lrs |= {tensor: rates[pattern] for tensor, pattern in chosen.items()}
    return [Phase(lrs | head_rates(model, head_lr), epochs)]
