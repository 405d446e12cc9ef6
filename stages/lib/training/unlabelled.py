"""Unlabelled inputs of another dataset, for strategies that adapt a network to them. Nothing here reads a label."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stages.lib.core import contracts, datasets
from stages.lib.core.cards import DataCard
from stages.lib.core.contracts import LoadedSplit
from stages.lib.core.runs import prepared
from stages.lib.errors import UserError, listed

if TYPE_CHECKING:
    from stages.lib.training.phases import Run

Batch = Callable[[torch.Tensor], Any]  # positions in a batch (n,) -> inputs
SPLITS = ("train", "val")


def load(
    card: DataCard, labelled: DataCard, preprocessing: dict[str, Any], device: torch.device,
    left_out: Mapping[str, Sequence[int]],
) -> tuple[LoadedSplit, LoadedSplit]:  # fmt: skip
    """The inputs of the training and validation split of a dataset, without its labels.

    Args:
        card: of the dataset.
        labelled: card of the dataset that training learns from.
        preprocessing: from the network's card.
        left_out: rows of each split that are not used.

    Raises:
        UserError: they do not fit the labelled dataset: other labels, another shape, or inputs that are in both.
    """
    name = card.name
    require_fit(card, labelled)
    mine, theirs = ([datasets.read_inputs(prepared(each), split) for split in SPLITS] for each in (labelled.name, name))
    for given, wanted in zip(theirs, mine, strict=True):
        if given.inputs.shape[1:] != wanted.inputs.shape[1:] or given.inputs.dtype != wanted.inputs.dtype:
            raise UserError(
                f"target.test: the inputs of {name} are packed as {described(given.inputs)}, and those of {labelled.name} as "
                f"{described(wanted.inputs)}. One network reads both: pack them alike."
            )
    known = {found for split in mine for found in hashes(split.inputs)}
    total = sum(len(split.inputs) for split in theirs)
    num = sum(found in known for split in theirs for found in hashes(split.inputs))
    if num == total:
        raise UserError(
            f"target.test: {name} holds the same inputs as {labelled.name}: an unlabelled set that is the labelled one. Name a "
            "dataset of the domain to adapt to, or choose another strategy."
        )
    if num:
        raise UserError(
            f"target.test: {num} of the {total} training and validation inputs of {name} are also in {labelled.name}, where they "
            "have labels. Take them out of one of the two."
        )
    train, val = (
        contracts.part(
            contracts.load_inputs(split, card.modality, preprocessing, device),
            contracts.others(len(split.inputs), left_out.get(name, ())),
        )
        for name, split in zip(SPLITS, theirs, strict=True)
    )
    return train, val


def require_fit(card: DataCard, labelled: DataCard) -> None:
    """Raise a UserError if the two datasets have different labels. (How they were packed may differ, as long as the network's
    card allows both: one may be framed where the other is not.)"""
    if card.labels != labelled.labels:
        names = {each.name: set(each.labels or ()) for each in (labelled, card)}
        only = [f"only in {name}: {listed(sorted(own - common)) if own - common else 'none'}"
                for common in [set.intersection(*names.values())] for name, own in names.items()]  # fmt: skip
        raise UserError(
            f"target.test: {card.name} must have the labels of {labelled.name}, because the network learns no others "
            f"({'; '.join(only)}). Leave out what is not in both, or name them alike."
        )


def identity(card: DataCard) -> list[object]:
    """What a training with these unlabelled inputs depends on: nothing of their labels."""
    return [card.name, card.packing, *(card.sha256[f"{split}/inputs.npy"] for split in SPLITS)]


def described(inputs: np.ndarray) -> str:
    """Shape and type of each packed input, for messages."""
    return f"{' x '.join(map(str, inputs.shape[1:]))} {inputs.dtype}"


def hashes(inputs: np.ndarray) -> list[int]:
    """A hash of each packed input."""
    return [hash(row.tobytes()) for row in inputs]


def batches(run: "Run", sizes: list[int], epoch: int) -> list[Batch]:
    """An unlabelled batch for each labelled one of an epoch, of the same size; none if there are no unlabelled inputs.

    All of them are shuffled anew for each epoch, and again when there are fewer than needed. Order and augmentation depend only
    on the seed and the epoch, so resuming needs no state.
    """
    split = run.data.unlabelled
    if split is None:
        return []
    level = "none" if run.phase.plain else run.options.augment
    generator = torch.Generator().manual_seed(run.seed_for("unlabelled", epoch))
    rows = order(len(split.targets), sum(sizes), generator).split(sizes)
    draws = torch.rand(sum(sizes), split.num_draws, generator=generator).split(sizes)
    return [partial(_batch, split, level, *part) for part in zip(rows, draws, strict=True)]


def _batch(split: LoadedSplit, level: str, rows: torch.Tensor, draws: torch.Tensor, mine: torch.Tensor) -> Any:
    return split.inputs(rows[mine], level, draws[mine])


def order(num: int, wanted: int, generator: torch.Generator) -> torch.Tensor:
    """`wanted` of `num` examples, shuffled; none again before all have been taken."""
    return torch.cat([torch.randperm(num, generator=generator) for _ in range(math.ceil(wanted / num))])[:wanted]


def joined(one: Any, other: Any) -> Any:
    """Two batches of inputs as one: tensors, or tuples of them."""
    if isinstance(one, tuple):
        return tuple(map(joined, one, other))
    return torch.cat([one, other])
