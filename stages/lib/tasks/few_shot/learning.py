"""What training needs to know about few-shot classification: an embedding is learned as the task embed does, and validated by one
shot."""

from collections import Counter

import torch
from torch.nn.functional import normalize

from stages.lib.core.datasets import PackedSplit
from stages.lib.errors import UserError, listed
from stages.lib.tasks.embed import people
from stages.lib.tasks.embed.learning import (
    alarms,
    batches,
    criterion,
    guess,
    loss,
    outputs,
    strata,
    targets,
)
from stages.lib.tasks.embed.learning import figures as of_embeddings

__all__ = ["alarms", "batches", "criterion", "figures", "guess", "loss", "outputs", "require", "strata", "targets"]


def require(train: PackedSplit, val: PackedSplit) -> None:
    """Check the classes before anything is computed.

    Raises:
        UserError: a class is in training and validation, or validation cannot be measured by one shot.
    """
    shared, counts = sorted(set(train.labels) & set(val.labels)), Counter(val.labels)
    if shared:
        raise UserError(
            f"{len(shared)} classes are in training and validation ({listed(shared[:10])}), but the epoch is chosen on new "
            'classes. Let the reader make groups that are classes (image_folder: group_from: "([^/]+)/[^/]+$"), and set '
            "split.by_group: true and split.stratify: false."
        )
    single = sorted(label for label, count in counts.items() if count < 2)
    if single or len(counts) < 2:
        raise UserError(
            f"validation needs two classes or more, with two examples or more each; it has {len(counts)}"
            + (f", and these have one example: {listed(single[:10])}. " if single else ". ")
            + "Raise split.val, or leave such classes out."
        )


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The figures on validation, whose classes are not those of the training.

    "loss", which selects the epoch, is 1 - MAP@R. "accuracy" is that of one shot among all classes of validation; it has its own
    way, so it is not comparable with the test's.
    """
    found = of_embeddings(outputs, targets)
    first = {"loss": found["loss"], "accuracy": one_shot(outputs, people.numbers(targets))}
    return first | {name: found[name] for name in ("map_at_r", "spread")}


def one_shot(outputs: torch.Tensor, classes: torch.Tensor) -> float:
    """Accuracy of the nearest support example by cosine similarity, where each class has one, and each example is it in turn.

    Args:
        outputs: embeddings (N, D).
        classes: (N,) numbers from 0. The turns are as many as the smallest class has examples.
    """
    units, classes = normalize(outputs.float()).cpu(), classes.cpu()
    members = [torch.nonzero(classes == number).flatten() for number in range(int(classes.max()) + 1)]
    right, asked = 0, 0
    for turn in range(min(map(len, members))):
        support = torch.stack([rows[turn] for rows in members])
        queries = torch.ones(len(classes), dtype=torch.bool)
        queries[support] = False
        right += int(((units[queries] @ units[support].T).argmax(1) == classes[queries]).sum())
        asked += int(queries.sum())
    return right / max(1, asked)
