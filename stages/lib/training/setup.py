"""The setup of a training: a starting point with a new head, and which parts of it a strategy trains."""

from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch

from stages.lib.core import plugins
from stages.lib.core.contracts import Per, Phase, numbered
from stages.lib.core.plugins import taken
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks import backbones, layers
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import diagnostics
from stages.lib.training.certificate import declare
from stages.lib.training.freezing import freeze
from stages.lib.training.phases import Tensors, copy_of

IDENTITY = {"kind": "identity"}  # the specification of no head
MOST_BLOCKS = 4  # that are named one by one


class Setup(NamedTuple):
    """A model before its training, and what is declared trainable."""

    model: backbones.Model
    architecture: dict[str, Any]  # of the whole network, including its head
    plugin: ModuleType  # the strategy
    hyperparameters: dict[str, Any]  # the strategy's own
    phases: list[Phase]
    before: Tensors  # every tensor, by its name in the trained model
    declared: dict[str, str]  # what may change, from stages.lib.training.certificate.declare
    layers: pd.DataFrame  # one row per layer and phase: what is trained, at which peak learning rate

    def names(self, asked: list[str]) -> list[str]:
        """What the outputs mean: as asked for, unless the head (that of the strategy, or none) has other outputs."""
        num = self.model.num_outputs
        return asked if len(asked) == num else numbered(num)


def prepare(
    fabric: Any, tensors: Tensors | None, architecture: dict[str, Any], num_outputs: int, per: Per, *,
    strategy: str, hyperparameters: dict[str, Any], options: TrainingOptions, num_examples: int, seed: int,
    same_outputs: bool, kind: str = "linear",
) -> Setup:  # fmt: skip
    """Build the network of a hop and decide what is trained.

    Args:
        fabric: a launched Fabric; the model is moved to its device.
        tensors: of the starting point; None for random weights.
        architecture: of the starting point.
        num_outputs: of the new head; 0: the features of the backbone are the outputs.
        per: what there is one output for.
        strategy: a plug-in of stages/lib/strategies.
        hyperparameters: of the strategy.
        options: how training runs; their head is used unless the strategy defines its own.
        num_examples: number of training examples, for heads that store them.
        seed: decides the initial weights of the head (or of everything).
        same_outputs: whether the head of `tensors` answers the same, so that options.head.keep can keep it.
        kind: of a trained head, which the task decides.

    Raises:
        UserError: the strategy does not fit the network.
    """
    plugin = plugins.load("strategies", strategy)
    head: dict[str, Any] = {"kind": kind, **options.head.model_dump(exclude={"keep"})} if num_outputs else IDENTITY
    keep = options.head.keep and same_outputs and architecture.get("head") == head and not hasattr(plugin, "head")
    if hasattr(plugin, "head"):
        head = plugin.head(**taken(plugin.head, {"num_examples": num_examples, **hyperparameters}))
    architecture = backbones.asked_for(architecture, per) | {"head": head}
    torch.manual_seed(seed_for(seed, "weights"))
    model = backbones.build(architecture, num_outputs)
    if tensors is not None:
        backbones.load(model, tensors, head=keep)
    before = copy_of(model)
    merged = plugin.adapt(model, **taken(plugin.adapt, hyperparameters)) if hasattr(plugin, "adapt") else {}
    model = synchronised(fabric, model)
    # Faster on CPU and GPU than contiguous.
    model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    phases = plugin.plan(model, **taken(plugin.plan, hyperparameters))
    if not all(phase.lrs for phase in phases):
        raise UserError(
            f"strategy {strategy} has a phase that trains only the head, and this network has none: its features are the answer "
            "(training.metric_learning.dim: 0). Name another strategy, or a dim above 0."
        )
    trained = {name for phase in phases for name in phase.lrs}
    freeze(model, trained, any(phase.statistics for phase in phases))
    kinds = declare(model) | {merged[name]: "trainable" for name in sorted(trained & merged.keys())}
    kinds |= dict.fromkeys(plugin.computed(model) if hasattr(plugin, "computed") else (), "computed")
    declared = {name: kinds.get(name, "frozen") for name in before}
    return Setup(model, architecture, plugin, hyperparameters, phases, before, declared, layer_table(model, phases))


