"""What training knows of tagging: targets, losses of each example's own words, what validation says, and its warnings."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from stages.lib.core.contracts import NO_STEP, NO_TARGET
from stages.lib.errors import UserError
from stages.lib.networks.heads import EachStep
from stages.lib.tasks.tag import learning
from stages.lib.tasks.tag.measures import METRICS, predictions
from stages.lib.training import diagnostics
from tests.lib.tasks.tag.cases import case
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


def sure(tags, num_outputs=5):
    """Outputs of a network that is sure of these tags; NO_STEP where they are negative."""
    tags = torch.as_tensor(tags)
    return (20.0 * one_hot(tags.clamp_min(0), num_outputs)).masked_fill(tags[..., None] < 0, FULL)


def losses_by_loops(outputs, targets, smoothing=0.0):
    """Each example's mean over its own words that have an output, one word after the other."""
    found = []
    for rows, tags in zip(outputs.numpy(), targets.tolist(), strict=True):
        each = []
        for row, tag in zip(rows, tags, strict=False):
            if tag != NO and row[0] > FULL / 2:
                log = row - row.max() - np.log(np.exp(row - row.max()).sum())
                each.append(-(1 - smoothing) * log[tag] - smoothing * log.mean())
        found.append(np.mean(each) if each else 0.0)
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


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("steps", [4, 2, 7])
def test_the_loss_of_an_example_is_the_mean_over_its_own_words(smoothing, steps):
    """Also if a batch is shorter (words were cut off) or longer than the targets."""
    targets = learning.targets(LABELS, NAMES)
    outputs = logits(targets, steps=steps)
    outputs[2, 1] = FULL  # a word that the tokenizer leaves nothing of
    expected = losses_by_loops(outputs, targets, smoothing)
    found = learning.criterion(targets, options(label_smoothing=smoothing))(outputs, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(learning.loss(outputs, targets), losses_by_loops(outputs, targets), rtol=1e-12)


def test_the_loss_does_not_depend_on_the_other_examples_of_the_batch():
    targets = learning.targets(LABELS, NAMES)
    outputs = logits(targets)
    losses = learning.loss(outputs, targets)
    for row, words in enumerate([3, 1, 4, 2]):
        alone = learning.loss(outputs[row : row + 1, :words], targets[row : row + 1])
        assert alone.item() == pytest.approx(losses[row].item(), rel=1e-12)


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


# The loss of guessing


def share(of_entities, num_types=1, num=10_000):
    """Targets of which this share is in entities, equally often of each tag."""
    tags = torch.zeros(num, dtype=torch.int64)
    inside = int(of_entities * num)
    tags[:inside] = torch.arange(inside) % (2 * num_types) + 1
    return tags.reshape(-1, 10)


def test_guessing_is_as_good_as_the_tags_are_uneven_but_not_better_than_half_of_equal_chances():
    assert learning.guess(share(2 / 3)) == pytest.approx(math.log(3), abs=1e-3)
    assert learning.guess(share(0.5)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert learning.guess(share(0.08)) == pytest.approx(0.5 * math.log(3)), "the entropy is 0.33"
    assert learning.guess(torch.tensor([[0, 0, NO]])) == pytest.approx(0.5 * math.log(2))
    padded = torch.nn.functional.pad(share(0.5), (0, 7), value=NO)
    assert learning.guess(padded) == pytest.approx(learning.guess(share(0.5)))


@pytest.mark.parametrize("num_types", [1, 6])
@pytest.mark.parametrize("of_entities", [0.02, 0.08])
def test_what_the_warnings_make_of_it(num_types, of_entities):
    """At the default of checks.loss_jump: a network that is sure of O everywhere is far worse than guessing, one that has learned
    nothing yet is not."""
    targets = share(of_entities, num_types)
    guess, peaks = learning.guess(targets), {"head": 0.1}
    untrained = torch.zeros(*targets.shape, 2 * num_types + 1)
    wrong = 2 * math.log(2 * num_types + 1) / of_entities * one_hot(torch.zeros_like(targets), 2 * num_types + 1)
    untrained, wrong = (learning.loss(each, targets).mean().item() for each in (untrained, wrong))
    assert diagnostics.worse_than_guessing(untrained, guess, 3, peaks) is None
    assert "Learning rate too high" in diagnostics.worse_than_guessing(wrong, guess, 3, peaks)


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
        assert figures["loss"] == pytest.approx(np.mean(losses_by_loops(outputs, targets)))
        for name in ("entity_f1", "token_accuracy"):
            (value,) = METRICS[name].values(predictions(outputs), each.targets, np.ones((1, len(targets))))
            assert figures[name] == pytest.approx(value, abs=1e-12) and type(figures[name]) is float


def test_words_that_were_cut_off_are_predicted_o():
    targets = learning.targets(["O O B-drug O"], NAMES)
    figures = learning.figures(sure([[0, 0, -1, -1]]), targets)
    assert (figures["entity_f1"], figures["token_accuracy"]) == (0, 0.75)


def test_the_stratum_of_an_example_is_whether_it_holds_an_entity():
    assert learning.strata(learning.targets(LABELS, NAMES)).tolist() == [1, 0, 1, 1]


# Warnings


@pytest.fixture
def validation():
    """20 texts of 10 words with one entity of two words each."""
    return learning.targets([" ".join(["O"] * 7 + ["B-drug", "I-drug", "O"])] * 20, NAMES)


def test_no_entity_at_all_is_an_alarm_that_says_what_hides_it(validation):
    (told,) = learning.alarms(sure(torch.zeros_like(validation)), validation, NAMES)
    for words in ("none of the 20 entities", "predicts O for every word", "token accuracy of 80.0%", "Train longer"):
        assert words in told


def test_entities_that_are_all_wrong_are_an_alarm(validation):
    (told,) = learning.alarms(sure(validation.roll(1, 1)), validation, NAMES)
    assert "None of the 20 entities that the model finds in validation is right (20 are there)" in told


def test_entities_that_do_not_begin_are_an_alarm(validation):
    broken = validation.clone()
    broken[:9, 7] = 4
    (told,) = learning.alarms(sure(broken), validation, NAMES)
    assert "Of the 20 entities" in told and "45% begin with I-" in told
    broken[5:9, 7] = 3
    assert learning.alarms(sure(broken), validation, NAMES) == [], "some are usual"


def test_what_is_right_is_no_alarm_nor_is_a_validation_without_entities(validation):
    assert learning.alarms(sure(validation), validation, NAMES) == []
    nothing = torch.zeros_like(validation)
    assert learning.alarms(sure(nothing), nothing, NAMES) == learning.alarms(sure(validation), nothing, NAMES) == []
