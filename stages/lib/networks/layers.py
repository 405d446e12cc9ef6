"""Layers and blocks of a backbone, with one definition for all networks, and the part of them that a strategy trains.

A layer is a module that directly owns a weight of two or more dimensions: a convolution, a linear layer, an embedding.
A block is a unit of the network's own structure: a stage of an EfficientNet, a residual block of a ResNet, a transformer block.
"""

import difflib
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

from stages.lib.errors import UserError
from stages.lib.params.fields import Trainable

if TYPE_CHECKING:  # strategies import this file, and checking params.yaml must not wait for torch
    from torch import nn

    from stages.lib.networks.backbones import Model

NEARLY_ALL = 0.9  # a module with more than this fraction of the backbone's parameters is the network itself, not a part of it


class Layer(NamedTuple):
    name: str  # path of the module in the backbone
    block: str
    tensors: list[str]  # parameter names in the Model: its own, and those assigned to it for lack of their own layer


def blocks(model: "Model") -> dict[str, list[str]]:
    """The backbone's blocks, starting from the input, and the names of the parameters in each.

    A block is a child of the backbone; a child that is only a container (Sequential, ModuleList), little more than one (the
    encoder of a BERT), or nearly the whole network (torchvision's ViT encoder), is replaced by its own children. A child without
    any layer, such as a single normalisation, belongs to the block before it, and what comes before all layers (class token) to
    the first block.
    """
    placed = [name for name, module in units(model).items() if any(_is_layer(inner) for inner in module.modules())]
    found: dict[str, list[str]] = {}
    early: list[str] = []  # before the first block
    for tensor, _ in model.backbone.named_parameters():
        unit = next((name for name in placed if tensor.startswith(f"{name}.")), next(reversed(found), None))
        members = early if unit is None else found.setdefault(unit, [])
        members.append(f"backbone.{tensor}")
    first = next(iter(found))
    found[first] = early + found[first]
    return found


def units(model: "Model") -> "dict[str, nn.Module]":
    """The modules of which the backbone consists on the level of its blocks, also those without any layer, in their order."""
    return dict(_units(model.backbone, NEARLY_ALL * _size(model.backbone)))


def layers(model: "Model") -> list[Layer]:
    """The backbone's layers, starting from the input; every parameter is in exactly one.

    Modules with only one-dimensional parameters (normalisation, layer scale), and parameters that are not weights (position
    embeddings), belong to the layer before them in their block, or if there is none, to the first layer of the block.
    """
    return [
        Layer(name, block, tensors)
        for block, members in blocks(model).items()
        for name, tensors in _gather(model.backbone, "backbone.", members).items()
    ]


def select(model: "Model", trainable: Trainable | Literal["all"]) -> list[str]:
    """Names of the backbone's trained parameters, starting from the input.

    Raises:
        UserError: nothing would be frozen, or nothing trained, or a pattern matches nothing.
    """
    by_layer, by_block = layers(model), blocks(model)
    everything = [tensor for layer in by_layer for tensor in layer.tensors]
    if trainable == "all":
        return everything
    ((key, value),) = trainable.model_dump(exclude_none=True).items()
    if key == "patterns":
        matched = {tensor for pattern in value for tensor in matching(model, pattern, "trainable.patterns")}
        chosen = [tensor for tensor in everything if tensor in matched]
    elif key == "freeze_feature_encoder":
        frozen = tuple(f"backbone.{name}." for name in getattr(model.backbone, "feature_encoder", ()))
        chosen = [tensor for tensor in everything if not tensor.startswith(frozen)]
    elif key == "last_blocks":
        chosen = [tensor for block in list(by_block)[-value:] for tensor in by_block[block]]
    else:  # Decimal is exact: 0.29 of 100 layers are 29, while binary floats give 28.999...
        num_frozen = value if key == "freeze_layers" else int(Decimal(str(value)) * len(by_layer))
        chosen = [tensor for layer in by_layer[num_frozen:] for tensor in layer.tensors]
    if 0 < len(chosen) < len(everything):
        return chosen
    raise UserError(
        f"trainable.{key}: {value} was given, which trains {'everything' if chosen else 'nothing'}: this backbone has "
        f"{len(by_layer)} layers in {len(by_block)} blocks ({', '.join(by_block)}). {_allowed(key, by_layer, by_block)} "
        "To train all of it, use strategy full (or trainable: all, where the strategy takes that); to train none of it, "
        "use feature_extraction."
    )


