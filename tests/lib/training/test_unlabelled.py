"""Unlabelled inputs in training: what is drawn, what the epoch is chosen by, what is refused, and that it resumes and helps."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib.core import contracts, datasets
from stages.lib.errors import UserError
from stages.lib.tasks.classify import learning
from stages.lib.training import train as trains
from stages.lib.training import unlabelled
from stages.lib.training.phases import Data
from tests.lib.training.domains import accuracy, adapted, blind, network, points
from tests.lib.training.small import copied, equal, without_times
from tests.lib.training.whole import prepare
from tests.tiny import HOW, data_card, noise, options, shades

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_none_comes_again_before_all_have_come():
    rows = unlabelled.order(5, 13, generator()).tolist()
    assert len(rows) == 13
    assert sorted(rows[:5]) == sorted(rows[5:10]) == list(range(5)) and len(set(rows[10:])) == 3
    assert rows[:5] != rows[5:10]
    assert unlabelled.order(40, 13, generator()).unique().numel() == 13


def test_batches_of_any_form_are_joined():
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert torch.equal(unlabelled.joined(one, other), torch.cat([one, other]))
    values, mask = unlabelled.joined((one, one[:, 0]), (other, other[:, 0]))
    assert values.shape == (4, 3) and mask.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("strategy", ["dann", "mcc", "coral"])
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(strategy):
    states = []
    model, fitted = adapted(strategy, epochs=4, save=lambda state: states.append(copy.deepcopy(state)))
    assert [len(state["penalties"]) for state in states] == [strategy == "dann"] * 4
    for state in states:
        again, resumed = adapted(strategy, epochs=4, model=network(99), state=copy.deepcopy(state))
        assert equal(copied(again), copied(model))
        assert without_times(resumed.history) == without_times(fitted.history)
        assert resumed.answers == fitted.answers


@pytest.mark.parametrize(("strategy", "gain"), [("dann", 0.15), ("mcc", 0.2), ("coral", 0.0)])
def test_it_helps_where_one_sign_of_the_class_moves_with_the_domain(strategy, gain):
    test = points(500, 5, 2.0)
    gains = [accuracy(adapted(strategy, seed)[0], test) - accuracy(adapted("full", seed)[0], test) for seed in range(3)]
    assert min(gains) > gain or (strategy == "coral" and np.mean(gains) > 0.05)


@pytest.mark.parametrize("strategy", ["dann", "mcc", "coral"])
def test_what_it_adapts_to_matters_and_without_strength_nothing_but_the_labels_does(strategy):
    off = [adapted(strategy, epochs=2, shift=shift, strength=0.0)[0] for shift in (0.0, 2.0)]
    on = [adapted(strategy, epochs=2, shift=shift)[0] for shift in (0.0, 2.0)]
    assert equal(*map(copied, off)) and not equal(*map(copied, on))


def test_the_information_chooses_the_epoch_if_it_is_asked_to():
    chosen = {}
    for select in ("loss", "information"):
        _, fitted = adapted("mcc", epochs=8, select=select)
        rows = pd.DataFrame(fitted.history)
        chosen[select] = rows[rows.best].epoch.iloc[-1]
        best = rows.val_loss.idxmin() if select == "loss" else rows.val_information.idxmax()
        assert chosen[select] == rows.epoch[best]
    assert chosen["loss"] != chosen["information"]


def test_the_answers_of_each_epoch_are_kept_for_later():
    model, fitted = adapted("mcc", epochs=3)
    val = points(100, 4, 2.0)
    assert [len(row) for row in fitted.answers] == [100] * 3
    best = max(row["epoch"] for row in fitted.history if row["best"])
    kept = model.eval()(val.inputs(torch.arange(100), "none", None)).argmax(1).tolist()
    assert fitted.answers[best - 1] == kept


def test_trainings_without_unlabelled_inputs_know_nothing_of_this():
    fitted = adapted("full")[1]
    assert not fitted.answers and "val_information" not in fitted.history[0]


def test_both_domains_pass_the_network_together_and_only_the_labelled_half_has_a_loss():
    """Batch normalisation with common statistics; the labelled rows come first."""
    model, seen = network(), []
    model.backbone.register_forward_hook(lambda module, given, _: seen.append(given[0].clone()) if module.training else None)
    adapted("coral", model=model, epochs=1)
    labelled, other = points(300, 1, 0.0), points(200, 3, 2.0)
    rows = {tuple(row) for row in labelled.inputs(torch.arange(300), "none", None).tolist()}
    others = {tuple(row) for row in other.inputs(torch.arange(200), "none", None).tolist()}
    halves = [batch.chunk(2) for batch in seen]
    assert len(halves) == 10 and all(len(one) == len(two) == 30 for one, two in halves)
    assert all({tuple(row) for row in one.tolist()} <= rows for one, _ in halves)
    drawn = [tuple(row) for _, two in halves for row in two.tolist()]
    assert set(drawn) == others  # 300 draws: all 200 once before any comes again


def test_each_epoch_draws_anew_and_augments_as_the_labelled_ones_are():
    drawn = []
    given = noise(12, 5)

    def inputs(indices, level, draws):
        drawn.append((indices.tolist(), level, draws.tolist() if draws is not None else None))
        return given.inputs(indices, level, draws)

    fabric, setup = prepare("coral")
    others = blind(given._replace(inputs=inputs))
    trains.train(fabric, setup, Data(noise(), noise(8, 1), others, blind(noise(8, 6))), learning, options(augment="light"),
                 ["even", "odd"], loss_jump=9, seed=1, state=None, save=lambda state: None)  # fmt: skip
    training = [each for each in drawn if each[1] == "light"]
    assert len(training) == 2 * 3
    first, second = training[:3], training[3:]
    assert [each[0] for each in first] != [each[0] for each in second]
    assert first[0][2] != first[1][2] != second[0][2]


# Where it is loaded


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Prepared images of two domains; a function that writes one."""
    monkeypatch.chdir(tmp_path)

    def write(name, seed, px=32, images=None, labels=("cross", "frame")):
        folder = tmp_path / "data/prepared" / name
        for split, num in (("train", 6), ("val", 4)):
            given = shades(num, px, seed + num) if images is None else images[:num]
            table = pd.DataFrame({"key": range(num), "label": [labels[row % 2] for row in range(num)], "group": ""})
            datasets.write_split(folder, split, given, table)
        return data_card(name, labels=sorted(labels))

    return write


