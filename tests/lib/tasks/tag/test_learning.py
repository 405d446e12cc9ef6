"""What training knows of tagging: targets, losses of each example's own words, and what validation says."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.core.contracts import NO_STEP, NO_TARGET
from stages.lib.errors import UserError
from stages.lib.networks.heads import EachStep
from stages.lib.tasks.tag import learning
from stages.lib.tasks.tag.measures import METRICS
from stages.lib.tasks.tag.outputs import predictions
from tests.lib.tasks.tag.cases import case, sure
from tests.tiny import options

LABELS = ["O B-drug I-drug", "O", "B-cell O O B-drug", "I-cell O"]
NAMES = ["O", "B-cell", "I-cell", "B-drug", "I-drug"]
FULL, NO = NO_STEP, NO_TARGET


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(targets, num_outputs=5, steps=None, seed=0):
    """Random outputs for as many words as the longest text has; padded where a text ends."""
    steps = targets.shape[1] if steps is None else steps
    outputs = 3 * torch.randn(len(targets), steps, num_outputs, generator=generator(seed), dtype=torch.float64)
    for row, target in enumerate(targets):
        outputs[row, (target != NO).sum() :] = FULL
    return outputs


def by_loops(outputs, targets, smoothing=0.0):
    """The losses of each example's own words that have an output, one word after the other."""
    found = []
    for rows, tags in zip(outputs.numpy(), targets.tolist(), strict=True):
        found.append([])
        for row, tag in zip(rows, tags, strict=False):
            if tag != NO and row[0] > FULL / 2:
                log = row - row.max() - np.log(np.exp(row - row.max()).sum())
                found[-1].append(-(1 - smoothing) * log[tag] - smoothing * log.mean())
    return found


# Targets


def test_outputs_are_o_and_both_tags_of_each_type_in_alphabetical_order():
    assert learning.outputs(LABELS) == learning.outputs(LABELS[::-1]) == NAMES
    assert learning.outputs(["O I-x-y", "O"]) == ["O", "B-x-y", "I-x-y"], "both, even if only one of them occurs"


def test_targets_are_the_words_tags_with_padding():
    targets = learning.targets(LABELS, NAMES)
    assert targets.tolist() == [[0, 3, 4, NO], [0, NO, NO, NO], [1, 0, 0, 3], [2, 0, NO, NO]] and targets.dtype == torch.int64
    assert learning.targets(["O"], NAMES).tolist() == [[0]] and learning.targets([], NAMES).shape == (0, 0)


@pytest.mark.parametrize("label", ["cat", "", "O B-", "O b-drug", "S-drug", "O, B-drug", "-drug", "B-a I"])
def test_labels_that_are_not_tags_are_named(label):
    for function in (learning.outputs, lambda labels: learning.targets(labels, NAMES)):
        with pytest.raises(UserError) as error:
            function([*LABELS, label])
        assert "1 labels are not a tag for each word" in str(error.value) and repr(label) in str(error.value)


def test_tags_that_the_model_does_not_know_are_named():
    with pytest.raises(UserError, match=r"not among the model's \(O, B-cell, .*I-drug\): B-gene, I-gene\.$"):
        learning.targets(["O B-gene I-gene", "B-drug"], NAMES)


# Batches


@pytest.mark.parametrize(("num", "batch_size"), [(24, 8), (21, 6), (7, 100), (1, 1)])
def test_each_example_comes_once_in_batches_of_like_size(num, batch_size):
    targets = torch.zeros(num, 3, dtype=torch.int64)
    epochs = [learning.batches(targets, options(batch_size=batch_size), generator(seed)) for seed in (0, 0, 1)]
    for batches in epochs:
        sizes = [len(batch) for batch in batches]
        assert len(sizes) == math.ceil(num / batch_size) and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
        assert torch.cat(batches).sort().values.equal(torch.arange(num))
    orders = [torch.cat(batches) for batches in epochs]
    assert orders[0].equal(orders[1]) and (num < 3 or not orders[0].equal(orders[2]))


# Losses


def uneven(steps=None):
    """Targets and outputs of a batch in which the tokenizer leaves nothing of one word."""
    targets = learning.targets(LABELS, NAMES)
    outputs = logits(targets, steps=steps)
    outputs[2, 1] = FULL
    return outputs, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("steps", [4, 2, 7])
