"""Low-rank adapters on the linear layers, merged into them at the end (Hu et al., LoRA, ICLR 2022; uses peft)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks.layers import head_rates
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import pandas as pd

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)


def adapt(model: "Model", *, rank: int, alpha: float) -> dict[str, str]:
    """Add adapters of the given rank to every linear layer of the backbone that is called; initially they add zero.

    The attention of torch, torchvision and WavLM uses the weights of its linear layers without calling them, which bypasses any
    adapter; in such networks only the other linear layers are adapted.

    Returns:
        The weight that each adapter is merged into, by the adapter's name.

    Raises:
        UserError: the backbone has no linear layer (attention consists of linear layers).
    """
    from peft import LoraConfig, inject_adapter_in_model  # here: importing it takes seconds, and no other strategy needs it
    from torch import nn
    from torchvision.models.swin_transformer import ShiftedWindowAttention
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    modules = dict(model.backbone.named_modules())
    past = nn.MultiheadAttention | ShiftedWindowAttention | WavLMAttention
    linear = [
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and not isinstance(modules[name.rpartition(".")[0]], past)
    ]
    if not linear:
        raise UserError(
            "strategy lora: this backbone has no linear or attention layers, only convolutions. Choose partial, bitfit or "
            "norm_only, or a transformer (vit_*, convnext_*) as architecture."
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear)  # type: ignore[arg-type]  # peft accepts any number
    inject_adapter_in_model(config, model.backbone)
    return {
        f"backbone.{name}": f"backbone.{name.partition('.lora_')[0]}.weight"
        for name, _ in model.backbone.named_parameters()
        if ".lora_" in name
    }


def plan(model: "Model", *, epochs: int, lr: float, head_lr: float) -> list[Phase]:
    """One phase that trains the adapters and the head."""
    adapters = {f"backbone.{name}": lr for name, _ in model.backbone.named_parameters() if ".lora_" in name}
    return [Phase(adapters | head_rates(model, head_lr), epochs)]


def finish(
    fabric: Any, model: "Model", *, start: Any, train: "LoadedSplit", val: "LoadedSplit", task: Any, batch_size: int
) -> dict[str, "pd.DataFrame"]:
    """Add each adapter to its layer's weight, so that the network has its original architecture again."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, module) for name, module in model.backbone.named_modules() if isinstance(module, LoraLayer)]
    for name, module in adapted:
        module.merge()
        model.backbone.set_submodule(name, module.get_base_layer())
    return {}
