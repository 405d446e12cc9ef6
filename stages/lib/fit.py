"""The one training loop. Strategies say what is trained (phases); this file trains it, and knows neither which
strategy it is nor what the examples are."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from stages.lib import mistakes, mixing, optimizers
from stages.lib.certificate import certify, declare, freeze, require, set_modes
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.inference import features, predict
from stages.lib.seeds import seed_for
from stages.lib.strategies import Phase

# Steps until everything has moved: the first may have the rate 0, and behind a head that starts at zero, or beside an adapter
# or in a residual branch that does, gradients come a step or two later.
STEPS_TO_MOVE = 4


class Fitted(NamedTuple):
    """What came of a training, beside the model."""

    history: list[dict[str, Any]]  # for each epoch: phase, epoch, learning rates, losses, accuracy on val, whether best, time
    certificates: list[pd.DataFrame]  # one for each phase, from its start to its best weights
    start: dict[str, torch.Tensor]  # the model as the last phase began
    warnings: list[str]


def fit(
    fabric,
    model,
    phases: list[Phase],
    train: Examples,
    val: Examples,
    *,
    optimizer: str,
    momentum: float,
    weight_decay: float,
    schedule: str,
    warmup_epochs: float,
    warmup: str,
    batch_size: int,
    label_smoothing: float,
    balance: str,
    augment: str,
    mixup: float,
    cutmix: float,
    clip_norm: float,
    ema: float,
    patience: int,
    loss_jump: float,
    seed: int,
    state: dict | None,
    save: Callable[[dict], None],
) -> Fitted:
    """Train a model through its phases; each ends with its best weights, which the next one starts from.

    The best epoch is the one with the lowest loss on `val`, of those at whose end everything can have moved.

    Args:
        fabric: a launched Fabric.
        model: a model with `backbone` and `head`, on the device of `fabric`; trained in place.
        phases: what is trained in which order, from a strategy's `plan`.
        train, val: examples to learn from, and to choose the epoch on.
        optimizer, momentum, weight_decay: as in stages.lib.optimizers.build.
        schedule, warmup_epochs: as in stages.lib.optimizers.schedule, in each phase.
        warmup: whether "all" layers warm up, or the "head" alone.
        batch_size: examples in a step, over all processes together; batches differ by one example at most.
        label_smoothing: share of the label given to all classes, in training only.
        balance: "weights" makes each class count the same in the loss, "sampling" draws each class equally often.
        augment: a level of stages.lib.images.augment.
        mixup, cutmix: as in stages.lib.mixing.draw.
        clip_norm: largest norm of the gradient of all weights together; 0 for no limit.
        ema: decay of an exponential moving average of the weights in each step, which is what is validated and kept;
            0 for none.
        patience: epochs without a better validation loss after which a phase ends.
        loss_jump: as in stages.lib.mistakes, whose findings are warnings.
        seed: decides the order and the augmentation of every epoch by itself, so that a resumed epoch needs no
            generator's state.
        state: what `save` got last, to go on from there, or None.
        save: called after every epoch with all that is needed to go on.

    Raises:
        UserError: once warmed up or at a phase's end, a frozen tensor has moved, or a trainable one has not; or
            training diverged.
    """
    state = state or {"phase": 0, "epoch": 0, "history": [], "warnings": [], "certificates": [], "losses": [],
                      "model": None, "start": None, "optimizer": None, "shadow": None, "best": None}  # fmt: skip
    history, warnings, certificates = state["history"], state["warnings"], state["certificates"]
    start = state["start"] or _copy(model)
    if state["model"]:
        model.load_state_dict(state["model"])
    class_weights = _class_weights(train.labels) if balance == "weights" else None
    num_classes = max(2, int(train.labels.cpu().bincount().count_nonzero()))

    for number in range(state["phase"], len(phases)):
        phase = phases[number]
        resumed = state["model"] is not None and state["phase"] == number
        freeze(model, set(phase.lrs), phase.statistics)
        start, declared = start if resumed else _copy(model), declare(model)
        change = ("none", 0, 0) if phase.plain else (augment, mixup, cutmix)
        network, train_set, val_set = model, train, val
        if phase.plain and not any(parameter.requires_grad for parameter in model.backbone.parameters()):
            # The backbone gives the same features in every epoch: compute them once and train the head on them.
            network, train_set, val_set = model.head, *(features(fabric, model, split, batch_size) for split in (train, val))
        shadow = AveragedModel(network, multi_avg_fn=_moving_average(ema), use_buffers=True) if ema else None
        steps = optimizers.build(model, phase.lrs, optimizer=optimizer, momentum=momentum, weight_decay=weight_decay)
        rates = {group["label"]: group["peak_lr"] for group in steps.param_groups}
        num_batches = math.ceil(len(train.labels) / batch_size)
        watched = math.ceil(optimizers.rise(schedule, phase.epochs, warmup_epochs) * num_batches) + mistakes.WATCHED_STEPS
        earliest = min(math.ceil(STEPS_TO_MOVE / num_batches), phase.epochs) - 1
        factor = partial(_factor, schedule, phase.epochs, warmup_epochs, warmup)
        wrapped, steps = fabric.setup(network, steps)
        best, first_epoch, losses = None, 0, []
        if resumed:
            steps.load_state_dict(state["optimizer"])
            best, first_epoch, losses = state["best"], state["epoch"], state["losses"]
            if shadow:
                shadow.load_state_dict(state["shadow"])

        with _attached(phase, model, start, train) as penalties:
            for epoch in range(first_epoch, phase.epochs):
                if best and _epochs_since_best(history, number) >= patience:
                    break
                set_modes(network, phase.statistics)
                torch.manual_seed(seed_for(seed, "dropout", fabric.global_rank, number, epoch))
                epoch_losses = _train_epoch(
                    fabric, wrapped, steps, train_set, factor, epoch,
                    batches=_batches(train.labels, balance, batch_size, _generator(seed, "shuffle", number, epoch)),
                    draws=torch.rand(len(train.labels), train_set.num_draws, generator=_generator(seed, "draws", number, epoch)),
                    chance=np.random.default_rng(seed_for(seed, "mix", number, epoch)), change=change,
                    label_smoothing=label_smoothing, class_weights=class_weights, penalties=penalties,
                    clip_norm=clip_norm, shadow=shadow, title=f"epoch {epoch + 1}/{phase.epochs}",
                )  # fmt: skip
                with fabric.autocast():
                    logits = predict(shadow.module if shadow else network, val_set, batch_size)
                losses = (losses + epoch_losses)[:watched]
                _add(warnings, mistakes.rate_too_high(losses, num_classes, loss_jump, rates))
                val_loss = fabric.broadcast(cross_entropy(logits, val.labels).item())  # all processes stop at the same epoch
                is_best = epoch >= earliest and not math.isnan(val_loss) and (best is None or val_loss < best["loss"])
                if is_best:
                    best = {"loss": val_loss, "model": _copy(model) | _averaged(model, network, shadow)}
                if epoch == max(earliest, min(math.ceil(warmup_epochs), phase.epochs - 1)):
                    require(certify(start, model.state_dict(), declared))
                history.append(
                    {"phase": number, "epoch": len(history) + 1}
                    | {f"lr_{label}": rate * factor(epoch + 1, label) for label, rate in rates.items()}
                    | {"train_loss": fmean(epoch_losses), "val_loss": val_loss}
                    | {"val_accuracy": (logits.argmax(1) == val.labels).float().mean().item()}
                    | {"best": is_best, "time_ms": int(time.time() * 1000)}
                )
                save({"phase": number, "epoch": epoch + 1, "history": history, "warnings": warnings, "losses": losses,
                      "certificates": certificates, "start": start, "model": model.state_dict(), "best": best,
                      "optimizer": steps.state_dict(), "shadow": shadow.state_dict() if shadow else None})  # fmt: skip
        if best is None:
            raise _diverged(earliest, phase, rates)
        _add(warnings, mistakes.worse_than_guessing(best["loss"], num_classes, loss_jump, rates))
        model.load_state_dict(best["model"])
        certificate = certify(start, model.state_dict(), declared)
        require(certificate)
        certificates.append(certificate.to_dict("records"))
    return Fitted(history, [pd.DataFrame(rows) for rows in certificates], start, warnings)


def _train_epoch(
    fabric, network, steps, examples, factor, epoch, *,
    batches, draws, chance, change, label_smoothing, class_weights, penalties, clip_norm, shadow, title,
) -> list[float]:  # fmt: skip
    """Train on every batch once; the mean loss of each, without penalties."""
    level, mixup, cutmix = change
    totals = torch.zeros(len(batches), device=examples.labels.device)
    drawn = draws.split([len(batch) for batch in batches])
    for index, batch in enumerate(tqdm(batches, title, disable=None if fabric.is_global_zero else True, leave=False)):
        for group in steps.param_groups:
            group["lr"] = group["peak_lr"] * factor(epoch + index / len(batches), group["label"])
        mine, weight = _share(len(batch), fabric.global_rank, fabric.world_size)
        inputs = examples.inputs(batch[mine], level, drawn[index][mine])
        targets = [(examples.labels[batch[mine]], 1.0)]
        mix = mixing.draw(len(batch), mixup=mixup, cutmix=cutmix, chance=chance)
        if mix:
            others = mix.partner[mine]
            inputs, kept = mixing.apply(inputs, examples.inputs(batch[others], level, drawn[index][others]), mix)
            targets = [(targets[0][0], kept), (examples.labels[batch[others]], 1 - kept)]
        try:
            logits = network(inputs).float()
        except ValueError as error:
            raise _too_small(error, len(inputs)) from None
        losses = sum(share * _losses(logits, labels, label_smoothing, class_weights) for labels, share in targets)
        loss = (losses * weight.to(losses.device)).sum() / len(batch)
        # Processes average their gradients: of the loss the batch wants their sum, of a penalty the mean.
        fabric.backward(loss * fabric.world_size + sum(penalty(inputs) for penalty in penalties))
        if clip_norm:
            fabric.clip_gradients(network, steps, max_norm=clip_norm, error_if_nonfinite=False)
        steps.step()
        steps.zero_grad(set_to_none=True)  # with zeros instead, momentum and decay would go on moving what is frozen later
        if shadow:
            shadow.update_parameters(network)
        totals[index] = loss.detach()
    return fabric.all_reduce(totals, reduce_op="sum").tolist()


def _losses(logits, labels, label_smoothing: float, class_weights: torch.Tensor | None) -> torch.Tensor:
    losses = cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return losses if class_weights is None else losses * class_weights[labels]


def _factor(kind: str, epochs: int, warmup_epochs: float, warmup: str, progress: float, label: str) -> float:
    """Share of its peak that the learning rate of a group has."""
    warm = warmup_epochs if warmup == "all" or label.startswith("head") else 0
    return optimizers.schedule(kind, progress, epochs, warm)


def _batches(labels: torch.Tensor, balance: str, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of the examples of an epoch, in batches."""
    if balance == "sampling":
        labels = labels.cpu()
        order = torch.multinomial(1 / labels.bincount()[labels].double(), len(labels), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(labels), generator=generator)
    return order.tensor_split(math.ceil(len(labels) / batch_size))


