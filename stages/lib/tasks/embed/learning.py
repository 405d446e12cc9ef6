"""What training needs to know about embeddings."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from stages.lib.core.datasets import PackedSplit
from stages.lib.errors import UserError, listed
from stages.lib.params.schema import TrainingOptions
from stages.lib.tasks.embed import people, retrieval, verification

if TYPE_CHECKING:
    from stages.lib.tasks.embed.losses import Loss

COLLAPSED = 0.05  # spread of the embeddings below which they count as equal


def require(train: PackedSplit, val: PackedSplit) -> None:
    """Check the people before anything is computed.

    Raises:
        UserError: a person has one picture, or is in both splits, or a group is not a person; or there is only one person.
    """
    shared = sorted(set(train.labels) & set(val.labels))
    if shared:
        raise UserError(
            f"{len(shared)} people are in training and validation ({_some(shared)}), but new people must be told apart. Let the "
            'reader make groups that are people (image_folder: group_from: "([^/]+)/[^/]+$"), and set split.by_group: true and '
            "split.stratify: false."
        )
    for name, split in (("training", train), ("validation", val)):
        counts = Counter(split.labels)
        if len(counts) < 2:
            raise UserError(f"{name} has one person only ({_some(counts)}); at least two are needed to tell people apart.")
        single = sorted(label for label, count in counts.items() if count < 2)
        if single:
            raise UserError(
                f"{len(single)} people of {name} have one picture only ({_some(single)}), which has no other one to be near to. "
                "Add pictures of them, or leave them out."
            )
        if split.groups is None or len(set(zip(split.labels, split.groups, strict=True))) > min(
            len(counts), len(set(split.groups))
        ):
            raise UserError(
                f"the groups of {name} are not its people, so intervals would not be over people. Let the reader make them "
                '(image_folder: group_from: "([^/]+)/[^/]+$").'
            )


def outputs(labels: Sequence[str]) -> list[str]:
    """None: the coordinates of an embedding have no meaning of their own, and are numbered."""
    return []


def targets(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """The person of each example (N, L), as stages.lib.tasks.embed.people has them."""
    return torch.from_numpy(people.encoded(labels))


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of an epoch, in batches of P people with K pictures each (fewer of people who have fewer).

    Each batch draws its people and their pictures anew, without replacement; K is `pictures`, and P as many as `batch_size`
    allows. There are as many batches as if each example were used once.

    Raises:
        UserError: there are fewer people than a batch needs.

    Reference:
        Hermans et al., In Defense of the Triplet Loss, 2017 (arXiv 1703.07737), section 2.
    """
    how = options.metric_learning
    assert how, "the params have been checked"
    who = people.numbers(targets.cpu())
    members = [torch.nonzero(who == number).flatten() for number in range(int(who.max()) + 1)]
    num = options.batch_size // how.pictures
    if not 2 <= num <= len(members):
        raise UserError(
            f"training.batch_size: {options.batch_size} makes batches of {num} people with {how.pictures} pictures each "
            f"(metric_learning.pictures), and there are {len(members)} people for training. Allowed: a batch_size from "
            f"{2 * how.pictures} to {len(members) * how.pictures}."
        )
    found = []
    for _ in range(math.ceil(len(who) / options.batch_size)):
        drawn = torch.randperm(len(members), generator=generator)[:num].tolist()
        some = [pool[torch.randperm(len(pool), generator=generator)[: how.pictures]] for pool in map(members.__getitem__, drawn)]
        found.append(torch.cat(some))
    return tuple(found)


def criterion(targets: torch.Tensor, options: TrainingOptions, num_outputs: int) -> "Loss":
    """The training loss: outputs (n, D) and targets (n, L) -> (n,). An example's share depends on its batch.

    Args:
        targets: of all training examples.
        options: metric_learning says which loss.
        num_outputs: D.
    """
    from stages.lib.tasks.embed import losses  # here, because evaluation needs no losses

    how = options.metric_learning
    assert how, "the params have been checked"
    if how.loss in ("prototypical", "cosine_prototypical"):
        return losses.prototypical(how.scale)
    if how.loss == "triplet":
        assert how.margin, "the schema requires it"
        return losses.triplet(how.margin)
    return losses.Softmax(targets, how, num_outputs)


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss of each example (n,) among these, the same whatever the criterion: for penalties."""
    from stages.lib.tasks.embed import losses

    return losses.neighbours(outputs, targets)


def guess(targets: torch.Tensor) -> float:
    """0: there is none, as the training loss has units of its own, and the one that selects the epoch is 1 - MAP@R."""
    return 0.0


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The figures on validation, whose people are not those of the training.

    "loss", which selects the epoch, is 1 - MAP@R: the training loss of people without proxies does not exist, and trainings with
    different losses can only be compared by what they are for. "spread" is 0 if all embeddings are equal and up to 1, and
    "threshold" the cosine similarity above which 1 % of the pairs of strangers are.
    """
    embeddings, who = outputs.float().cpu().numpy(), people.numbers(targets.cpu()).numpy()
    found, hits = retrieval.each(embeddings, who)
    asked = retrieval.askers(who)
    mean, recall = (float(each[asked].mean()) if asked.any() else 0.0 for each in (found, hits))
    return {
        "loss": 1 - mean,
        "map_at_r": mean,
        "recall_at_1": recall,
        "spread": spread(outputs),
        "threshold": verification.threshold(embeddings, who),
    }


def spread(outputs: torch.Tensor) -> float:
    """How far embeddings (N, D), scaled to length 1, are from their mean: the root of the mean squared distance.

    Reference:
        Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021 (arXiv 2011.10566), section 4.1, which looks for
        collapse in the same way.
    """
    vectors = torch.nn.functional.normalize(outputs.double())
    return float((vectors - vectors.mean(0)).square().sum(1).mean().sqrt())


def strata(targets: torch.Tensor) -> torch.Tensor:
    """The stratum of each example (N,), whose proportions a subset keeps: its person."""
    return people.numbers(targets)


def alarms(outputs: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> list[str]:
    """Warnings from validation that nothing useful was learned, whatever the loss says."""
    found = spread(outputs)
    if found < COLLAPSED:
        return [
            f"The embeddings of all validation examples are nearly equal (spread {found:.3f}, where 0 is one point and 1 all "
            "directions): they have collapsed. With the triplet loss, this is where the loss stays near the margin. Try a lower "
            "learning rate, more people in a batch, a smaller margin, or another loss (training.metric_learning)."
        ]
    who = people.numbers(targets.cpu()).numpy()
    shuffled = torch.from_numpy(who)[torch.randperm(len(who), generator=torch.Generator().manual_seed(0))].numpy()
    embeddings = outputs.float().cpu().numpy()
    right, chance = (retrieval.each(embeddings, each)[0].mean() for each in (who, shuffled))
    if right > 2 * chance or len(set(who.tolist())) < 2:
        return []
    return [
        f"The embeddings of validation say little about who it is: MAP@R {right:.3f}, and {chance:.3f} if people are shuffled. "
        "Train longer, choose another learning rate, or look at whether the pictures show what the weights were trained on."
    ]


def _some(names: "Sequence[str] | Counter[str] | set[str]") -> str:
    """A list of names for a message, of which the first are enough."""
    shown = sorted(names)
    return listed(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