def test_every_word_of_a_batch_counts_the_same_in_training(smoothing, steps):
    """Also if a batch is shorter (words were cut off) or longer than the targets."""
    outputs, targets = uneven(steps)
    words = by_loops(outputs, targets, smoothing)
    found = learning.criterion(targets, options(label_smoothing=smoothing))(outputs, targets)
    assert found.mean().item() == pytest.approx(np.mean(np.concatenate(words)), rel=1e-12)
    shares = [sum(each) / sum(map(sum, words)) for each in words]
    np.testing.assert_allclose(found / found.sum(), shares, rtol=1e-12)


@pytest.mark.parametrize("steps", [4, 2, 7])
def test_the_plain_loss_of_an_example_is_the_mean_over_its_own_words(steps):
    outputs, targets = uneven(steps)
    np.testing.assert_allclose(
        learning.loss(outputs, targets), [np.mean(each) for each in by_loops(outputs, targets)], rtol=1e-12
    )


def test_the_loss_does_not_depend_on_the_other_examples_of_the_batch():
    targets = learning.targets(LABELS, NAMES)
    outputs = logits(targets)
    losses, criterion = learning.loss(outputs, targets), learning.criterion(targets, options(label_smoothing=0))
    for row, words in enumerate([3, 1, 4, 2]):
        alone = outputs[row : row + 1, :words], targets[row : row + 1]
        assert learning.loss(*alone).item() == pytest.approx(losses[row].item(), rel=1e-12)
        assert criterion(*alone).item() == pytest.approx(losses[row].item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_examples_without_any_output_count_nothing_and_have_clean_gradients(dtype):
    targets = learning.targets(LABELS, NAMES)
    outputs = logits(targets).to(dtype)
    outputs[0] = FULL
    outputs.requires_grad_()
    losses = learning.criterion(targets, options(label_smoothing=0.1))(outputs, targets)
    losses.sum().backward()
    assert losses[0] == 0 and (losses[1:] > 0).all()
    own = (outputs[..., 0] > FULL / 2) & (targets != NO)
    assert outputs.grad.isfinite().all() and (outputs.grad[own] != 0).all() and not outputs.grad[~own].any()
    nothing = learning.criterion(targets, options(label_smoothing=0.1))(torch.full_like(outputs, FULL), targets)
    assert not nothing.any()


def test_only_the_first_piece_of_a_word_is_trained():
    """Two texts of pieces: the first has three words, of which the second has two pieces and the last was cut off."""
    pieces = torch.randn(2, 5, 6, generator=generator()).requires_grad_()
    starts = torch.tensor([[1, 2, -1], [1, -1, -1]])
    head = EachStep(nn.Linear(6, 5))
    words = pieces.gather(1, starts.clamp_min(0)[..., None].expand(-1, -1, 6)).masked_fill(starts[..., None] < 0, FULL)
    targets = learning.targets(["O B-drug I-drug", "B-cell"], NAMES)
    learning.criterion(targets, options(label_smoothing=0.1))(head(words), targets).sum().backward()
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[0, [1, 2]] = first[1, 1] = True
    assert (pieces.grad[first] != 0).all() and not pieces.grad[~first].any()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


# Validation


def test_figures_are_those_of_the_test():
    for seed in range(30):
        each = case(seed)
        tags = np.pad(each.predictions[..., 0].astype(int), ((0, 0), (0, seed % 3)), constant_values=-1)
        outputs = sure(tags, len(each.names)) + 0.1 * logits(
            torch.zeros(tags.shape, dtype=torch.int64), len(each.names), seed=seed
        )
        targets = torch.from_numpy(each.targets)
        figures = learning.figures(outputs, targets)
        assert list(figures) == ["loss", "entity_f1", "token_accuracy"]
        assert figures["loss"] == pytest.approx(np.mean(np.concatenate(by_loops(outputs, targets))))
        for name in ("entity_f1", "token_accuracy"):
            (value,) = METRICS[name].values(predictions(outputs), each.targets, np.ones((1, len(targets))))
            assert figures[name] == pytest.approx(value, abs=1e-12) and type(figures[name]) is float


def test_words_that_were_cut_off_are_predicted_o():
    targets = learning.targets(["O O B-drug O"], NAMES)
    figures = learning.figures(sure([[0, 0, -1, -1]]), targets)
    assert (figures["entity_f1"], figures["token_accuracy"]) == (0, 0.75)


def test_the_stratum_of_an_example_is_whether_it_holds_an_entity():
    assert learning.strata(learning.targets(LABELS, NAMES)).tolist() == [1, 0, 1, 1]
