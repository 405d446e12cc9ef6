"""The only training loop. Strategies define what is trained (phases), and tasks define the loss; this file depends neither on
a particular strategy or task nor on what an example is."""

import math
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stages.lib.core.contracts import Phase
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks.backbones import Model
from stages.lib.networks.inference import predict
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import diagnostics, mixing, unlabelled
from stages.lib.training.certificate import certify, certify_own, require
from stages.lib.training.freezing import set_modes
from stages.lib.training.log import Log
from stages.lib.training.phases import Data, Run, Tensors, copy_of, label, open_phase

POOL = 16  # batches within which examples are sorted by length


class Fitted(NamedTuple):
    """The results of a training, apart from the model."""

    history: list[dict[str, Any]]  # per epoch: phase, epoch, learning rates, losses, metrics, whether best, time
    certificates: list[pd.DataFrame]  # one per phase, from its start to its best weights
    start: Tensors  # the model at the start of the last phase
    warnings: list[str]
    answers: list[list[int]]  # of each epoch, for the unlabelled validation inputs; none without them


def fit(
    fabric: Any, model: Model, phases: list[Phase], data: Data, task: ModuleType, options: TrainingOptions, *,
    loss_jump: float, seed: int, state: dict[str, Any] | None, save: Callable[[dict[str, Any]], None],
) -> Fitted:  # fmt: skip
    """Train a model through its phases; each phase starts from the best weights of the one before.

    The best epoch is the one with the lowest validation loss, or if a phase selects by "information" the one that is most sure
    and most varied on the unlabelled validation inputs; epochs before everything can have changed do not count.

    Unlabelled inputs pass through the network together with the batch, in one forward pass of twice its size, as in the papers of
    domain adaptation and their common library (github.com/thuml/Transfer-Learning-Library): BatchNorm normalises both with common
    statistics, and its running statistics are those of the mixture, which the trained network then uses for either.

    Args:
        fabric: a launched Fabric.
        model: on the device of `fabric`; trained in place.
        phases: what is trained, in order, from a strategy's `plan`.
        data: the training examples, and the validation examples that select the epoch.
        task: the `learning` module of a task.
        options: how training runs; params.yaml explains each option.
        loss_jump: as in stages.lib.training.diagnostics, whose findings are warnings.
        seed: decides the order and the augmentation of each epoch independently, so resuming needs no generator state.
        state: the last state passed to `save`, to resume from, or None.
        save: called after every epoch with everything needed to resume.

    Raises:
        UserError: after the warm-up or at the end of a phase, a frozen tensor has changed or a trainable one has not; or
            training diverged.
    """
    log = Log(**state) if state else Log(start=copy_of(model))
    if log.model:
        model.load_state_dict(log.model)
    for phase in phases[log.phase :]:
        with open_phase(fabric, model, phase, data, task, options, log, seed) as run:
            while log.epoch < phase.epochs and not (log.best and log.epochs_since_best() >= options.patience):
                losses = train_epoch(run, log.epoch)
                add_epoch(run, log, losses, loss_jump)
                save(log.state(run))
            close(run, log, loss_jump)
    return Fitted(log.history, [pd.DataFrame(rows) for rows in log.certificates], log.start or {}, log.warnings, log.answers)


