"""Whole trainings of embeddings on a tiny network: the proxies of a softmax are trained and resumed, and no part of the model."""

import copy

import pytest
import torch
from lightning_fabric import Fabric

from stages.lib.core.contracts import LoadedSplit, numbered
from stages.lib.errors import UserError
from stages.lib.params.fields import Trainable
from stages.lib.tasks.embed import learning
from stages.lib.training import setup as setups
from stages.lib.training import train as trains
from stages.lib.training.phases import Data
from tests.lib.training.whole import weights
from tests.tiny import options

RESNET = {"library": "timm", "model": "test_resnet"}
TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 3, "dim": 8}
COSFACE = {"loss": "cosface", "margin": 0.2, "scale": 16, "proxy_lr": 0.05, "pictures": 3, "dim": 8}
PARTIAL = {"epochs": 3, "trainable": Trainable(last_blocks=2), "lr": 0.001, "head_lr": 0.01}


def people(first, num, pictures=6, seed=0):
    """Images of a colour for each person, and noise."""
    who = torch.arange(num * pictures) % num + first
    colours = torch.randn(50, 3, 1, 1, generator=torch.Generator().manual_seed(9))
    images = colours[who] + torch.randn(len(who), 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return LoadedSplit(lambda indices, level, draws: images[indices], learning.targets([f"{each}" for each in who], []), 0)


def run(how, strategy="partial", hyperparameters=PARTIAL, state=None, save=lambda state: None, **changes):
    torch.use_deterministic_algorithms(True)
    fabric, chosen = Fabric(accelerator="cpu", devices=1), {"batch_size": 18, "label_smoothing": 0, "balance": "sampling"}
    chosen = options(**chosen | {"metric_learning": how, "augment": "none"} | changes)
    setup = setups.prepare(
        fabric, copy.deepcopy(weights("test_resnet")), RESNET, how["dim"] if how else 0, "example", strategy=strategy,
        hyperparameters=hyperparameters, options=chosen, num_examples=60, seed=1, same_outputs=False,
    )  # fmt: skip
    data = Data(people(0, 10), people(20, 6, seed=1))
    return setup, trains.train(fabric, setup, data, learning, chosen, [], loss_jump=2, seed=1, state=state, save=save)


def test_the_proxies_are_trained_with_their_own_rate_and_never_shipped():
    states = []
    setup, trained = run(COSFACE, save=lambda state: states.append(copy.deepcopy(state)), schedule="constant")
    own = trained.certificate[trained.certificate.declared == "not shipped"]
    assert list(own.tensor) == ["criterion.softmax.W"] and own["shape"].tolist() == ["8x10"] and own.moved.all()
    assert (trained.certificate.verdict == "ok").all()
    assert not any("softmax" in name for name in setup.model.state_dict())
    assert trained.history.lr_criterion.tolist() == [0.05] * 3 and setup.model.num_outputs == 8
    assert [list(state["penalties"][0]) for state in states] == [["softmax.W"]] * 3
    assert not states[0]["penalties"][0]["softmax.W"].equal(states[1]["penalties"][0]["softmax.W"])


@pytest.mark.parametrize("how", [COSFACE, COSFACE | {"loss": "arcface", "margin": 20}, TRIPLET], ids=lambda how: how["loss"])
def test_a_training_resumes_to_the_same_bits(how):
    states = []
    setup, trained = run(how, save=lambda state: states.append(copy.deepcopy(state)))
    for state in states:
        other, again = run(how, state=copy.deepcopy(state))
        assert all(
            one.equal(two) for one, two in zip(setup.model.state_dict().values(), other.model.state_dict().values(), strict=True)
        )
        assert again.best == trained.best
    third, _ = run(how)
    assert third.model.head.weight.equal(setup.model.head.weight)


def test_without_a_head_the_features_are_the_answer():
    setup, trained = run(TRIPLET | {"dim": 0})
    assert setup.architecture["head"] == {"kind": "identity"} and list(setup.model.head.state_dict()) == []
    assert setup.names([]) == numbered(setup.model.num_outputs) and setup.model.num_outputs > 8
    assert (trained.certificate.verdict == "ok").all()
    with pytest.raises(UserError, match=r"feature_extraction has a phase that trains only the head.*dim: 0"):
        run(TRIPLET | {"dim": 0}, "feature_extraction", {"epochs": 1, "head_lr": 0.1})


@pytest.mark.parametrize("how", [None, TRIPLET])
def test_frozen_features_are_those_of_the_weights(how):
    setup, trained = run(how, "frozen", {})
    assert all(tensor.equal(setup.before[name]) for name, tensor in setup.model.state_dict().items())
    assert setup.names(numbered(8 if how else 0)) == numbered(setup.model.num_outputs)
    assert len(trained.history) == 1 and {"val_map_at_r", "val_threshold", "val_spread"} <= set(trained.best)


@pytest.mark.parametrize("strategy", ["l2_sp", "bss", "delta"])
def test_penalties_work_with_embeddings_too(strategy):
    from tests.lib.training.whole import HYPERPARAMETERS

    _, trained = run(TRIPLET, strategy, HYPERPARAMETERS[strategy])
    assert (trained.certificate.verdict == "ok").all()
