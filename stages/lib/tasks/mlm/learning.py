"""What training needs to know about masked-language modelling.

Which pieces are asked for is drawn anew for every example and epoch, so the right answers are no targets of the data: they travel
with the inputs (`pretext`), and the head compares with them (stages.lib.networks.heads.MaskedLanguage). Labels are ignored.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from stages.lib.core.contracts import NO_STEP, LoadedSplit
from stages.lib.modalities.text.inputs import tokenizer_of
from stages.lib.networks.heads import MaskedLanguage
from stages.lib.params.schema import TrainingOptions
from stages.lib.tasks.mlm.masking import Masked, masking


def outputs(labels: Sequence[str]) -> list[str]:
    """What the outputs of the network mean: figures about each piece that is asked for."""
    return list(MaskedLanguage.OUTPUTS)


def targets(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """Nothing: zeros (N, 1)."""
    return torch.zeros(len(labels), 1, dtype=torch.int64)


def pretext(split: LoadedSplit, preprocessing: dict[str, Any]) -> LoadedSplit:
    """The same texts, with pieces hidden: by the last of an example's draws, or without draws the same ones each time."""
    hide = masking(tokenizer_of(preprocessing))

    def inputs(indices: torch.Tensor, level: str, draws: torch.Tensor | None) -> Masked:
        own, last = (None, None) if draws is None else (draws[:, :-1], draws[:, -1])
        return hide(split.inputs(indices, level, own), last)

    return split._replace(inputs=inputs, num_draws=split.num_draws + 1, fixed=False)


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of the examples of an epoch, each once, in batches whose sizes differ by at most one."""
    return torch.randperm(len(targets), generator=generator).tensor_split(math.ceil(len(targets) / options.batch_size))


def criterion(targets: torch.Tensor, options: TrainingOptions) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The training loss: outputs (n, K, 4) -> (n,), whose mean is the mean over all pieces of the batch, as in transformers."""

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sums, num = _sums(outputs)
        return len(sums) * sums / num.sum().clamp_min(1)

    return losses


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The plain loss of each example (n,), the mean cross-entropy of its own pieces; 0 if it has none."""
    sums, num = _sums(outputs)
    return sums / num.clamp_min(1)


def guess(targets: torch.Tensor) -> float:
    """0: the loss of guessing depends on the vocabulary, which is not known here."""
    return 0.0


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The metrics on validation: "loss" (the mean over all pieces), which selects the epoch, "masked_accuracy", "perplexity"."""
    sums, num = _sums(outputs)
    mean = (sums.sum() / num.sum().clamp_min(1)).item()
    right, predicted = pieces(outputs)
    accuracy = float((right == predicted).mean()) if len(right) else 0.0
    return {"loss": mean, "masked_accuracy": accuracy, "perplexity": math.exp(min(mean, 700.0))}


def strata(targets: torch.Tensor) -> torch.Tensor:
    """The stratum of each example (N,): all are of one."""
    return torch.zeros(len(targets), dtype=torch.int64, device=targets.device)


def alarms(outputs: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> list[str]:
    """Warnings from validation that nothing useful was learned: no better than always the most frequent piece."""
    right, predicted = pieces(outputs)
    if not len(right):
        return ["No text of validation has a piece that can be masked."]
    most, accuracy = np.bincount(right).max() / len(right), (right == predicted).mean()
    if accuracy > most:
        return []
    return [
        f"The model is right about {accuracy:.1%} of the masked pieces of validation, and a model that always answers the most "
        f"frequent piece about {most:.1%}: it has not learned the language of these texts. Train longer, with another learning "
        "rate, or on more texts."
    ]


def pieces(outputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The right and the predicted piece (M,) wherever one is asked for."""
    there = outputs[outputs[..., 0] > NO_STEP / 2].round().clamp_min(0).long().cpu().numpy()
    return there[:, 1], there[:, 2]


def _sums(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the cross-entropies of each example's pieces (n,), and their number (n,)."""
    there = outputs[..., 0] > NO_STEP / 2
    return -outputs[..., 0].masked_fill(~there, 0).sum(1), there.sum(1)
