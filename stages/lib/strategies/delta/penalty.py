"""DELTA: keep the last feature maps close to the start's, most of all where the task needs them (Li et al., ICLR 2019)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from stages.lib.core.contracts import LoadedSplit
from stages.lib.errors import UserError
from stages.lib.networks import layers
from stages.lib.networks.backbones import Model
from stages.lib.strategies.l2_sp.penalty import l2

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
BATCH = 16  # examples whose maps are in memory at once while channel weights are measured


def delta(maps: list[torch.Tensor], start: list[torch.Tensor], weights: list[torch.Tensor], alpha: float) -> torch.Tensor:
    """Penalty on the distance between the feature maps of a network and of its start, for the same images.

    Args:
        maps: the feature maps of each block, (N, C, P) with P positions (pixels, tokens); C and P may differ between blocks.
        start: those of the start, with the same shapes.
        weights: for each block, one weight per channel, (C,).
        alpha: strength, >= 0; 0 turns the penalty off.

    Returns:
        Scalar tensor, alpha / 2 * sum over blocks and channels of weight * squared distance / P, averaged over the
        batch. Zero, with zero gradient, where the maps are equal. The paper sums both the loss and the penalty over examples;
        here both are means. (The authors' code adds the sum of the penalty over a batch to the mean loss, so its alpha is this
        one divided by the batch size.)

    Reference:
        Li et al., DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks, ICLR 2019
        (arXiv 1901.09229).
    """
    distances = [((a - b).square().mean(2) * weight).sum(1).mean() for a, b, weight in zip(maps, start, weights, strict=True)]
    total: Any = sum(distances)
    penalty: torch.Tensor = alpha / 2 * total
    return penalty


def channel_weights(start: Model, names: list[str], train: LoadedSplit, indices: torch.Tensor, loss: Loss) -> list[torch.Tensor]:
    """How much the start needs each channel: the softmax over channels of the increase in loss without it.

    Each channel of each block is set to zero in turn, and the loss is measured with the start's own head, which must fit the
    task. That is one forward pass over all examples per channel; only the part of the network behind the block is computed
    each time. (The authors' code standardises the increases and divides them by 5 before the softmax, and zeroes a
    convolution instead of a block's output; this is the paper's formula.)

    Args:
        start: in evaluation mode.
        names: blocks of its backbone.
        train: the split on which the weights are measured.
        indices: (N,) which of its examples.
        loss: (outputs, targets) -> the loss of each example.

    Returns:
        For each block, weights (C,) with mean 1.
    """
    blocks = {name: start.backbone.get_submodule(name) for name in layers.blocks(start)}
    losses: dict[str, list[torch.Tensor]] = {name: [] for name in names}  # (C,) per batch
    with torch.no_grad():
        for chosen in indices.split(BATCH):
            batch, targets = train.inputs(chosen, "none", None), train.targets[chosen]
            with _recorded(blocks) as outputs:
                start.backbone(batch)
            order = list(outputs)  # in which they ran
            for name in names:
                axis = _channel_axis(name, blocks[name], outputs[name])
                known = {earlier: outputs[earlier] for earlier in order[: order.index(name) + 1]}
                with _replayed(blocks, known):
                    channels = tqdm(range(outputs[name].shape[axis]), f"channels of {name}", disable=None, leave=False)
                    gains = [_loss_without(start, blocks[name], axis, channel, batch, targets, loss) for channel in channels]
                losses[name].append(torch.stack(gains))
    # Subtracting the loss with all channels is unnecessary: the softmax ignores a constant.
    totals: list[Any] = [sum(batches) for batches in losses.values()]
    return [len(batches[0]) * (total / len(indices)).softmax(0) for batches, total in zip(losses.values(), totals, strict=True)]


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Loss, *,
    alpha: float, beta: float, blocks: int, attention_examples: int,
) -> Iterator[Callable[[Any], torch.Tensor]]:  # fmt: skip
    """Attach DELTA to a model for one phase.

    The start runs in evaluation mode. If the model uses batch statistics (BatchNorm) or dropout, its maps differ from the
    start's before it has learned anything, as in the authors' code.

    Args:
        model: whose feature maps are penalised.
        start: a frozen copy of it from the start of the phase; for channel weights, its head must have been trained.
        train, loss: used to measure the channel weights, on examples evenly spaced in the split, which is often sorted by class.
        alpha: strength, >= 0, as in `delta`.
        beta: strength of the L2 penalty on the head, >= 0: beta / 2 * ||w_head||^2, biases included.
        blocks: how many of the backbone's last blocks (stages.lib.networks.layers) are compared, by their outputs.
        attention_examples: how many training examples `channel_weights` uses; 0 gives every channel the weight 1.

    Yields:
        A function: inputs -> the penalty on the maps of the last forward pass with gradients. The start sees each batch
        right after the model, with the same precision (autocast).

    Raises:
        UserError: the backbone has fewer blocks, or one of them has no feature maps.
    """
    names = list(layers.blocks(model))
    if blocks > len(names):
        raise UserError(
            f"delta: blocks: {blocks} was given, but this backbone has {len(names)} blocks ({', '.join(names)}). "
            f"Allowed: 1 to {len(names)}."
        )
    names = names[-blocks:]
    moving = {name: model.backbone.get_submodule(name) for name in names}
    fixed = {name: start.backbone.get_submodule(name) for name in names}
    head = [tensor for tensor in model.head.parameters() if tensor.requires_grad]

    num = min(max(attention_examples, 1), len(train.targets))
    indices = torch.arange(num) * len(train.targets) // num
    with torch.no_grad(), _recorded(fixed) as outputs:
        start.backbone(train.inputs(indices[:1], "none", None))
    axes = {name: _channel_axis(name, fixed[name], outputs.get(name)) for name in names}
    if attention_examples:
        weights = channel_weights(start, names, train, indices, loss)
    else:
        weights = [outputs[name].new_ones(outputs[name].shape[axes[name]], dtype=torch.float32) for name in names]

    with _recorded(moving) as maps, _recorded(fixed) as first_maps, ExitStack() as stack:

        def run_start(backbone: Any, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled():  # validation has no penalty
                with torch.no_grad():
                    start.backbone(*inputs)

        def compute(inputs: Any) -> torch.Tensor:
            if not first_maps:
                raise ValueError("delta needs feature maps, but the backbone has not run: were features computed once?")
            own, first = ([_positions_last(side.pop(name), axes[name]) for name in names] for side in (maps, first_maps))
            return delta(own, first, weights, alpha) + l2(head, beta)

        stack.enter_context(model.backbone.register_forward_hook(run_start))
        yield compute


def _positions_last(output: torch.Tensor, axis: int) -> torch.Tensor:
    """Feature maps as (N, C, P) in float32."""
    output = output.float().movedim(axis, 1)
    return output.reshape(*output.shape[:2], -1)


def _channel_axis(name: str, block: nn.Module, output: Any) -> int:
    """Which axis of a block's output holds the channels.

    Outputs with 2 axes are (N, C), with 3 (N, tokens, C), and with 4 (N, C, H, W) or (N, H, W, C). Networks do not say which of
    the last two: the channel axis has the size of some layer's output in the block, which H and W match only by chance.
    """
    if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
        raise UserError(
            f"delta: the block {name} of this backbone gives no feature maps that could be compared. Choose fewer blocks, "
            "another backbone, or another penalty (l2_sp, bss)."
        )
    sizes = {tensor.shape[0] for tensor in block.parameters() if tensor.ndim}
    last = output.ndim == 3 or (output.ndim == 4 and output.shape[3] in sizes and output.shape[1] not in sizes)
    return output.ndim - 1 if last else 1


def _loss_without(
    start: Model, block: nn.Module, axis: int, channel: int, batch: Any, targets: torch.Tensor, loss: Loss
) -> torch.Tensor:
    """Sum of the losses with one channel of a block's output set to zero."""

    def zero(block: Any, inputs: Any, output: torch.Tensor) -> None:
        output.select(axis, channel).zero_()  # in place: a replayed output is a copy

    with block.register_forward_hook(zero):
        return loss(start(batch), targets).sum()


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Copies of each module's last output by its name, in the order in which they ran; only tensors count."""
    outputs: dict[str, torch.Tensor] = {}

    def record(name: str, module: Any, inputs: Any, output: Any) -> None:
        outputs.pop(name, None)
        if isinstance(output, torch.Tensor):
            outputs[name] = output.clone()  # later operations may be in-place

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(module.register_forward_hook(partial(record, name)))
        yield outputs


@contextmanager
def _replayed(modules: dict[str, nn.Module], outputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """Make modules return their recorded outputs instead of computing them."""
    try:
        for name, output in outputs.items():
            modules[name].forward = lambda *args, output=output, **kwargs: output.clone()
        yield
    finally:
        for name in outputs:
            del modules[name].forward
