"""Losses of metric learning on a batch: outputs (n, D) and the number of each one's person (n,) -> (n,).

The formulas are those of pytorch-metric-learning. Embeddings are scaled to length 1 first.
"""

from collections.abc import Callable

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from stages.lib.core.contracts import NO_STEP
from stages.lib.params.schema import MetricLearning
from stages.lib.tasks.embed import people

TEMPERATURE = 0.1  # of `neighbours`
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def triplet(margin: float) -> Loss:
    """The triplet loss with semi-hard negatives: max(0, d(anchor, positive) - d(anchor, negative) + margin) for squared Euclidean
    distances, over all triplets of the batch whose negative is further than the positive, but by less than the margin.

    An example's share is the sum over the triplets of which it is the anchor, scaled so that the mean over the batch is the mean
    over its triplets. With several processes, triplets are made within each one's part of a batch.

    Reference:
        Schroff et al., FaceNet, CVPR 2015 (arXiv 1503.03832), sections 3.1 and 3.2.
    """
    distance = LpDistance(p=2, power=2, normalize_embeddings=True)
    mine = TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance)
    lose = TripletMarginLoss(margin=margin, distance=distance, reducer=DoNothingReducer())

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        who = people.numbers(targets)
        mined = mine(outputs, who)
        shares = 0 * outputs.sum(1)  # a batch without such a triplet still has gradients, of zero
        if not len(mined[0]):
            return shares
        each = lose(outputs, who, mined)["loss"]
        return shares.index_add(0, each["indices"][0], each["losses"] * len(outputs) / len(each["losses"]))

    return losses


def prototypical(scale: float | None) -> Loss:
    """The loss of prototypical networks: a batch is an episode, in which half of each class's examples (the first ones of the
    batch, which are random) are the support, and the others have to be nearest to the mean of their own class's support.

    The classes are told apart by a softmax over minus the squared Euclidean distances, or with `scale` over the cosine
    similarities times it. Only queries have a share, scaled so that the mean over the batch is the mean over its queries.

    Reference:
        Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017 (arXiv 1703.05175); for cosines, Chen et al.,
        Meta-Baseline, ICCV 2021 (arXiv 2003.04390).
    """

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        who = people.numbers(targets)
        same = who[:, None] == who
        first = same.tril(-1).sum(1) < same.sum(1) // 2
        queries = ~first & (same.sum(1) > 1)  # an example that is alone has no prototype of its class
        shares = 0 * outputs.sum(1)
        members = one_hot(who)[first].to(outputs.dtype)
        known = members.sum(0) > 0
        if known.sum() < 2:
            return shares  # nothing to tell apart, but gradients of zero
        vectors = outputs if scale is None else normalize(outputs)
        prototypes = members.T @ vectors[first] / members.sum(0).clamp_min(1)[:, None]
        scores = -torch.cdist(vectors, prototypes).square() if scale is None else scale * vectors @ normalize(prototypes).T
        each = cross_entropy(scores.masked_fill(~known, float("-inf"))[queries], who[queries], reduction="none")
        return shares.masked_scatter(queries, each * len(outputs) / len(each))

    return losses


class Softmax(nn.Module):
    """Cross-entropy over the people of the training, each with a trained direction (proxy), with a margin for the right one.

    The proxies are used in training alone and never shipped.

    Reference:
        Wang et al., CosFace, CVPR 2018 (arXiv 1801.09414), with a margin of the cosine; Deng et al., ArcFace, CVPR 2019 (arXiv
        1801.07698), with a margin of the angle, in degrees.
    """

    known: torch.Tensor

    def __init__(self, targets: torch.Tensor, how: MetricLearning, dim: int):
        """Args:
        targets: (N, L) of all training examples.
        dim: D.
        """
        super().__init__()
        assert how.margin and how.scale and how.proxy_lr, "the schema requires them"
        self.lr = how.proxy_lr
        self.register_buffer("known", targets.unique(dim=0), persistent=False)
        kind = {"cosface": CosFaceLoss, "arcface": ArcFaceLoss}[how.loss]
        self.softmax = kind(len(self.known), dim, margin=how.margin, scale=how.scale, reducer=DoNothingReducer())

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        who = (targets[:, None] == self.known).all(2).int().argmax(1)
        losses: torch.Tensor = self.softmax(outputs, who)["loss"]["losses"]
        return losses


def neighbours(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The negative logarithm of the chance that an example's neighbour is of the same person, if others are drawn with a chance
    that grows with their cosine similarity (Goldberger et al., Neighbourhood Components Analysis, NIPS 2004).

    It has no parameters and no margin. 0 where no other example is of the same person.
    """
    vectors, who = normalize(outputs.float()), people.numbers(targets)
    alone = torch.eye(len(who), dtype=torch.bool, device=who.device)
    same = (who[:, None] == who) & ~alone
    chances = (vectors @ vectors.T / TEMPERATURE).masked_fill(alone, NO_STEP).log_softmax(1)
    return -chances.masked_fill(~same & same.any(1, keepdim=True), NO_STEP).logsumexp(1)  # of all others, 0, if none is the same
