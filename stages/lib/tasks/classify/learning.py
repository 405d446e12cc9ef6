"""What training needs to know about classification."""

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import cross_entropy

from stages.lib.errors import UserError
from stages.lib.params.schema import TrainingOptions


def outputs(labels: Sequence[str]) -> list[str]:
    """What the outputs of the network mean: the classes, in alphabetical order."""
    return sorted(set(labels))


def targets(labels: Sequence[str], classes: Sequence[str]) -> torch.Tensor:
    """The class of each example (N,), as its index.

    Raises:
        UserError: a label is none of the classes.
    """
    index = {name: number for number, name in enumerate(classes)}
    unknown = sorted({label for label in labels if label not in index})
    if unknown:
        raise UserError(f"These labels are not among the model's classes ({', '.join(classes)}): {', '.join(unknown[:10])}.")
    return torch.tensor([index[label] for label in labels], dtype=torch.int64)


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of the examples of an epoch, in batches whose sizes differ by at most one.

    With options.balance "sampling" each class is drawn equally often, with replacement; else each example is used once.
    """
    if options.balance == "sampling":
        labels = targets.cpu()
        chances = 1 / labels.bincount()[labels].double()
        order = torch.multinomial(chances, len(labels), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(targets), generator=generator)
    return order.tensor_split(math.ceil(len(targets) / options.batch_size))


def criterion(targets: torch.Tensor, options: TrainingOptions) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The training loss: outputs (n, C) and targets (n,) -> (n,).

    Args:
        targets: of all training examples; with options.balance "weights" all classes count equally, with a mean weight of 1.
        options: label_smoothing is the fraction of each label spread over all classes.
    """
    weights = _class_weights(targets) if options.balance == "weights" else None

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = cross_entropy(outputs, targets, reduction="none", label_smoothing=options.label_smoothing)
        return each if weights is None else each * weights[targets]

    return losses


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The plain loss of each example (n,), for evaluation: neither smoothed nor weighted."""
    return cross_entropy(outputs, targets, reduction="none")


def guess(targets: torch.Tensor) -> float:
    """The loss of guessing (all classes equally likely), with which warnings compare."""
    return math.log(max(2, int(targets.cpu().bincount().count_nonzero())))


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The metrics on validation: "loss", which selects the epoch, and "accuracy"."""
    accuracy = (outputs.argmax(1) == targets).float().mean().item()
    return {"loss": cross_entropy(outputs, targets).item(), "accuracy": accuracy}


def information(outputs: torch.Tensor) -> float:
    """How sure and how varied the answers are, in nats, which needs no labels: the mutual information between inputs and answers,
    the entropy of the mean prediction minus the mean entropy of the predictions (N, C). 0 to log(C).

    Reference:
        Bridle et al., Unsupervised Classifiers, Mutual Information and "Phantom Targets", NIPS 1991.
    """
    log = outputs.double().log_softmax(1)
    each, mean = -(log.exp() * log).sum(1), log.exp().mean(0)
    return float(-torch.xlogy(mean, mean).sum() - each.mean())


def answers(outputs: torch.Tensor) -> torch.Tensor:
    """The class (N,) that each row of the outputs (N, C) means."""
    return outputs.argmax(1)


def strata(targets: torch.Tensor) -> torch.Tensor:
    """The stratum of each example (N,), whose proportions a subset keeps: its class."""
    return targets


def alarms(outputs: torch.Tensor, targets: torch.Tensor, classes: Sequence[str]) -> list[str]:
    """Warnings from validation that nothing useful was learned, whatever the loss says."""
    predicted = outputs.argmax(1).unique()
    if len(predicted) > 1 or len(targets.unique()) == 1:
        return []
    return [
        f"The model predicts {classes[int(predicted[0])]!r} for every validation example. Train longer, choose another learning "
        "rate, or look at the balance of the classes (training.balance)."
    ]


def _class_weights(targets: torch.Tensor) -> torch.Tensor:
    """Weights (C,) that make all classes count equally; their mean over examples is 1."""
    counts = targets.cpu().bincount()
    return (len(targets) / (counts.count_nonzero() * counts.clamp_min(1))).float().to(targets.device)
