"""Detection of the classic mistakes of transfer learning from numbers, with advice on what to do."""

import math
from statistics import fmean, median

RATE_TOO_HIGH = "Learning rate too high"
WATCHED_STEPS = 200  # of each phase, after the warm-up: a learning rate that is too high shows at its peak
WINDOW = 5  # steps over which the loss is averaged: the loss of a single batch is mostly noise


def rate_too_high(losses: list[float], guess: float, jump: float, peaks: dict[str, float]) -> str | None:
    """Whether the loss jumped above its initial value within the first steps.

    Args:
        losses: training loss of the first steps of a phase, in order.
        guess: the loss of guessing; an initial loss below half of it is replaced by that half, because near zero any batch
            would be a jump.
        jump: the largest allowed ratio of the loss to its initial value.
        peaks: peak learning rate by group, for the message.
    """
    if len(losses) <= WINDOW or guess <= 0:
        return None
    losses = [math.inf if math.isnan(loss) else loss for loss in losses]
    least = 0.5 * guess
    first, early = max(least, losses[0]), max(least, median(losses[:3]))
    start = early if early <= jump * first else first  # a far too high learning rate does its damage in the first step
    worst = max(fmean(losses[step : step + WINDOW]) for step in range(len(losses) - WINDOW + 1))
    if worst <= jump * start:
        return None
    rose = f"to {worst:.3g} ({worst / start:.1f} times)" if math.isfinite(worst) else "until it was not a number"
    return (
        f"{RATE_TOO_HIGH}: the training loss rose from {start:.2f} {rose} within the first "
        f"{len(losses)} steps. Peak learning rates: {listed(peaks)}. Try {3 if worst <= 5 * start else 10} times less, or a "
        "longer warmup_epochs."
    )


def validation_jumped(before: float, after: float, epoch: int, guess: float, jump: float, peaks: dict[str, float]) -> str | None:
    """Whether the validation loss jumped in one epoch: what the training started from or had learned is torn.

    The training loss does not always show it: batches are learned anew while they are seen, and batch normalisation adapts to
    them.

    Args:
        before, after: validation loss before and after the epoch; one before that is below a quarter of the loss of guessing is
            replaced by that quarter, because near zero a single example would be a jump.
        epoch: its number in the history.
        guess: the loss of guessing.
        jump: the largest allowed ratio.
        peaks: peak learning rate by group, for the message.
    """
    start = max(0.25 * guess, before)
    if guess <= 0 or after <= jump * start:  # not true of what is not a number either
        return None
    rose = f"to {after:.3g} ({after / start:.1f} times)" if math.isfinite(after) else "until it was not a number"
    return (
        f"{RATE_TOO_HIGH}: the validation loss rose from {start:.2g} {rose} in epoch {epoch}, so what the network had learned "
        f"before was partly lost. Peak learning rates: {listed(peaks)}. Try 3 times less, or a longer warmup_epochs."
    )


def worse_than_guessing(loss: float, guess: float, jump: float, peaks: dict[str, float]) -> str | None:
    """Whether a phase ended far worse than guessing on validation.

    Batch normalisation can hide a learning rate that is too high: the training loss uses the statistics of each batch, while
    the running statistics, which the model uses at inference, no longer fit.

    Args:
        loss: the lowest validation loss of the phase.
        guess: the loss of guessing.
        jump: the largest allowed ratio of that loss to the loss of guessing.
        peaks: peak learning rate by group, for the message.
    """
    if guess <= 0 or loss <= jump * guess:
        return None
    return (
        f"{RATE_TOO_HIGH}: the lowest validation loss is {loss:.3g}, {loss / guess:.1f} times that of guessing "
        f"({guess:.2f}). Peak learning rates: {listed(peaks)}. Try 10 times less, or a longer warmup_epochs; if the training "
        "loss was still falling, more epochs."
    )


def too_many_parameters(num_trainable: int, num_examples: int, most: float) -> str | None:
    """Whether far more parameters are trained than the data supports, as when freezing was forgotten.

    Args:
        num_trainable: trainable parameters of the backbone.
        num_examples: training examples.
        most: trainable parameters per example above which a warning is given.
    """
    if num_trainable <= most * num_examples:
        return None
    return (
        f"More is trained than the data supports: {num_trainable:,} parameters of the backbone on {num_examples:,} examples, "
        f"{num_trainable / num_examples:,.0f} for each (checks.params_per_example: {most:,.0f}). If the backbone was meant to "
        "be frozen, choose strategy feature_extraction; else partial with fewer blocks, or a penalty (l2_sp)."
    )


def listed(peaks: dict[str, float]) -> str:
    """Peak learning rates by group, for a message."""
    return ", ".join(f"{label} {rate:g}" for label, rate in peaks.items())