def test_inputs_are_loaded_without_opening_any_label(prepared, tmp_path):
    labelled, other = prepared("photo", 0), prepared("sketch", 100)
    for split in ("train", "val"):
        (tmp_path / "data/prepared/sketch" / split / "table.csv").unlink()
    train, val = unlabelled.load(other, labelled, HOW, CPU, {})
    assert train.targets.shape == (6, 0) and val.targets.shape == (4, 0)
    packed = np.load(tmp_path / "data/prepared/sketch/train/inputs.npy")
    fewer, same = unlabelled.load(other, labelled, HOW, CPU, {"train": [0, 2]})
    assert len(fewer.targets) == len(packed) - 2 and len(same.targets) == len(val.targets)
    assert fewer.inputs(torch.tensor([0, 1]), "none", None).equal(train.inputs(torch.tensor([1, 3]), "none", None))
    wanted = contracts.load_inputs(datasets.in_memory(list(packed), False), "image", HOW, CPU)
    rows = torch.arange(6)
    assert torch.equal(train.inputs(rows, "none", None), wanted.inputs(rows, "none", None))


def test_the_labelled_set_is_no_unlabelled_one(prepared):
    images = shades(6, seed=3)
    labelled, other = prepared("photo", 0, images=images), prepared("sketch", 0, images=images[::-1])
    with pytest.raises(UserError, match=r"sketch holds the same inputs as photo: an unlabelled set that is the labelled one"):
        unlabelled.load(other, labelled, HOW, CPU, {})


def test_an_image_in_both_domains_is_named(prepared):
    labelled = prepared("photo", 0)
    images = shades(6, seed=50)
    images[2] = shades(6, 32, 6)[1]  # the second of photo's training images; in sketch's train and val
    with pytest.raises(UserError, match=r"2 of the 10 training and validation inputs of sketch are also in photo"):
        unlabelled.load(prepared("sketch", 0, images=images), labelled, HOW, CPU, {})


def test_other_classes_are_named(prepared):
    labelled, other = prepared("photo", 0), prepared("sketch", 100, labels=("cross", "star"))
    with pytest.raises(UserError, match=r"only in photo: frame; only in sketch: star"):
        unlabelled.load(other, labelled, HOW, CPU, {})


def test_another_shape_is_named(prepared):
    labelled, other = prepared("photo", 0), prepared("sketch", 100, px=40)
    with pytest.raises(UserError, match=r"sketch are packed as 40 x 40 x 3 uint8, and those of photo as 32 x 32 x 3 uint8"):
        unlabelled.load(other, labelled, HOW, CPU, {})


def test_what_a_training_depends_on_has_no_labels():
    digests = {f"{split}/{file}": f"{split}-{file}" for split in ("train", "val", "test") for file in ("inputs.npy", "table.csv")}
    card = data_card("sketch", sha256=digests, counts={"train": {"cross": 1}})
    assert unlabelled.identity(card) == ["sketch", card.packing, "train-inputs.npy", "val-inputs.npy"]
