"""What training needs to know about tagging.

Words of a batch are padded to its longest text; what is not a word (NO_TARGET, NO_STEP) and words that were cut off, for which
the network has no output (NO_STEP), take no part in any loss.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from stages.lib.core.contracts import NO_STEP, NO_TARGET
from stages.lib.errors import UserError, listed
from stages.lib.params.schema import TrainingOptions
from stages.lib.tasks.tag import entities

TAG = re.compile(r"O|[BI]-\S+")
MOST_BROKEN = 0.4  # share of the predicted entities that begin with I-; 0.15 is usual after training, 0.6 before it


def outputs(labels: Sequence[str]) -> list[str]:
    """What the outputs of the network mean: O, and B- and I- of each type, in alphabetical order of the types.

    Raises:
        UserError: a label is not made of tags.
    """
    _require_tags(labels)
    types = sorted({tag[2:] for label in labels for tag in label.split()} - {""})
    return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]


def targets(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """The tags of each example's words (N, W), as indices; NO_TARGET beyond its words.

    Args:
        labels: the tags of each example's words with spaces between them: "O B-Disease I-Disease".
        names: of the outputs.

    Raises:
        UserError: a label is not made of tags, or not of these.
    """
    _require_tags(labels)
    index = {name: number for number, name in enumerate(names)}
    unknown = sorted({tag for label in labels for tag in label.split()} - index.keys())
    if unknown:
        raise UserError(f"These tags are not among the model's ({listed(names)}): {listed(unknown[:10])}.")
    rows = [[index[tag] for tag in label.split()] for label in labels]
    longest = max(map(len, rows), default=0)
    padded = [row + [NO_TARGET] * (longest - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.int64).reshape(len(rows), longest)


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of the examples of an epoch, each once, in batches whose sizes differ by at most one."""
    order = torch.randperm(len(targets), generator=generator)
    return order.tensor_split(math.ceil(len(targets) / options.batch_size))


def criterion(targets: torch.Tensor, options: TrainingOptions) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The training loss: outputs (n, S, C) and targets (n, W) -> (n,), whose mean is the mean over all words of the batch.

    So each word of a batch counts the same, as in transformers. If each example did, words of short texts would count more: in
    ten trainings on 800 texts of the NCBI disease corpus, entity F1 was lower by 0.009 (standard error 0.003). A sum over the
    words of each example is as good, but makes the loss of a batch follow its length, which looks like a learning rate that is
    too high.

    Args:
        targets: of all training examples.
        options: label_smoothing is the fraction of each tag spread over all tags.
    """

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sums, words = _sums(outputs, targets, options.label_smoothing)
        return len(sums) * sums / words.sum().clamp_min(1)

    return losses


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The plain loss of each example (n,), for evaluation: the mean over its own words, not smoothed; 0 if none has an output."""
    sums, words = _sums(outputs, targets, 0)
    return sums / words.clamp_min(1)


def guess(targets: torch.Tensor) -> float:
    """The loss of guessing each tag as often as it occurs, with which warnings compare; at least half that of equal chances.

    Nearly all words are O, so their entropy is far below the logarithm of the number of tags: a loss that a network which takes
    every word for O with great confidence does not reach. A network that has learned nothing yet has the loss of equal chances,
    though, and must not be taken for one whose learning rate is too high.
    """
    shares = targets[targets != NO_TARGET].cpu().bincount().double()
    shares = shares[shares > 0] / shares.sum()
    entropy = -(shares * shares.log()).sum().item()
    return max(entropy, 0.5 * math.log(max(2, len(shares))))


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The metrics on validation: "loss" (the mean over all words), which selects the epoch, "entity_f1" and "token_accuracy"."""
    actual = targets.cpu().numpy()
    tags = entities.on_words(predicted(outputs), actual)
    found, wanted = entities.find(tags), entities.find(actual)
    hits, both = int(entities.right(found, wanted).sum()), len(found.rows) + len(wanted.rows)
    sums, words = _sums(outputs, targets, 0)
    return {
        "loss": (sums.sum() / words.sum().clamp_min(1)).item(),
        "entity_f1": 2 * hits / both if both else 0.0,
        "token_accuracy": float((tags == actual).sum() / (actual >= 0).sum()),
    }


def strata(targets: torch.Tensor) -> torch.Tensor:
    """The stratum of each example (N,), whose proportions a subset keeps: whether it holds an entity."""
    return (targets > 0).any(1).long()


def alarms(outputs: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> list[str]:
    """Warnings from validation that nothing useful was learned, whatever the loss says."""
    actual = targets.cpu().numpy()
    tags = entities.on_words(predicted(outputs), actual)
    found, wanted = entities.find(tags), entities.find(actual)
    if not len(wanted.rows):
        return []
    remedy = "Train longer, with another learning rate, or on more examples with entities."
    if not len(found.rows):
        accuracy = (tags == actual).sum() / (actual >= 0).sum()
        return [
            f"The model finds none of the {len(wanted.rows)} entities of validation, because it predicts O for every word. Its "
            f"token accuracy of {accuracy:.1%} hides this: so many words are O. {remedy}"
        ]
    told = []
    if not entities.right(found, wanted).any():
        told.append(
            f"None of the {len(found.rows)} entities that the model finds in validation is right ({len(wanted.rows)} are there). "
            f"{remedy}"
        )
    broken = (tags[found.rows, found.starts] % 2 == 0).mean()
    if broken > MOST_BROKEN:
        told.append(
            f"Of the {len(found.rows)} entities that the model finds in validation, {broken:.0%} begin with I- and not with B-: "
            f"it has not learned yet where entities begin. {remedy}"
        )
    return told


def predicted(outputs: torch.Tensor) -> np.ndarray:
    """The most likely tag of each word (N, S), -1 where there is no output."""
    tags: np.ndarray = outputs.argmax(2).masked_fill(outputs[..., 0] < NO_STEP / 2, -1).cpu().numpy()
    return tags


def _sums(outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the cross-entropies of each example's own words (n,), and the number of these words (n,)."""
    steps = outputs.shape[1]
    own = pad(targets[:, :steps], (0, max(0, steps - targets.shape[1])), value=NO_TARGET)
    own = own.masked_fill(outputs[..., 0] < NO_STEP / 2, NO_TARGET)
    each = cross_entropy(
        outputs.flatten(0, 1), own.flatten(), reduction="none", ignore_index=NO_TARGET, label_smoothing=smoothing
    )
    return each.view_as(own).sum(1), (own != NO_TARGET).sum(1)


def _require_tags(labels: Iterable[str]) -> None:
    """A UserError that names labels which are not tags with spaces between them."""
    wrong = sorted({label for label in labels if not label.split() or not all(map(TAG.fullmatch, label.split()))})
    if wrong:
        raise UserError(
            f"{len(wrong)} labels are not a tag for each word, such as {', '.join(map(repr, wrong[:10]))}. Allowed: O, B-<type> "
            "and I-<type>, with spaces between them, as the reader `conll` gives them."
        )
