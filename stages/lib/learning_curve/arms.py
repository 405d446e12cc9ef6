"""The arms of a learning curve: the target trained from the proposal with several strategies, and the control."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from pydantic import BaseModel

from stages.lib.core import cards, plugins, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import hop
from stages.lib.training.phases import Data, Tensors
from stages.lib.training.recipe import advised


class Arm(NamedTuple):
    """One curve: everything that its trainings share."""

    tensors: Tensors | None  # of the starting point; None for random weights
    start: cards.ModelCard
    data: Data  # all examples
    names: list[str]  # what the outputs mean
    hyperparameters: dict[str, Any]
    options: TrainingOptions


def resolved(names: Sequence[str], blocks: Mapping[str, BaseModel]) -> list[str]:
    """Resolve the names of strategies: auto becomes the advised one.

    Raises:
        UserError: no block has this name, it is the name of the control, or it adapts to unlabelled inputs.
    """
    if runs.SCRATCH in names:
        raise UserError(f"--strategies: {runs.SCRATCH} is the control, which is always trained; leave it out.")
    for name in names:
        params.block(blocks, "strategies", name)
        if getattr(plugins.load("strategies", name), "UNLABELLED", False):
            raise UserError(
                f"--strategies: {name} adapts to the unlabelled inputs of another domain. "
                "A curve over labels needs strategies that learn from labels alone, such as full."
            )
    return list(dict.fromkeys(advised(blocks) if name == "auto" else name for name in names))


def read_arms(fabric: Any, p: SimpleNamespace, strategies: Sequence[str], packed: cards.DataCard) -> dict[str, Arm]:
    """One arm per strategy, all from the proposal, and the control."""
    blocks = {name: p.strategies[name] for name in strategies} | {runs.SCRATCH: p.scratch}
    proposal, card = cards.read_model(runs.starting_point(p.inits[0]))
    like = cards.read_model_card(runs.starting_point(p.scratch.like))
    arms, unseen = {}, cards.read_json(runs.LEAKS / "leaks.json")["left_out"].get(packed.name, {})
    for name, block in blocks.items():
        start = like if name == runs.SCRATCH else card
        hop.require_fit(packed, start)
        preprocessing = start.how | packed.packing
        options = plugins.overridden(p.training, block)
        data, names = hop.load(runs.prepared(packed.name), packed, p.target.task, options, preprocessing, fabric.device, unseen)
        hyperparameters = plugins.arguments(block, plugins.load("strategies", name))
        tensors = None if name == runs.SCRATCH else proposal
        arms[name] = Arm(tensors, start, data, names, hyperparameters, options)
    return arms
