"""What training knows of classification: targets, batches, losses, and what validation says, against numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from stages.lib.errors import UserError
from stages.lib.tasks.classify import learning
from tests.tiny import options

CLASSES = ["ant", "bee", "cat"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(num, num_classes=3, seed=0):
    return 3 * torch.randn(num, num_classes, generator=generator(seed), dtype=torch.float64)


def log_softmax(outputs):
    outputs = outputs.numpy()
    shifted = outputs - outputs.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


# Targets


def test_outputs_are_the_labels_in_alphabetical_order_and_targets_their_indices():
    labels = ["cat", "ant", "cat", "bee"]
    assert learning.outputs(labels) == CLASSES
    targets = learning.targets(labels, CLASSES)
    assert targets.tolist() == [2, 0, 2, 1] and targets.dtype == torch.int64
    assert learning.targets(labels, ["bee", "cat", "dog", "ant"]).tolist() == [1, 3, 1, 0], "the model's order counts"
    assert learning.targets([], CLASSES).tolist() == []


def test_labels_that_the_model_does_not_know_are_named():
    with pytest.raises(UserError, match=r"not among the model's classes \(ant, bee, cat\): dog, eel\.$"):
        learning.targets(["eel", "ant", "dog", "eel"], CLASSES)


def test_of_many_unknown_labels_the_first_are_named():
    with pytest.raises(UserError) as error:
        learning.targets([f"kind{number:02}" for number in range(30)], CLASSES)
    assert "kind00, " in str(error.value) and "kind09" in str(error.value) and "kind10" not in str(error.value)


# Batches


@pytest.mark.parametrize(("num", "batch_size"), [(24, 8), (21, 6), (5, 2), (7, 100), (1, 1), (100, 33)])
@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_batches_differ_by_one_example_at_most_and_none_is_larger_than_asked_for(num, batch_size, balance):
    batches = learning.batches(torch.arange(num) % 3, options(batch_size=batch_size, balance=balance), generator())
    sizes = [len(batch) for batch in batches]
    assert sum(sizes) == num and len(sizes) == math.ceil(num / batch_size)
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_each_example_comes_once_in_an_order_of_the_generator(balance):
    how = options(batch_size=8, balance=balance)
    orders = [torch.cat(learning.batches(torch.zeros(50, dtype=torch.int64), how, generator(seed))) for seed in (0, 0, 1)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_balanced_batches_draw_each_class_equally_often_and_each_of_its_examples():
    targets = torch.tensor([0] * 90 + [2] * 9 + [3])  # one class is missing
    how, random = options(batch_size=10, balance="sampling"), generator()
    drawn = torch.cat([torch.cat(learning.batches(targets, how, random)) for _ in range(100)])
    counts = np.bincount(targets[drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(counts, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)
    often = np.bincount(drawn, minlength=100)[:90]
    assert often.min() > 0.4 * often.mean() and often.max() < 1.8 * often.mean()


# Losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_criterion_is_the_cross_entropy_with_smoothed_labels(smoothing):
    outputs, targets = logits(20), torch.arange(20) % 3
    found = learning.criterion(targets, options(label_smoothing=smoothing))(outputs, targets)
    wanted = (1 - smoothing) * np.eye(3)[targets] + smoothing / 3
    np.testing.assert_allclose(found, -(wanted * log_softmax(outputs)).sum(1), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_make_each_class_count_the_same_and_the_mean_weight_1(smoothing):
    """Weights come from all training examples, whatever a batch holds of them."""
    everything = torch.tensor([0] * 6 + [1] * 3 + [3])  # one class is missing
    criterion = learning.criterion(everything, options(label_smoothing=smoothing, balance="weights"))
    outputs, targets = logits(5, 4), torch.tensor([3, 0, 0, 1, 3])
    weights = np.array([10 / (3 * 6), 10 / (3 * 3), 0, 10 / 3])
    assert weights[everything].mean() == pytest.approx(1)
    wanted = (1 - smoothing) * np.eye(4)[targets] + smoothing / 4
    expected = weights[targets] * -(wanted * log_softmax(outputs)).sum(1)
    np.testing.assert_allclose(criterion(outputs, targets), expected, rtol=1e-6)


def test_the_plain_loss_is_neither_smoothed_nor_weighted():
    outputs, targets = logits(20), torch.tensor([0] * 15 + [1] * 3 + [2] * 2)
    np.testing.assert_allclose(learning.loss(outputs, targets), -log_softmax(outputs)[np.arange(20), targets], rtol=1e-12)


@pytest.mark.parametrize(("targets", "num_classes"), [([0, 1, 0], 2), ([0, 3, 7, 7], 3), ([1, 1], 2)])
def test_the_loss_of_guessing_is_that_of_equal_chances(targets, num_classes):
    """Among the classes that occur, and between two where only one does."""
    targets = torch.tensor(targets)
    assert learning.guess(targets) == pytest.approx(math.log(num_classes))
    if num_classes == int(targets.max()) + 1:
        equal = torch.zeros(len(targets), num_classes, dtype=torch.float64)
        assert learning.loss(equal, targets).mean().item() == pytest.approx(learning.guess(targets))


# Validation


def test_figures_are_the_mean_loss_and_the_fraction_of_right_answers():
    outputs, targets = logits(40), torch.arange(40) % 3
    figures = learning.figures(outputs, targets)
    assert figures.keys() == {"loss", "accuracy"}
    assert figures["loss"] == pytest.approx(-log_softmax(outputs)[np.arange(40), targets].mean(), rel=1e-6)
    right = int((outputs.numpy().argmax(1) == targets.numpy()).sum())
    assert figures["accuracy"] == pytest.approx(right / 40) and 0 < right < 40


def test_one_answer_for_all_examples_is_an_alarm_that_names_it():
    outputs = logits(12) + torch.tensor([0.0, 100.0, 0.0])
    (told,) = learning.alarms(outputs, torch.arange(12) % 3, CLASSES)
    for words in ("predicts 'bee' for every validation example", "learning rate", "training.balance"):
        assert words in told


def test_several_answers_and_one_class_alone_are_no_alarm():
    several = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0]])
    assert learning.alarms(several, torch.tensor([0, 1, 2]), CLASSES) == []
    same = torch.tensor([[9.0, 0, 0]] * 3)
    assert learning.alarms(same, torch.tensor([0, 0, 0]), CLASSES) == [], "where there is one class, one answer is right"


def test_the_information_is_that_between_inputs_and_answers():
    """Sure and varied answers give log(C); answers that are unsure, or all the same, give none."""
    sure = 60.0 * torch.eye(4)
    assert learning.information(sure) == pytest.approx(math.log(4))
    assert learning.information(sure[[1, 1, 1]]) == pytest.approx(0, abs=1e-9)
    assert learning.information(torch.zeros(5, 4)) == pytest.approx(0, abs=1e-9)
    outputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    chances = outputs.double().softmax(1).numpy()
    wanted = entropy(chances.mean(0)) - entropy(chances, axis=1).mean()
    assert learning.information(outputs) == pytest.approx(wanted)


def test_answers_are_the_likeliest_classes():
    assert learning.answers(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]


def test_the_stratum_of_an_example_is_its_class():
    targets = torch.tensor([2, 0, 1, 1])
    assert torch.equal(learning.strata(targets), targets)
