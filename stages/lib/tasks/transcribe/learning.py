"""What training needs to know about transcription."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import ctc_loss

from stages.lib.core.contracts import NO_TARGET
from stages.lib.errors import UserError
from stages.lib.params.schema import TrainingOptions
from stages.lib.tasks.transcribe import alphabet, decoding, edits
from stages.lib.tasks.transcribe.alphabet import BLANK, OUTSIDE

MOST_BLANK = 0.9  # of the frames, above which a model that also writes too little is an alarm
MOST_EMPTY = 0.1  # of the texts, above which it is an alarm
OFTEN = 5  # a character that validation has this often should be heard at least once


def outputs(labels: Sequence[str]) -> list[str]:
    """What the outputs of the network mean: the blank, the space, and the other characters of the training transcripts."""
    return alphabet.alphabet(labels)


def targets(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """The characters of each transcript (N, L) as indices, padded with NO_TARGET.

    Characters that training never had are no reason to refuse a test: their indices are negative (stages.lib.tasks.transcribe.
    alphabet), and they count as errors of every model. `alarms` and the report name them.
    """
    return torch.from_numpy(alphabet.padded(alphabet.encoded(labels, names), NO_TARGET))


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of the examples of an epoch, shuffled, in batches whose sizes differ by at most one."""
    return torch.randperm(len(targets), generator=generator).tensor_split(math.ceil(len(targets) / options.batch_size))


def criterion(targets: torch.Tensor, options: TrainingOptions) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The training loss, which is the plain loss: outputs (n, T, C) and targets (n, L) -> (n,)."""
    return loss


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The CTC loss of each utterance (n,) per character of its transcript, so that long and short ones weigh alike.

    The mean over a batch is what torch and Hugging Face call the reduction "mean" (ctc_loss_reduction). An utterance with too few
    frames for its transcript has an infinite loss; it counts 0 and has no gradient (`too_short`, and `alarms` tell of them).
    Characters outside of the alphabet are left out.

    Args:
        outputs: (n, T, C); padded frames are NO_STEP.
        targets: (n, L), L at least as long as the longest transcript.

    Reference:
        Graves et al., Connectionist Temporal Classification, ICML 2006.
    """
    known = targets > BLANK
    num_frames, num_characters = decoding.frames(outputs).sum(1).cpu(), known.sum(1).cpu()
    cropped = outputs[:, : max(1, int(num_frames.max()))]
    # Always on the CPU: on CUDA the gradient of torch's ctc_loss is not the same in every run (it adds up in any order), and
    # with deterministic algorithms torch refuses it. The gradient flows back to the device.
    each = ctc_loss(
        cropped.log_softmax(-1).transpose(0, 1).cpu(), targets[known].cpu(), num_frames, num_characters,
        blank=BLANK, reduction="none", zero_infinity=True,
    )  # fmt: skip
    return (each / num_characters.clamp_min(1)).to(outputs.device)