def matching(model: "Model", pattern: str, where: str) -> list[str]:
    """Names of the backbone's parameters that match a pattern, starting from the input.

    Args:
        pattern: shell-style (fnmatch), matched against names without "backbone.": "layer4.*"; the name of a module alone
            ("layer4") matches everything in it.
        where: the key that holds the pattern, for the message.

    Raises:
        UserError: nothing matches; the text names similar parameters.
    """
    names = [name for name, _ in model.backbone.named_parameters()]
    found = [f"backbone.{name}" for name in names if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")]
    if found:
        return found
    parts = [name.split(".") for name in names]
    folders = [".".join(part[:depth]) + ".*" for part in parts for depth in range(1, len(part))]
    near = difflib.get_close_matches(pattern, list(dict.fromkeys(folders + names)))
    raise UserError(
        f"{where}: {pattern!r} matches no tensor of this backbone."
        + (f" Similar names: {', '.join(near)}." if near else "")
        + f" Patterns are matched against names like {names[0]} and {names[-1]}, where * stands for any text. "
        f"Blocks: {', '.join(blocks(model))}."
    )


def head_rates(model: "Model", lr: float) -> dict[str, float]:
    """The learning rate of every parameter of the head, by its name in the model."""
    return {f"head.{name}": lr for name, _ in model.head.named_parameters()}


def normalisations() -> tuple[type, ...]:
    """The classes of normalisation layers, including the subclasses of timm and torchvision."""
    from timm.layers import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    return _NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d


def _is_layer(module: "nn.Module") -> bool:
    """Whether it directly owns a weight of two or more dimensions; position and token embeddings do not count."""
    own = module.named_parameters(recurse=False)
    return not isinstance(module, normalisations()) and any("weight" in name and tensor.ndim > 1 for name, tensor in own)


def _units(module: "nn.Module", most: float, prefix: str = "") -> Iterator[tuple[str, "nn.Module"]]:
    """Children in order; containers, stacks and those with more than `most` parameters are replaced by their own children."""
    from torch import nn

    for name, child in module.named_children():
        path, inner = f"{prefix}{name}", list(child.named_children())
        if inner and isinstance(child, nn.Sequential | nn.ModuleList):
            yield from ((f"{path}.{listed}", unit) for listed, unit in inner)
        elif inner and (_size(child) > most or _is_stack(child)):
            yield from _units(child, most, f"{path}.")
        else:
            yield path, child


def _is_stack(module: "nn.Module") -> bool:
    """Whether most of its parameters are in one ModuleList of larger parts directly inside it: the layers of a BERT's encoder."""
    from torch import nn

    lists = [unit for unit in module.children() if isinstance(unit, nn.ModuleList) and any([*part.children()] for part in unit)]
    return 2 * max(map(_size, lists), default=0) > _size(module)


def _size(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gather(root: "nn.Module", prefix: str, tensors: list[str]) -> dict[str, list[str]]:
    """Parameters of `root`, in order, by the layer that they belong to."""
    found: dict[str, list[str]] = {}
    early: list[str] = []  # before the first layer
    for tensor in tensors:
        owner = tensor.removeprefix(prefix).rpartition(".")[0]
        if _is_layer(root.get_submodule(owner)):
            found.setdefault(owner, []).append(tensor)
        else:
            (found[next(reversed(found))] if found else early).append(tensor)
    first = next(iter(found), "")
    return found | {first: early + found.get(first, [])}


def head_layers(model: "Model") -> list[Layer]:
    """The head's layers; none if the head is computed."""
    tensors = [f"head.{name}" for name, _ in model.head.named_parameters()]
    gathered = _gather(model.head, "head.", tensors) if tensors else {}
    return [Layer(f"head.{name}" if name else "head", "head", members) for name, members in gathered.items()]


def _allowed(key: str, by_layer: list[Layer], by_block: dict[str, list[str]]) -> str:
    return {
        "last_blocks": f"Allowed: 1 to {len(by_block) - 1}.",
        "freeze_layers": f"Allowed: 1 to {len(by_layer) - 1}.",
        "freeze_fraction": f"Allowed: {1 / len(by_layer):.3g} (one layer) or more, and less than 1.",
        "freeze_feature_encoder": "Only speech encoders (wav2vec2, hubert, wavlm, whisper) have one.",
        "patterns": "Allowed: patterns that leave some of its tensors out.",
    }[key]
