"""The frozen beginning of a network: if inputs are the same in every epoch, what it makes of them is computed only once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from stages.lib.core.contracts import LoadedSplit, Phase
from stages.lib.networks.backbones import Model
from stages.lib.networks.inference import once
from stages.lib.networks.layers import units
from stages.lib.params.schema import TrainingOptions
from stages.lib.training.freezing import set_modes

MOST_BYTES = 2**30  # of what is kept for all examples, in memory
NUM_TRIED = 2  # examples on which it is made sure that nothing changes


class _Reached(Exception):
    """The first part of the network that is trained has been reached, with this input."""

    def __init__(self, given: Any):
        self.given = given


def always_the_same(phase: Phase, options: TrainingOptions, train: LoadedSplit) -> bool:
    """Whether each training example is given to the network in the same form in every epoch, and nothing else looks at it."""
    mixed = train.mix is not None and (options.mixup > 0 or options.cutmix > 0)
    return train.fixed and not phase.penalties and (phase.plain or (options.augment == "none" and not mixed))


@contextmanager
def skipped(
    fabric: Any, model: Model, phase: Phase, splits: Sequence[LoadedSplit], batch_size: int
) -> Iterator[Sequence[LoadedSplit]]:
    """Within the block the model starts where training starts, and takes what its frozen beginning made of the inputs.

    This needs a network that is a chain up to there. It is tried on a few examples: if any bit of the outputs would change, or if
    too much would have to be kept, the model and the splits stay as they are.

    Args:
        model: frozen as the phase says.
        splits: whose inputs never change.

    Yields:
        The same splits, as the model takes them within the block.
    """
    parts = list(units(model).values())
    first = next((index for index, part in enumerate(parts) if any(each.requires_grad for each in part.parameters())), 0)
    some = splits[0].inputs(torch.arange(min(NUM_TRIED, len(splits[0].targets))), "none", None) if first else None
    if not isinstance(some, torch.Tensor):
        yield splits
        return

    def begun(inputs: torch.Tensor) -> torch.Tensor:
        hook = parts[first].register_forward_pre_hook(_reach)
        try:
            model.backbone(inputs)
        except _Reached as reached:
            given: torch.Tensor = reached.given
            return given
        finally:
            hook.remove()
        raise AssertionError("it is a part of the network")

    model.eval()
    if same := _same(model, some, begun, parts[:first], most=MOST_BYTES // sum(len(each.targets) for each in splits)):
        known = [once(fabric, begun, each, batch_size) for each in splits]
    set_modes(model, phase.statistics)
    if not same:
        yield splits
        return
    with _passing(parts[:first]):
        yield known


def _reach(part: nn.Module, given: tuple[Any, ...]) -> None:
    raise _Reached(given[0] if len(given) == 1 else None)


@torch.no_grad()
def _same(
    model: Model, inputs: torch.Tensor, begun: Callable[[torch.Tensor], Any], before: Sequence[nn.Module], most: int
) -> bool:
    """Whether the model gives the same outputs for what its beginning makes of the inputs, at most so many bytes of each."""
    made, wanted = begun(inputs), model(inputs)
    if not isinstance(made, torch.Tensor) or len(made) != len(inputs) or made[0].numel() * 4 > most:
        return False
    with _passing(before):
        try:
            return torch.equal(model(made), wanted)
        except Exception:  # what a network says to inputs that are not like its own
            return False


@contextmanager
def _passing(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Let parts of a network return what they are given."""
    for part in parts:
        part.forward = _given  # of this module alone, and of its copies
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _given(inputs: torch.Tensor) -> torch.Tensor:
    return inputs