def synchronised(fabric: Any, model: backbones.Model) -> backbones.Model:
    """On several GPUs, the model with synchronised batch normalisation (statistics of the whole batch); else the model itself.

    On a CPU each process uses the statistics of its own part of the batch.
    """
    if fabric.world_size == 1 or fabric.device.type != "cuda":
        return model
    from timm.layers import convert_sync_batchnorm  # torch's version drops the activation inside timm's BatchNormAct2d

    converted: backbones.Model = convert_sync_batchnorm(model)
    return converted


def layer_table(model: backbones.Model, phases: list[Phase]) -> pd.DataFrame:
    """What each phase trains, layer by layer.

    Returns:
        For each phase (from 0, as in the history), one row per layer, first of the backbone and then of the head: number
        (from 1), layer, block ("head" for the head's), parameters, trainable (how many of them are trained), lr_min and
        lr_max (peak learning rates; 0 means frozen; they differ if the layer's tensors have different rates).
    """
    numel = {name: parameter.numel() for name, parameter in model.named_parameters()}
    rows = []
    for number, phase in enumerate(phases):
        for index, (name, block, tensors) in enumerate(layers.layers(model) + layers.head_layers(model), start=1):
            rates = [phase.lrs.get(tensor, 0.0) for tensor in tensors]
            trained = sum(numel[tensor] for tensor in tensors if tensor in phase.lrs)
            total = sum(numel[tensor] for tensor in tensors)
            rows.append((number, index, name, block, total, trained, min(rates), max(rates)))
    columns = ["phase", "number", "layer", "block", "parameters", "trainable", "lr_min", "lr_max"]
    return pd.DataFrame(rows, columns=columns)


def told(setup: Setup) -> list[str]:
    """What is trained, one line for each phase; `layers` says it layer by layer."""
    if not setup.phases:
        computed = "computed" in setup.declared.values()
        return [f"No layer is trained{': the head is computed from the features of the training examples' * computed}."]
    lines = []
    for number, phase in enumerate(setup.phases):
        rows = setup.layers[setup.layers.phase == number]
        trained, rates = rows[rows.trainable > 0], [f"{rate:.2g}" for rate in sorted(phase.lrs.values())]
        blocks = list(dict.fromkeys(trained.block))
        among = ", ".join(blocks) if len(blocks) <= MOST_BLOCKS else f"{len(blocks)} blocks from {blocks[0]} to {blocks[-1]}"
        title = f"Phase {number + 1} of {len(setup.phases)}: " if len(setup.phases) > 1 else ""
        lines.append(
            f"{title}{len(trained)} of {len(rows)} layers are trained ({among}), {trained.trainable.sum():,} of "
            f"{rows.parameters.sum():,} parameters; peak learning rate {' to '.join(dict.fromkeys((rates[0], rates[-1])))}"
        )
    return lines


def foreseen(setup: Setup, num_examples: int, params_per_example: float) -> list[str]:
    """Warnings about a training from pretrained weights that can be given before it starts."""
    backbone = setup.layers[setup.layers.block != "head"]
    num_trained = int(backbone.groupby("number").trainable.max().sum())  # over the phases
    found = diagnostics.too_many_parameters(num_trained, num_examples, params_per_example)
    return [found] if found else []


def require_that_it_takes(setup: Setup, inputs: Any, data: str, packing: dict[str, Any]) -> None:
    """Try one input before any long computation: some networks accept only the size that they were built for.

    Raises:
        UserError: the network rejects it.
    """
    try:
        with torch.no_grad():
            setup.model.backbone.eval()(inputs)
    except Exception as error:  # each network raises its own kind
        name = f"{setup.architecture['library']} {setup.architecture['model']}"
        packed = ", ".join(f"{key} {value}" for key, value in packing.items())
        raise UserError(f"{name} does not take inputs as datasets.{data} packs them ({packed}): {error}") from None
