"""One transfer in memory: put a new head on a starting point, train by a strategy, prove what moved."""

from collections.abc import Callable
from inspect import signature
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from stages.lib import backbones, layers, mistakes, plugins
from stages.lib.certificate import certify, declare, freeze, require
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.fit import fit
from stages.lib.inference import predict
from stages.lib.seeds import seed_for
from stages.lib.strategies import Phase


class Prepared(NamedTuple):
    """A model before its training, and what is declared about it."""

    model: backbones.Model
    architecture: dict  # of the whole, with its head
    plugin: ModuleType  # the strategy
    knobs: dict[str, Any]  # the strategy's own
    phases: list[Phase]
    before: dict[str, torch.Tensor]  # every tensor, by the names that the trained model will have
    declared: dict[str, str]  # what may move, as stages.lib.certificate.declare says it
    layers: pd.DataFrame  # a row for each layer and phase: who trains, at which peak learning rate


class Trained(NamedTuple):
    """What came of a training, beside the model."""

    history: pd.DataFrame  # a row for each epoch
    certificate: pd.DataFrame  # a row for each tensor, for the whole training ("all") and for each of several phases
    tables: dict[str, pd.DataFrame]  # what the strategy itself has to show
    best: dict[str, float]  # epoch that was kept, and val_loss and val_accuracy of the model as it is now
    warnings: list[str]


def prepare(
    fabric,
    tensors: dict[str, torch.Tensor] | None,
    architecture: dict,
    num_classes: int,
    *,
    strategy: str,
    knobs: dict[str, Any],
    head: dict[str, Any],
    num_examples: int,
    seed: int,
) -> Prepared:
    """Build the network of a transfer and decide what is trained.

    Args:
        fabric: a launched Fabric, to whose device the model goes.
        tensors: of the starting point; None for random weights.
        architecture: of the starting point.
        strategy: a plug-in of stages/lib/strategies, and `knobs`, its own.
        head: the keyword arguments of stages.lib.heads.build, where the strategy has no head of its own.
        num_examples: training examples, for heads that keep them.
        seed: decides the first weights of the head (or of all).

    Raises:
        UserError: the strategy does not fit the network.
    """
    plugin = plugins.load("strategies", strategy)
    own = plugin.head(num_examples=num_examples, **_taken(plugin.head, knobs)) if hasattr(plugin, "head") else None
    architecture = {key: architecture[key] for key in ("library", "model")} | {"head": own or head}
    torch.manual_seed(seed_for(seed, "weights"))
    model = backbones.build(architecture, num_classes)
    if tensors is not None:
        backbones.load(model, tensors)
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    merged = plugin.adapt(model, **_taken(plugin.adapt, knobs)) if hasattr(plugin, "adapt") else {}
    if fabric.world_size > 1 and fabric.device.type == "cuda":  # on a CPU each process keeps its own batch statistics
        from timm.layers import convert_sync_batchnorm  # torch's own drops the activation that timm's BatchNormAct2d holds

        model = convert_sync_batchnorm(model)
    model.to(fabric.device, memory_format=torch.channels_last)  # faster on CPU and GPU than contiguous
    phases = plugin.plan(model, **_taken(plugin.plan, knobs))
    trained = {name for phase in phases for name in phase.lrs}
    freeze(model, trained, any(phase.statistics for phase in phases))
    kinds = declare(model) | {merged[name]: "trainable" for name in sorted(trained & merged.keys())}
    declared = {name: kinds.get(name, "frozen") for name in before}
    table = layers.table(model, phases)
    return Prepared(model, architecture, plugin, knobs, phases, before, declared, table)


def train(
    fabric,
    prepared: Prepared,
    train: Examples,
    val: Examples,
    *,
    training: dict[str, Any],
    loss_jump: float,
    seed: int,
    state: dict | None,
    save: Callable[[dict], None],
) -> Trained:
    """Train a prepared model in place.

    Args:
        training: the section `training`, with what the strategy's block overrides; the rest as for stages.lib.fit.

    Raises:
        UserError: training did not do what was declared, or diverged.
    """
    model, plugin = prepared.model, prepared.plugin
    options = {name: value for name, value in training.items() if name != "head"}
    fitted = fit(fabric, model, prepared.phases, train, val, **options, loss_jump=loss_jump, seed=seed, state=state, save=save)
    tables = {}
    if hasattr(plugin, "finish"):
        knobs = _taken(plugin.finish, prepared.knobs)
        tables = plugin.finish(
            fabric, model, start=fitted.start, train=train, val=val, batch_size=training["batch_size"], **knobs
        )

    logits = predict(model, val, training["batch_size"])  # of what is kept, which may be another model than that of any epoch
    accuracy = (logits.argmax(1) == val.labels).float().mean().item()
    best = {"val_loss": cross_entropy(logits, val.labels).item(), "val_accuracy": accuracy}
    history = pd.DataFrame(fitted.history or [{"phase": 0, "epoch": 1, "train_loss": None, **best, "best": True}])
    rates = [column for column in history if column.startswith("lr_")]
    history[rates] = history[rates].fillna(0.0)  # a group of another phase is frozen in this one
    undone = _undone(prepared.phases, fitted.start, model)
    kept = history[(history.phase == history.phase.max() - undone) & history.best].epoch.iloc[-1]

    whole = certify(prepared.before, model.state_dict(), prepared.declared).assign(phase="all")
    if undone:  # that it moved is proved by the certificate of its phase
        whole["verdict"] = whole.verdict.replace("never moved", "ok")
    require(whole)
    by_phase = [table.assign(phase=str(number)) for number, table in enumerate(fitted.certificates)]
    certificate = pd.concat([whole, *(by_phase if len(by_phase) > 1 else [])])
    return Trained(history, certificate, tables, {"epoch": int(kept)} | best, fitted.warnings)


def _taken(function: Callable, knobs: dict[str, Any]) -> dict[str, Any]:
    """Those knobs that a function of the plug-in takes."""
    return {name: knobs[name] for name in signature(function).parameters if name in knobs}


def _undone(phases: list[Phase], start: dict[str, torch.Tensor], model: backbones.Model) -> bool:
    """Whether the strategy went back to where its last phase began, as wise_ft may choose."""
    parameters = dict(model.named_parameters())
    trained = phases[-1].lrs if phases else ()
    return bool(trained) and all(
        name in parameters and torch.equal(parameters[name].detach().cpu(), start[name].cpu()) for name in trained
    )


def foreseen(prepared: Prepared, num_examples: int, params_per_example: float) -> list[str]:
    """Warnings about a training from pretrained weights that need no training."""
    backbone = prepared.layers[prepared.layers.block != "head"]
    num_trained = int(backbone.groupby("number").trainable.max().sum())  # over the phases
    found = mistakes.too_many_parameters(num_trained, num_examples, params_per_example)
    return [found] if found else []


def require_that_it_takes(prepared: Prepared, px: int, data: str) -> None:
    """Try one image before anything long begins: some networks take only the size that they were made for."""
    device = next(prepared.model.parameters()).device
    try:
        with torch.no_grad():
            prepared.model.backbone.eval()(torch.zeros(1, 3, px, px, device=device))
    except Exception as error:  # each network has its own kind
        name = f"{prepared.architecture['library']} {prepared.architecture['model']}"
        raise UserError(f"{name} does not take images of {px} px (datasets.{data}.px): {error}") from None
