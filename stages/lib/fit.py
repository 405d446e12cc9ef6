"""The one training loop. Strategies say what is trained (phases); this file trains it, and knows neither which
strategy it is nor what the examples are."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from stages.lib.certificate import certify, declare, freeze, require, set_modes
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.seeds import seed_for
from stages.lib.strategies import Phase


def fit(
    fabric,
    model,
    phases: list[Phase],
    train: Examples,
    val: Examples,
    *,
    batch_size: int,
    weight_decay: float,
    warmup_epochs: float,
    patience: int,
    label_smoothing: float,
    seed: int,
    state: dict | None,
    save: Callable[[dict], None],
) -> list[dict[str, Any]]:
    """Train a model through its phases; each ends with its best weights, which the next one starts from.

    Optimised by AdamW, with a linear warm-up from zero and a cosine decay to zero in each phase; the best epoch is
    the one with the lowest loss on `val`.

    Args:
        fabric: a launched Fabric.
        model: a model with `backbone` and `head`, on the device of `fabric`; trained in place.
        phases: what is trained in which order, from a strategy's `plan`.
        train, val: examples to learn from, and to choose the epoch on.
        batch_size: examples in a step, over all processes together; batches differ by one example at most.
        weight_decay: of matrices and kernels; norms and biases have none.
        warmup_epochs: epochs, or a fraction of one, until the learning rate is at its peak.
        patience: epochs without a better validation loss after which a phase ends.
        label_smoothing: share of the label given to all classes, in training only.
        seed: decides the order and the augmentation of every epoch by itself, so that a resumed epoch needs no
            generator's state.
        state: what `save` got last, to go on from there, or None.
        save: called after every epoch with all that is needed to go on.

    Returns:
        The history: for each epoch its phase, epoch, learning rates, losses, accuracy on `val`, whether it was the
        best so far, and the time at which it ended (milliseconds since 1970).

    Raises:
        UserError: once warmed up, a frozen tensor has moved, or a trainable one has not; or training diverged.
    """
    state = state or {"phase": 0, "epoch": 0, "history": [], "model": None, "optimizer": None, "best": None}
    history = state["history"]
    if state["model"]:
        model.load_state_dict(state["model"])

    for number in range(state["phase"], len(phases)):
        phase = phases[number]
        freeze(model, set(phase.lrs))
        start, declared = _copy(model), declare(model)
        network, train_set, val_set = model, train, val
        if not any(parameter.requires_grad for parameter in model.backbone.parameters()):
            # The backbone gives the same features in every epoch: compute them once and train the head on them.
            network, train_set, val_set = model.head, *(_features(fabric, model, split, batch_size) for split in (train, val))
        optimizer = _adamw(model, phase.lrs, weight_decay)
        network, optimizer = fabric.setup(network, optimizer)
        if state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
        best, first_epoch = state["best"], state["epoch"]
        state = state | {"optimizer": None, "best": None, "epoch": 0}

        for epoch in range(first_epoch, phase.epochs):
            if best and _epochs_since_best(history, number) >= patience:
                break
            set_modes(network)
            purpose = (number, epoch)
            torch.manual_seed(seed_for(seed, "dropout", fabric.global_rank, *purpose))
            train_loss = _train_epoch(
                fabric, network, optimizer, train_set, phase, epoch,
                batch_size=batch_size, warmup_epochs=warmup_epochs, label_smoothing=label_smoothing,
                order=_generator(seed, "shuffle", *purpose), chance=_generator(seed, "augment", *purpose),
            )  # fmt: skip
            logits = predict(network, val_set, batch_size)
            val_loss = fabric.broadcast(cross_entropy(logits, val.labels).item())  # all processes stop at the same epoch
            is_best = not math.isnan(val_loss) and (best is None or val_loss < best["loss"])
            if is_best:
                best = {"loss": val_loss, "model": _copy(model)}
            if epoch == min(math.ceil(warmup_epochs), phase.epochs - 1):  # early, but not while the rate is still 0
                require(certify(start, model.state_dict(), declared))
            rates = {
                name: max((lr for key, lr in phase.lrs.items() if key.startswith(name)), default=0.0)
                for name in ("backbone", "head")
            }
            history.append(
                {"phase": number, "epoch": len(history) + 1}
                | {f"lr_{name}": rate * schedule(epoch + 1, phase.epochs, warmup_epochs) for name, rate in rates.items()}
                | {"train_loss": train_loss, "val_loss": val_loss}
                | {"val_accuracy": (logits.argmax(1) == val.labels).float().mean().item()}
                | {"best": is_best, "time_ms": int(time.time() * 1000)}
            )
            save({"phase": number, "epoch": epoch + 1, "history": history, "model": model.state_dict(),
                  "optimizer": optimizer.state_dict(), "best": best})  # fmt: skip
        if best is None:
            raise _diverged(phase)
        model.load_state_dict(best["model"])
    return history


def predict(network, examples: Examples, batch_size: int) -> torch.Tensor:
    """Logits (N, num_classes) in float32, in evaluation mode and without augmentation."""
    network.eval()
    with torch.inference_mode():
        batches = torch.arange(len(examples.labels)).split(batch_size)
        return torch.cat([network(examples.inputs(indices, "none", None)).float() for indices in batches])


def schedule(progress: float, epochs: float, warmup_epochs: float) -> float:
    """Share of the peak learning rate after `progress` epochs: linear from 0, then half a cosine down to 0."""
    if progress < warmup_epochs:
        return progress / warmup_epochs
    decay = max(epochs - warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup_epochs) / decay)))


def _train_epoch(
    fabric, network, optimizer, examples, phase, epoch, *, batch_size, warmup_epochs, label_smoothing, order, chance
):
    num = len(examples.labels)
    batches = torch.randperm(num, generator=order).tensor_split(math.ceil(num / batch_size))
    draws = torch.rand(num, examples.num_draws, generator=chance)
    total = torch.zeros((), device=examples.labels.device)
    bar = tqdm(batches, desc=f"epoch {epoch + 1}/{phase.epochs}", disable=None if fabric.is_global_zero else True, leave=False)
    for step, batch in enumerate(bar):
        factor = schedule(epoch + step / len(batches), phase.epochs, warmup_epochs)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        mine, weight = _share(batch, fabric.global_rank, fabric.world_size)
        logits = network(examples.inputs(mine, phase.augment, draws[mine]))
        losses = cross_entropy(logits.float(), examples.labels[mine], reduction="none", label_smoothing=label_smoothing)
        loss = (losses * weight.to(losses.device)).sum() / len(batch)
        fabric.backward(loss * fabric.world_size)  # processes average their gradients; the batch wants their sum
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += loss.detach() * len(batch)
    return fabric.all_reduce(total, reduce_op="sum").item() / num


def _share(batch: torch.Tensor, rank: int, world_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's part of a batch, and the weight of each example: equally many in each, fillers weigh 0."""
    mine = batch[rank::world_size]
    most = math.ceil(len(batch) / world_size)
    weight = torch.ones(most)
    weight[len(mine) :] = 0
    return torch.cat([mine, batch[: most - len(mine)]]), weight