def train_epoch(run: Run, epoch: int) -> list[float]:
    """Train on every batch once; returns the mean loss of each batch, without penalties."""
    set_modes(run.network, run.phase.statistics)
    torch.manual_seed(seed_for(run.seed, "dropout", run.fabric.global_rank, run.number, epoch))
    train = run.data.train
    batches = run.task.batches(train.targets, run.options, _generator(run.seed_for("shuffle", epoch)))
    if train.lengths is not None:
        batches = alike(batches, train.lengths, _generator(run.seed_for("lengths", epoch)))
    sizes = [len(batch) for batch in batches]
    draws = torch.rand(sum(sizes), train.num_draws, generator=_generator(run.seed_for("draws", epoch))).split(sizes)
    random = np.random.default_rng(run.seed_for("mix", epoch))
    others = unlabelled.batches(run, sizes, epoch)
    totals = torch.zeros(len(batches), device=train.targets.device)
    shown = tqdm(
        batches, f"epoch {epoch + 1}/{run.phase.epochs}", disable=None if run.fabric.is_global_zero else True, leave=False
    )
    for step, batch in enumerate(shown):
        run.set_rates(epoch + step / len(batches))
        mine, weight = _part(len(batch), run.fabric.global_rank, run.fabric.world_size)
        inputs, targets = _load(run, batch, mine, draws[step], random)
        both = unlabelled.joined(inputs, others[step](mine)) if others else inputs
        try:
            outputs = run.wrapped(both)[: len(mine)].float()
        except ValueError as error:
            raise _too_small(error, len(mine)) from None
        each: Any = sum(fraction * run.criterion(outputs, wanted) for wanted, fraction in targets)
        loss = (each * _on(each.device, weight)).sum() / len(batch)
        # Processes average their gradients. The loss needs their sum, a penalty their mean.
        run.fabric.backward(loss * run.fabric.world_size + run.penalty(inputs, epoch + step / len(batches)))
        _step(run)
        totals[step] = loss.detach()
    summed: list[float] = run.fabric.all_reduce(totals, reduce_op="sum").tolist()
    return summed


def add_epoch(run: Run, log: Log, losses: list[float], loss_jump: float) -> None:
    """Validate, add the epoch's row to the history, and keep the model if it is the best of its phase so far."""
    epoch, guess = log.epoch, run.task.guess(run.data.train.targets)
    network = run.average.module if run.average else run.network
    with run.fabric.autocast():
        outputs = predict(network, run.data.val, run.options.batch_size)
    figures = run.task.figures(outputs, run.data.val.targets)
    if run.data.unlabelled_val is not None:
        with run.fabric.autocast():
            outputs = predict(network, run.data.unlabelled_val, run.options.batch_size)
        figures["information"] = run.task.information(outputs)
        log.answers.append(run.task.answers(outputs).tolist())
    figures = run.fabric.broadcast(figures)  # so all processes stop after the same epoch
    log.losses = (log.losses + losses)[: run.watched]
    log.warn(diagnostics.rate_too_high(log.losses, guess, loss_jump, run.peaks))
    if (before := log.loss()) is not None:
        log.warn(diagnostics.validation_jumped(before, figures["loss"], len(log.history) + 1, guess, loss_jump, run.peaks))
    score = figures["loss"] if run.phase.select == "loss" else -figures["information"]
    better = log.best is None or score < log.best["score"]
    is_best = epoch >= run.earliest and not math.isnan(figures["loss"]) and better
    if is_best:
        log.best = {"score": score, "loss": figures["loss"], "model": run.kept()}
    if epoch == run.warmed_up:
        require(certify(run.start, run.model.state_dict(), run.declared))
    log.history.append(
        {"phase": run.number, "epoch": len(log.history) + 1}
        | {f"lr_{label}": peak * run.factor(epoch + 1, label) for label, peak in run.peaks.items()}
        | {"train_loss": fmean(losses)}
        | {f"val_{name}": value for name, value in figures.items()}
        | {"best": is_best, "time_ms": int(time.time() * 1000)}
    )
    log.epoch += 1


def close(run: Run, log: Log, loss_jump: float) -> None:
    """Restore the best weights, prove what changed, and prepare for the next phase."""
    if log.best is None:
        raise UserError(
            f"The validation loss was not a number in any epoch from {run.earliest + 1} to {run.phase.epochs}: training "
            f"diverged. Peak learning rates: {diagnostics.listed(run.peaks)}; try 10 times less."
        )
    guess = run.task.guess(run.data.train.targets)
    log.warn(diagnostics.worse_than_guessing(log.best["loss"], guess, loss_jump, run.peaks))
    run.model.load_state_dict(log.best["model"])
    certificate = certify(run.start, run.model.state_dict(), run.declared)
    own = [
        certify_own(before, copy_of(module), label(module, run.criterion))
        for before, module in zip(run.own_start, run.own_modules, strict=True)
    ]
    certificate = pd.concat([certificate, *own], ignore_index=True) if own else certificate
    require(certificate)
    log.certificates.append(certificate.to_dict("records"))
    log.phase, log.epoch, log.losses, log.best = log.phase + 1, 0, [], None


