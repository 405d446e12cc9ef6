"""Which pieces of a text are hidden, and behind what."""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from stages.lib.errors import UserError
from stages.lib.modalities.text.inputs import Texts, special

ASKED = 0.15  # share of the pieces of a text that are asked for, at least one
MASKED, RANDOM = 0.8, 0.1  # share of these that the mask token replaces, and a random piece; the others stay


class Masked(NamedTuple):
    """Texts in which some pieces are asked for: what the network takes."""

    pieces: torch.Tensor  # (n, T) int64
    mask: torch.Tensor  # (n, T) bool: what is no padding
    places: torch.Tensor  # (n, K) int64: the pieces that are asked for; -1 for padding
    hidden: torch.Tensor  # (n, K) int64: what really stands there; -1 for padding


def masking(tokenizer: Tokenizer) -> Callable[[Texts, torch.Tensor | None], Masked]:
    """A function that hides pieces of a batch.

    It takes texts and draws (n,) in [0, 1): what is hidden of a text depends on its own draw alone, or without draws on the text
    alone, so that it is the same for all models and in every epoch.

    Raises:
        UserError: the tokenizer has no mask token.

    Reference:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, NAACL 2019. New masks in
        every epoch: Liu et al., RoBERTa: A Robustly Optimized BERT Pretraining Approach, 2019.
    """
    token = next((number for name in ("[MASK]", "<mask>") if (number := tokenizer.token_to_id(name)) is not None), None)
    if token is None:
        raise UserError("task: mlm hides pieces behind a mask token ([MASK] or <mask>), which this source's tokenizer lacks.")
    marks = np.array(special(tokenizer), dtype=np.int64)
    known = np.setdiff1d(np.array(sorted(tokenizer.get_vocab().values()), dtype=np.int64), marks)

    def hide(batch: Texts, draws: torch.Tensor | None) -> Masked:
        device, pieces = batch.pieces.device, batch.pieces.cpu().numpy().copy()
        places, hidden = [], []
        for row, num in enumerate(batch.mask.sum(1).tolist()):
            own = pieces[row, :num]
            random = np.random.default_rng(zlib.crc32(own.tobytes()) if draws is None else int(float(draws[row]) * 2**32))
            able = np.flatnonzero(~np.isin(own, marks))
            chosen = np.sort(random.permutation(able)[: max(1, round(ASKED * len(able)))])
            places.append(torch.from_numpy(chosen))
            hidden.append(torch.from_numpy(own[chosen]))
            how, others = random.random(len(chosen)), random.choice(known, len(chosen))
            own[chosen] = np.where(how < MASKED, token, np.where(how < MASKED + RANDOM, others, own[chosen]))
        padded = (torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-1) for each in (places, hidden))
        return Masked(*(each.to(device) for each in (torch.from_numpy(pieces), batch.mask, *padded)))

    return hide