def too_short(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Which utterances (n,) have too few frames: CTC needs one for each character, and one more between equal neighbours."""
    rows = [[index for index in row if index > BLANK] for row in alphabet.unpadded(targets.cpu().numpy())]
    needed = [len(row) + sum(one == other for one, other in pairwise(row)) for row in rows]
    return decoding.frames(outputs).sum(1).cpu() < torch.tensor(needed, dtype=torch.int64)


def guess(targets: torch.Tensor) -> float:
    """The loss of a network that has not heard anything, with which warnings compare: the entropy of the characters.

    The best that the same output in every frame can reach is nearly this entropy (in nats per character), however many frames
    there are. Training often stays there for a while, with the blank in nearly every frame, before it starts to hear. The loss
    of a random head is several times as high, and falls to it quickly.
    """
    counts = targets[targets > BLANK].cpu().bincount().double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The metrics on validation: "loss" (of the utterances that have enough frames), which selects the epoch, "cer" and "wer".

    Raises:
        UserError: no utterance has enough frames for its transcript.
    """
    parts = zip(outputs.split(decoding.CHUNK), targets.split(decoding.CHUNK), strict=True)
    losses = torch.cat([loss(*part) for part in parts]).cpu()
    enough = ~too_short(outputs, targets)
    if not enough.any():
        raise UserError(
            "No utterance of validation has as many frames as its transcript needs, so nothing can be learned. Are these the "
            "transcripts of these recordings? If so, choose a source whose frames are shorter."
        )
    said, heard = alphabet.unpadded(targets.cpu().numpy()), decoding.greedy(outputs)[1]
    one = np.ones((1, len(said)))
    rates = {"cer": edits.of_characters(said, heard), "wer": edits.of_words(said, heard)}
    return {"loss": losses[enough].mean().item()} | {name: float(edits.rate(*each, one)[0]) for name, each in rates.items()}


def strata(targets: torch.Tensor) -> torch.Tensor:
    """The stratum of each example (N,): all are of one."""
    return torch.zeros(len(targets), dtype=torch.int64, device=targets.device)


def alarms(outputs: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> list[str]:
    """Warnings from validation that nothing useful was learned, whatever the loss says."""
    said, heard = alphabet.unpadded(targets.cpu().numpy()), decoding.greedy(outputs)[1]
    real = decoding.frames(outputs)
    blank = float((decoding.best_path(outputs)[real] == BLANK).float().mean()) if real.any() else 1.0
    num_said, num_heard = sum(map(len, said)), sum(map(len, heard))
    told = []
    if blank > MOST_BLANK and num_heard < num_said / 2:  # where frames are short, right answers are mostly blanks too
        told += [
            f"The model answers {blank:.0%} of the frames with the blank. It writes {num_heard} characters for validation, which "
            f"has {num_said}: it has hardly begun to hear. Train longer or with a higher learning rate, on more recordings, or "
            "start from weights that were trained on speech."
        ]
    else:
        told += _missing(said, heard, names)
    return told + _impossible(outputs, targets, said)


def _missing(said: list[list[int]], heard: list[list[int]], names: Sequence[str]) -> list[str]:
    """Alarms about empty texts, and about characters that are never heard."""
    told = []
    num_spoken = sum(1 for row in said if row)
    num_empty = sum(1 for row, answer in zip(said, heard, strict=True) if row and not answer)
    if num_empty > MOST_EMPTY * num_spoken:
        told += [
            f"The model writes nothing for {num_empty} of {num_spoken} validation recordings in which something is said. Listen "
            "to some of them (are they quieter, noisier or shorter than others?), or train longer."
        ]
    counts, written = edits.counted(said), edits.counted(heard)
    never = sorted(index for index in counts if index > BLANK and counts[index] >= OFTEN and not written[index])
    if never:
        told += [
            f"The model never writes these characters on validation: {_listed([names[index] for index in never])}. If training "
            "has few of them, add recordings with them, or leave them out of the transcripts; else train longer."
        ]
    return told


def _impossible(outputs: torch.Tensor, targets: torch.Tensor, said: list[list[int]]) -> list[str]:
    """Alarms about transcripts that no model with these frames and this alphabet can write."""
    told = []
    num_short = int(too_short(outputs, targets).sum())
    if num_short:
        told += [
            f"{num_short} of {len(said)} validation recordings have fewer frames than their transcripts need (one for each "
            "character, one more between equal neighbours). They cannot be transcribed, and such recordings teach nothing in "
            "training. Check that transcripts belong to their recordings and that none was cut; else choose a source whose "
            "frames are shorter."
        ]
    unknown = sorted({chr(OUTSIDE - index) for row in said for index in row if index <= OUTSIDE})
    if unknown:
        told += [
            f"Validation has characters that training never had: {_listed(unknown)}. Each counts as an error. Write them as "
            "training does (another apostrophe, digits as words), or add training recordings with them."
        ]
    return told


def _listed(characters: list[str]) -> str:
    """Some characters, in quotation marks, for a message."""
    more = f" and {len(characters) - 20} more" if len(characters) > 20 else ""
    return ", ".join(map(repr, characters[:20])) + more
