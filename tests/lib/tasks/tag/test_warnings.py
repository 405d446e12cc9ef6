"""What training knows of tagging for its warnings: the loss of guessing, and the alarms."""

import math

import pytest
import torch
from torch.nn.functional import one_hot, pad

from stages.lib.core.contracts import NO_TARGET
from stages.lib.tasks.tag import learning
from stages.lib.training import diagnostics
from tests.lib.tasks.tag.cases import sure

NAMES = ["O", "B-cell", "I-cell", "B-drug", "I-drug"]


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
    assert learning.guess(torch.tensor([[0, 0, NO_TARGET]])) == pytest.approx(0.5 * math.log(2))
    padded = pad(share(0.5), (0, 7), value=NO_TARGET)
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


# Alarms


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
