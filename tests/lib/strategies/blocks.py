"""The blocks of the tiny networks, read from the printed networks and not by the code under test."""

from torch import nn

# Beginnings of the names in each block.
BLOCKS = {
    "test_resnet": [["conv1.0.", "conv1.1."], ["conv1.3.", "conv1.4."], ["conv1.6.", "bn1."],
                    *([f"layer{index}."] for index in (1, 2, 3, 4))],
    "test_vit": [["cls_token", "pos_embed", "patch_embed."], *([f"blocks.{index}."] for index in range(5)),
                 ["blocks.5.", "norm."]],
    "test_efficientnet": [["conv_stem.", "bn1."], *([f"blocks.{index}."] for index in range(5)), ["conv_head.", "bn2."]],
}  # fmt: skip
NORMS = {"test_resnet": nn.BatchNorm2d, "test_vit": nn.LayerNorm, "test_efficientnet": nn.BatchNorm2d}
HEAD = ["head.weight", "head.bias"]


def head(lr):
    """Learning rates of the head's tensors."""
    return dict.fromkeys(HEAD, lr)


def in_block(model, network, index):
    """Names of the tensors of one block."""
    beginnings = tuple(f"backbone.{beginning}" for beginning in BLOCKS[network][index])
    return [name for name, _ in model.named_parameters() if name.startswith(beginnings)]


def last(model, network, count, lr):
    """Learning rates of the last blocks' tensors."""
    every = range(len(BLOCKS[network]))
    return {name: lr for index in every[-count:] for name in in_block(model, network, index)}


def everything(model, lr):
    """Learning rates of all tensors of the backbone."""
    return {name: lr for name, _ in model.named_parameters() if name.startswith("backbone.")}