def _load(
    run: Run, batch: torch.Tensor, mine: torch.Tensor, draws: torch.Tensor, random: np.random.Generator
) -> tuple[Any, list[tuple[torch.Tensor, float]]]:
    """This process's part of a batch: inputs, and targets with their weights; mixing gives each example two targets."""
    split, options = run.data.train, run.options
    level = "none" if run.phase.plain else options.augment
    device = split.targets.device
    inputs, targets = split.inputs(batch[mine], level, draws[mine]), split.targets[_on(device, batch[mine])]
    if run.phase.plain or split.mix is None:
        return inputs, [(targets, 1.0)]
    mix = mixing.draw(len(batch), mixup=options.mixup, cutmix=options.cutmix, random=random)
    if mix is None:
        return inputs, [(targets, 1.0)]
    partners = mix.partner[mine]
    inputs, own = split.mix(inputs, split.inputs(batch[partners], level, draws[partners]), mix)
    return inputs, [(targets, own), (split.targets[_on(device, batch[partners])], 1 - own)]


def _on(device: torch.device, small: torch.Tensor) -> torch.Tensor:
    """A small tensor of the CPU, on the device. The copy waits for nothing: a GPU's driver keeps what is in ordinary memory."""
    return small.to(device, non_blocking=True)


def _step(run: Run) -> None:
    """Clip the gradients, take an optimizer step, and update the moving average."""
    for module in run.own_modules if run.fabric.world_size > 1 else []:  # Fabric averages only the network's gradients
        for parameter in module.parameters():
            parameter.grad = run.fabric.all_reduce(parameter.grad, reduce_op="mean")
    if run.options.clip_norm:
        run.fabric.clip_gradients(run.wrapped, run.optimizer, max_norm=run.options.clip_norm, error_if_nonfinite=False)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)  # with zeros, momentum and decay would keep changing what is frozen later
    if run.follow:
        run.follow(run.options.ema)


def _part(num: int, rank: int, world_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of this process's part of a batch, and their weights; all parts have the same size, padding has weight 0."""
    positions = torch.arange(num)
    mine, most = positions[rank::world_size], math.ceil(num / world_size)
    weight = torch.ones(most)
    weight[len(mine) :] = 0
    return torch.cat([mine, positions[: most - len(mine)]]), weight


def alike(batches: Sequence[torch.Tensor], lengths: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """The same examples in as many batches of the same sizes, but each holds examples of like length, so that little is padding.

    Examples are sorted by length within pools of some batches only, and the batches are shuffled: the order stays mostly random.

    Args:
        batches: (n,) indices each.
        lengths: (N,) of all examples.
    """
    made: list[torch.Tensor] = []
    for start in range(0, len(batches), POOL):
        pool = torch.cat(list(batches[start : start + POOL]))
        pool = pool[lengths[pool].argsort(stable=True)]
        made += pool.split([len(batch) for batch in batches[start : start + POOL]])
    return [made[index] for index in torch.randperm(len(made), generator=generator)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _too_small(error: ValueError, num: int) -> Exception:
    """The exception to raise if a network rejects a batch."""
    if "more than 1 value per channel" not in str(error):
        return error
    return UserError(
        f"training.batch_size: a batch of {num} example{'s' if num > 1 else ''} is too small for this network's BatchNorm, whose "
        "statistics need more than one value. Take 4 or more; the rest of an epoch is spread over its batches."
    )