def _share(num: int, rank: int, world_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of this process's part of a batch, and the weight of each: equally many in each, fillers weigh 0."""
    positions = torch.arange(num)
    mine, most = positions[rank::world_size], math.ceil(num / world_size)
    weight = torch.ones(most)
    weight[len(mine) :] = 0
    return torch.cat([mine, positions[: most - len(mine)]]), weight


def _class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weights (C,) that make every class count the same, 1 on the mean over examples."""
    counts = labels.cpu().bincount()
    return (len(labels) / (counts.count_nonzero() * counts.clamp_min(1))).float().to(labels.device)


@contextmanager
def _attached(phase: Phase, model, start: dict[str, torch.Tensor], train: Examples) -> Iterator[list[Callable]]:
    """The penalties of a phase, which look at a frozen copy of the model as the phase began."""
    with ExitStack() as stack:
        first = None
        if phase.penalties:
            first = copy.deepcopy(model).requires_grad_(False).eval()
            first.load_state_dict(start)
        yield [stack.enter_context(attach(model, first, train)) for attach in phase.penalties]


def _moving_average(decay: float) -> Callable:
    """An average of weights and statistics that forgets its beginning faster than what follows (as TensorFlow's does)."""

    def update(averages, currents, num_averaged) -> None:
        if not averages[0].is_floating_point():  # counters
            torch._foreach_copy_(averages, currents)
            return
        so_far = int(num_averaged)
        share = 1 - min(decay, (1 + so_far) / (10 + so_far))
        for average, current in zip(averages, currents, strict=True):  # what is equal keeps its bits, -0 and inf too
            average.copy_(torch.where(average == current, current, average.lerp(current, share)))

    return update


def _averaged(model, network, shadow: AveragedModel | None) -> dict[str, torch.Tensor]:
    """The averaged tensors by their names in the whole model; none without an average."""
    if shadow is None:
        return {}
    prefix = "" if network is model else "head."
    return {prefix + name: tensor.detach().clone() for name, tensor in shadow.module.state_dict().items()}


def _epochs_since_best(history: list[dict], phase: int) -> int:
    flags = [row["best"] for row in history if row["phase"] == phase]
    return flags[::-1].index(True) if True in flags else len(flags)


def _add(warnings: list[str], found: str | None) -> None:
    """Once is enough: a rate that is too high in one phase mostly is so in the next."""
    if found and not any(mistakes.RATE_TOO_HIGH in warning for warning in warnings):
        warnings.append(found)


def _copy(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _generator(seed: int, *purpose) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def _too_small(error: ValueError, num: int) -> Exception:
    """What to raise where a network refuses a batch."""
    if "more than 1 value per channel" not in str(error):
        return error
    return UserError(
        f"training.batch_size: a batch of {num} image{'s' if num > 1 else ''} is too small for this network's BatchNorm, whose "
        "statistics need more than one value. Take 4 or more; the rest of an epoch is shared out over its batches."
    )


def _diverged(earliest: int, phase: Phase, rates: dict[str, float]) -> UserError:
    told = ", ".join(f"{label} {rate:g}" for label, rate in rates.items())
    return UserError(
        f"The validation loss was not a number in any epoch from {earliest + 1} to {phase.epochs}: training diverged. "
        f"Learning rates at their peak: {told}; try 10 times less."
    )
