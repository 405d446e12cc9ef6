"""Heads of a backbone: features (N, D) -> logits (N, C), or for each step of sequences. Most heads are trained; two are computed
from features."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from stages.lib.core.contracts import NO_STEP
from stages.lib.errors import UserError


def build(num_features: int, num_classes: int, *, steps: bool = False, kind: str = "linear", **spec: Any) -> nn.Module:
    """Build a head from its specification, which is stored on the model's card.

    Args:
        num_features: D.
        num_classes: C.
        steps: features are (N, steps, D), and each step gets its own logits; only for the kind "linear".
        kind: "linear" (trained: `hidden`, `dropout`, `zero`, none of them for a plain layer), "identity" (the features are the
            outputs), "knn" (`neighbours`, `temperature`, `num_examples`), "prototype" (`temperature`) or "masked_language" (as
            "linear", and `vocabulary`).
    """
    if kind == "identity":
        return nn.Identity()
    if kind == "masked_language":
        return MaskedLanguage(num_features, **spec)
    if kind == "knn":
        return Neighbours(num_features, num_classes, **spec)
    if kind == "prototype":
        return Prototypes(num_features, num_classes, **spec)
    layers = _linear(num_features, num_classes, **spec)
    return EachStep(layers) if steps else layers


class MaskedLanguage(nn.Module):
    """The masked-language head of BERT: a transformation, then the similarity with the embedding of every piece that there is.

    The embeddings are the backbone's own (tied), so they are no parameters of the head. Its outputs (n, K, 4) are not the logits
    of all V pieces, which no memory holds for a whole validation split, but what is used of them: the log-probability of the
    right piece, this piece, the most likely piece, and its probability; NO_STEP where nothing is asked.

    Reference:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, NAACL 2019; Press and
        Wolf, Using the Output Embedding to Improve Language Models (tied), EACL 2017.
    """

    OUTPUTS = ("log_probability", "piece", "predicted", "confidence")

    def __init__(
        self, num_features: int, vocabulary: tuple[int, ...], *, hidden: int = 0, dropout: float = 0.0, zero: bool = False
    ):
        """Build it.

        Args:
            num_features: D.
            vocabulary: V, and the length of an embedding, E.
            dropout: before the similarity, in training.
            hidden, zero: of other heads.

        Raises:
            UserError: `hidden` or `zero`, which it does not have.
        """
        super().__init__()
        if hidden or zero:
            raise UserError(
                "head: that of masked-language modelling has its own hidden layer, and its last layer is the embeddings, so give "
                f"hidden: 0 and zero: false (a hop may have its own `head`). Given: {hidden} and {str(zero).lower()}."
            )
        num_pieces, width = vocabulary
        first = nn.Linear(num_features, width)
        nn.init.normal_(first.weight, std=0.02)  # as the rest of a BERT
        nn.init.zeros_(first.bias)
        self.transform = nn.Sequential(first, nn.GELU(), nn.LayerNorm(width, eps=1e-12), nn.Dropout(dropout))
        self.bias = nn.Parameter(torch.zeros(num_pieces))

    def forward(self, features: torch.Tensor, pieces: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """From features (n, K, D), the right pieces (n, K), negative where nothing is asked, and embeddings (V, E)."""
        asked = pieces >= 0
        logits = linear(self.transform(features[asked]), embedding, self.bias).float()
        best = logits.detach().softmax(1).max(1)
        right = -cross_entropy(logits, pieces[asked], reduction="none")
        found = torch.stack([right, pieces[asked].float(), best.indices.float(), best.values], 1)
        outputs = torch.full((*pieces.shape, len(self.OUTPUTS)), NO_STEP, dtype=found.dtype, device=found.device)
        outputs[asked] = found
        return outputs


def _linear(num_features: int, num_classes: int, *, hidden: int = 0, dropout: float = 0.0, zero: bool = False) -> nn.Module:
    """A linear layer, or with `hidden` units an MLP with one hidden layer and ReLU.

    Args:
        dropout: on the input of the last layer, in training.
        zero: initialise the last layer at zero: every class is equally likely at first, and no noise from a random layer
            reaches the backbone in the first step (Zhang et al., Fixup, ICLR 2019; BiT, ECCV 2020, does so too).
    """
    layers = [nn.Linear(num_features, hidden), nn.ReLU()] if hidden else []
    last = nn.Linear(hidden or num_features, num_classes)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, last) if layers else last


class EachStep(nn.Module):
    """Layers that are applied to each step of features (N, steps, D); padded steps (NO_STEP) stay padded steps."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        padded = features[..., :1] < NO_STEP / 2
        logits: torch.Tensor = self.layers(features.masked_fill(padded, 0))
        return logits.masked_fill(padded, NO_STEP)


class Neighbours(nn.Module):
    """k nearest neighbours by cosine similarity, each vote weighted by exp(similarity / temperature).

    The training features are part of the model. Logits are the logarithms of each class's fraction of the votes.

    Reference:
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.
    """

    computed = True  # its buffers are computed from training features; they are not parameters
    features: torch.Tensor
    labels: torch.Tensor

    def __init__(self, num_features: int, num_classes: int, *, neighbours: int, temperature: float, num_examples: int):
        super().__init__()
        self.num_classes, self.neighbours, self.temperature = num_classes, min(neighbours, num_examples), temperature
        self.register_buffer("features", torch.zeros(num_examples, num_features))
        self.register_buffer("labels", torch.zeros(num_examples, dtype=torch.int64))

    def compute(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Store the training features (N, D), scaled to unit length, and their labels (N,)."""
        self.features.copy_(normalize(features))
        self.labels.copy_(labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        similarity = normalize(features.float()) @ self.features.T
        nearest, indices = similarity.topk(self.neighbours, dim=1)
        votes = (nearest / self.temperature).softmax(1)
        shares = (one_hot(self.labels[indices], self.num_classes) * votes[:, :, None]).sum(1)
        return shares.clamp_min(1e-6).log()  # a class without a vote is unlikely, not impossible


class Prototypes(nn.Module):
    """The nearest class by cosine similarity to the mean of its training features.

    Reference:
        Mensink et al., Distance-Based Image Classification (nearest class mean), TPAMI 2013; Snell et al.,
        Prototypical Networks, NeurIPS 2017, without their episodes.
    """

    computed = True
    means: torch.Tensor

    def __init__(self, num_features: int, num_classes: int, *, temperature: float):
        super().__init__()
        self.temperature = temperature
        self.register_buffer("means", torch.zeros(num_classes, num_features))

    def compute(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Average the training features (N, D), scaled to unit length, per class; labels (N,) must contain all classes."""
        members = one_hot(labels, len(self.means)).float()
        self.means.copy_(normalize(members.T @ normalize(features)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return normalize(features.float()) @ self.means.T / self.temperature
