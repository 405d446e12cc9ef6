"""Training on a part of the examples: what is seen of them, and that all of them give the training itself."""

import copy

import pytest
from lightning_fabric import Fabric

from stages.lib.learning_curve.subset import subset
from stages.lib.learning_curve.train import train_on_subset
from stages.lib.training.phases import Data
from tests.lib.training.small import equal
from tests.lib.training.whole import HYPERPARAMETERS, prepare, train, weights
from tests.tiny import data_card, model_card, noise, options


def on_subset(strategy, data, num):
    start, packed = model_card("start", architecture={"library": "timm", "model": "test_resnet"}), data_card("dots")
    return train_on_subset(
        Fabric(accelerator="cpu", devices=1), copy.deepcopy(weights("test_resnet")), start, packed, data, ["even", "odd"],
        task="classify", num=num, strategy=strategy, hyperparameters=HYPERPARAMETERS[strategy], options=options(augment="none"),
        loss_jump=2, seed=1,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["partial", "knn"])
def test_a_training_on_a_subset_of_all_examples_is_the_training_itself(strategy):
    fabric, setup = prepare(strategy)
    whole = train(fabric, setup, noise(), noise(16, 1))
    fitted = on_subset(strategy, Data(noise(), noise(16, 1)), 24)
    assert equal(fitted.tensors, setup.model.state_dict())
    assert (fitted.best, fitted.warnings) == (whole.best, whole.warnings)
    assert fitted.card.architecture == setup.architecture and fitted.card.output_names == ["even", "odd"]


def test_a_training_on_a_subset_sees_what_was_drawn_and_nothing_else():
    seen = [set(), set()]

    def spied(split, which):
        return split._replace(inputs=lambda rows, *how: seen[which].update(rows.tolist()) or split.inputs(rows, *how))

    data = Data(noise(), noise(16, 1))
    on_subset("feature_extraction", Data(spied(data.train, 0), spied(data.val, 1)), 9)
    drawn = subset(data.train.targets, data.val.targets, 9, 1)
    assert seen == [set(rows.tolist()) for rows in drawn] and [len(rows) for rows in drawn] == [9, 6]
