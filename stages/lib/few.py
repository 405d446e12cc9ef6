"""A training on a few of the examples, in memory: what learning curves and the marking of the advisor are made of."""

from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib import transfer
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.seeds import seed_for


class Fitted(NamedTuple):
    """A model trained on a few examples, as stages.evaluate.predictions takes it."""

    tensors: dict[str, torch.Tensor]
    card: dict
    best: dict[str, float]  # as in stages.lib.transfer.Trained
    warnings: list[str]


def train_on_few(
    fabric,
    tensors: dict[str, torch.Tensor] | None,
    start_card: dict,
    data_card: dict,
    train: Examples,
    val: Examples,
    *,
    num: int,
    strategy: str,
    knobs: dict[str, Any],
    training: dict[str, Any],
    loss_jump: float,
    seed: int,
) -> Fitted:
    """Train as the target stage does, on a part of the examples (`few`), and write nothing.

    Args:
        tensors: of the starting point; None for random weights.
        start_card, data_card: of the starting point and of the data.
        train, val: all examples.
        num: training examples to draw.
        strategy, knobs, training: as for stages.lib.hop.run.
        loss_jump: as in stages.lib.mistakes.
        seed: of the training, and of what is drawn. With all examples the result is that of a hop with this seed.

    Raises:
        UserError: as stages.lib.transfer, or `num` cannot be drawn.
    """
    train, val = map(part, (train, val), few(train.labels, val.labels, num, seed))
    prepared = transfer.prepare(
        fabric, tensors, start_card["architecture"], len(data_card["classes"]),
        strategy=strategy, knobs=knobs, head={"kind": "linear", **training["head"]}, num_examples=num, seed=seed,
    )  # fmt: skip
    transfer.require_that_it_takes(prepared, data_card["geometry"]["px"], data_card["name"])
    trained = transfer.train(
        fabric, prepared, train, val, training=training, loss_jump=loss_jump, seed=seed, state=None, save=lambda state: None
    )
    card = {
        "name": f"{strategy} on {num} examples",
        "architecture": prepared.architecture,
        "classes": data_card["classes"],
        "preprocessing": start_card["preprocessing"] | data_card["geometry"],
    }
    return Fitted(prepared.model.state_dict(), card, trained.best, trained.warnings)


def few(train: torch.Tensor, val: torch.Tensor, num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training examples, and validation examples in the same proportion: their labels have a price, too.

    Every class keeps one at least in both, so that of very few examples validation has a larger share.

    Args:
        train, val: labels (N,) of the splits.
        num: training examples to draw.

    Returns:
        Indices of both, as `draw_few` gives them.
    """
    num_val = max(len(val.unique()), round(len(val) * num / len(train)))
    return (
        draw_few(train.cpu().numpy(), num, seed_for(seed, "few", "train")),
        draw_few(val.cpu().numpy(), num_val, seed_for(seed, "few", "val")),
    )


def draw_few(labels: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Choose examples so that each class has its share, to about one example, and one at least.

    A smaller draw is part of every larger one with the same seed.

    Args:
        labels: (N,) integers.
        num: examples to choose.

    Returns:
        (num,) indices in ascending order.

    Raises:
        UserError: there are fewer examples, or more classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    require_possible(num, len(labels), len(classes))
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    place = np.empty(len(labels))  # of each example, between 0 and 1 among those of its class: evenly spaced in each
    first = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, counts, strict=True):
        members = order[labels[order] == label]
        place[members] = (np.arange(count) + 0.5) / count
        first[members[0]] = True
    chance = random.random(len(labels))  # or of classes with equally many examples the same would always come first
    return np.sort(np.lexsort((chance, place, ~first))[:num])


def require_possible(num: int, num_examples: int, num_classes: int) -> None:
    """Raise a UserError if that many examples cannot be drawn."""
    if not num_classes <= num <= num_examples:
        raise UserError(
            f"{num} examples cannot be drawn: there are {num_examples} for training, and each of the {num_classes} classes needs "
            f"one at least. Allowed: {num_classes} to {num_examples}."
        )


def part(examples: Examples, rows: np.ndarray) -> Examples:
    """Some of the examples, in the order of `rows`; nothing is copied but labels."""
    chosen = torch.from_numpy(rows)
    labels = examples.labels[chosen.to(examples.labels.device)]
    return Examples(lambda indices, level, draws: examples.inputs(chosen[indices], level, draws), labels, examples.num_draws)
