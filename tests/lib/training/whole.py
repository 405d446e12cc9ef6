"""Whole trainings of any strategy, from preparation to proof, on tiny networks and noise."""

import copy
from functools import cache

import numpy as np
import torch
from lightning_fabric import Fabric

from stages.lib.params.fields import Trainable
from stages.lib.tasks.classify import learning
from stages.lib.training import setup as setups
from stages.lib.training import train as trains
from stages.lib.training.phases import Data
from tests.tiny import architecture, noise, options, seen
from tests.tiny import network as tiny_network

LAST = Trainable(last_blocks=2)
HYPERPARAMETERS = {
    "feature_extraction": {"epochs": 2, "head_lr": 0.01},
    "linear_probe": {"l2": [0.01, 1.0]},
    "partial": {"epochs": 2, "trainable": LAST, "lr": 0.0005, "head_lr": 0.01},
    "full": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01},
    "scratch": {"epochs": 2, "lr": 0.0005},
    "discriminative": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "decay": 0.7, "rates": {}},
    "gradual": {"epochs": 2, "steps": 2, "lr": 0.0005, "head_lr": 0.01, "decay": 0.7},
    "lp_ft": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005},
    "wise_ft": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005, "num_alphas": 5},
    "l2_sp": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": "all", "alpha": 0.01, "beta": 0.01},
    "bss": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": LAST, "eta": 0.001, "k": 1},
    "delta": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005, "trainable": "all", "alpha": 0.01, "beta": 0.01,
              "blocks": 2, "attention_examples": 2},
    "bitfit": {"epochs": 2, "lr": 0.01, "head_lr": 0.01},
    "norm_only": {"epochs": 2, "lr": 0.01, "head_lr": 0.01},
    "lora": {"epochs": 2, "lr": 0.01, "head_lr": 0.01, "rank": 2, "alpha": 4.0},
    "dann": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": "all", "strength": 1.0, "gamma": 10.0, "hidden": 8,
             "discriminator_lr": 0.01, "select": "loss"},
    "mcc": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": LAST, "strength": 1.0, "temperature": 2.5,
            "select": "information"},
    "coral": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": "all", "strength": 1.0, "select": "loss"},
    "knn": {"neighbours": 3, "temperature": 0.07},
    "prototype": {"temperature": 0.07},
    "frozen": {},
}  # fmt: skip


@cache
def weights(network):
    """Tensors of a network with a head for another task."""
    return tiny_network(network, seed=5, num_outputs=7).state_dict()


def prepare(strategy, network="test_resnet", seed=1, from_random=False, head=None, **hyperparameters):
    """A fabric, and the network with a head for two classes."""
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(accelerator="cpu", devices=1)
    setup = setups.prepare(
        fabric, None if from_random else copy.deepcopy(weights(network)), architecture(network), 2,
        "example", strategy=strategy, hyperparameters=HYPERPARAMETERS[strategy] | hyperparameters,
        options=options(**{"head": head} if head else {}), num_examples=24, seed=seed, same_outputs=False,
    )  # fmt: skip
    return fabric, setup


def without_labels(num, seed, px=32, channels=3):
    """Inputs of another domain: brighter noise, whose labels nobody has."""
    given = noise(num, seed, px, channels=channels)
    inputs = given.inputs
    return given._replace(inputs=lambda *how: inputs(*how) + 0.5, targets=torch.zeros(num, 0))


def train(fabric, setup, train, val, *, state=None, save=lambda state: None, loss_jump=2, seed=1, **changes):
    """Train on two splits, with `changes` of the options."""
    others = ()
    if getattr(setup.plugin, "UNLABELLED", False):
        _, channels, _, px = train.inputs(torch.tensor([0]), "none", None).shape
        others = (without_labels(20, 7, px, channels), without_labels(10, 8, px, channels))
    return trains.train(
        fabric, setup, Data(train, val, *others), learning, options(**{"augment": "none"} | changes), ["even", "odd"],
        loss_jump=loss_jump, seed=seed, state=state, save=save,
    )  # fmt: skip


def run(strategy, network="test_resnet", val=None, hyperparameters=None, **changes):
    """Both, on noise."""
    fabric, setup = prepare(strategy, network, **hyperparameters or {})
    return setup, train(fabric, setup, seen(network), val or seen(network, 16, 1), **changes)


@cache
def finished(strategy, network):
    """A training that is run once; tests only look at it."""
    return run(strategy, network)


def unit_features(setup, given):
    """Features of each example by itself, at length 1."""
    backbone = setup.model.backbone.eval()
    rows = [backbone(given.inputs(torch.tensor([index]), "none", None)) for index in range(len(given.targets))]
    rows = torch.cat(rows).detach().double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