def _features(fabric, model, examples: Examples, batch_size: int) -> Examples:
    """The same examples as features of the frozen backbone, (N, D)."""
    backbone = model.backbone.eval()
    batches = torch.arange(len(examples.labels)).split(batch_size)
    with torch.no_grad(), fabric.autocast():
        parts = [
            backbone(examples.inputs(indices, "none", None)).float()
            for indices in tqdm(batches, desc="features", disable=None, leave=False)
        ]
    features = torch.cat(parts)
    return Examples(lambda indices, level, draws: features[indices], examples.labels, num_draws=0)


def _adamw(model, lrs: dict[str, float], weight_decay: float) -> torch.optim.AdamW:
    groups: dict[tuple, list] = {}
    for name, parameter in model.named_parameters():
        if name in lrs:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lrs[name], decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": lr, "peak_lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()],
        fused=True,
    )


def _epochs_since_best(history: list[dict], phase: int) -> int:
    flags = [row["best"] for row in history if row["phase"] == phase]
    return flags[::-1].index(True) if True in flags else len(flags)


def _copy(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _generator(seed: int, *purpose) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def _diverged(phase: Phase) -> UserError:
    return UserError(
        f"The validation loss was not a number in any of {phase.epochs} epochs: training diverged. "
        f"The learning rates were up to {max(phase.lrs.values())}; try 10 times less (lr, head_lr)."
    )
