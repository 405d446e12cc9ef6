"""A model's most confident predictions as texts, in which the words that mattered are marked."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.text import inputs
from stages.lib.networks.backbones import Model

FILE = "mistakes.html"


def explained(
    path: Path,
    model: Model,
    preprocessing: dict[str, Any],
    split: PackedSplit,
    rows: np.ndarray,
    outputs: np.ndarray,
    titles: list[str],
) -> None:
    """Write texts under titles, each word shaded by how much it mattered for one output.

    Args:
        model: in evaluation mode.
        rows: (n,) of the split.
        outputs: (n,) the index of the explained output of each row; of outputs per word, (n, 2) the word and the output.
        titles: of the n texts.
    """
    parts = []
    for row, output, title in zip(rows, outputs, titles, strict=True):
        (text,) = inputs.texts(split.rows(np.array([row])))
        first, *rest = title.split("\n")
        head = Markup("<b>{}</b>{}").format(first, "".join(f" · {line}" for line in rest))
        parts.append(Markup("<li>{}<br>{}</li>").format(head, marked(text, importance(model, preprocessing, text, output))))
    page = Markup("<ol>\n{}\n</ol>\n").format(Markup("\n").join(parts)) if parts else Markup("<p>No mistakes.</p>\n")
    path.write_text(page, encoding="utf-8")


def importance(model: Model, preprocessing: dict[str, Any], text: str, output: Any) -> list[float]:
    """How much each word mattered for an output, 0 to 1 (1: the word that mattered most); 0 for words that were cut off.

    The sum of |gradient of the output x embedding| over the pieces of a word.

    Args:
        output: its index, or the word and its index (2,).

    Reference:
        Li et al., Visualizing and Understanding Neural Models in NLP, NAACL 2016; Denil et al., 2014, arXiv 1412.6815.
    """
    device = next(model.parameters()).device
    tokenizer = inputs.tokenizer_of(preprocessing)
    batch = inputs.Texts(*(each.to(device) for each in inputs.batch_of([text], tokenizer, preprocessing)))
    embedding = next(module for module in model.backbone.modules() if isinstance(module, torch.nn.Embedding))
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, given: Any, embedded: torch.Tensor) -> torch.Tensor:
        kept.append(embedded.detach().requires_grad_())
        return kept[0]

    hook = embedding.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            score = model(batch)[(0, *np.atleast_1d(output).tolist())]
            (gradient,) = torch.autograd.grad(score, kept[0])
    finally:
        hook.remove()
    by_piece = (gradient * kept[0]).sum(-1).abs()[0].tolist()
    (encoding,) = inputs.encode(tokenizer, [text], preprocessing)
    word_of = {begin: word for word, begin in enumerate(batch.starts[0].tolist()) if begin >= 0}
    by_word, word = [0.0] * batch.starts.shape[1], None
    for piece, special in enumerate(encoding.special_tokens_mask):
        word = word_of.get(piece, word)
        if word is not None and not special:
            by_word[word] += by_piece[piece]
    most = max(by_word, default=0.0)
    return [value / most if most else 0.0 for value in by_word]


def marked(text: str, weights: list[float]) -> Markup:
    """The text with a background behind each word, the darker the higher its weight (0 to 1)."""
    parts, place = [], 0
    for word, weight in zip(re.finditer(r"\S+", text), weights, strict=True):
        parts.append(Markup("{}").format(text[place : word.start()]))
        shade = Markup('<span style="background:rgba(230,159,0,{:.2f})">{}</span>')
        parts.append(shade.format(0.8 * weight, word[0]) if weight >= 0.1 else Markup("{}").format(word[0]))
        place = word.end()
    return Markup("").join(parts)
