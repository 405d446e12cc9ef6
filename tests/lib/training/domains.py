"""Two domains of points for the tests of domain adaptation, and trainings on them."""

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.lib.core import plugins
from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks import backbones
from stages.lib.tasks.classify import learning
from stages.lib.training.loop import fit
from stages.lib.training.phases import Data
from tests.tiny import options

BLOCK = {"epochs": 20, "lr": 0.01, "head_lr": 0.01, "trainable": "all", "strength": 1.0, "select": "loss"}
BLOCKS = {
    "full": {"epochs": 20, "lr": 0.01, "head_lr": 0.01},
    "dann": BLOCK | {"gamma": 10.0, "hidden": 16, "discriminator_lr": 0.01},
    "mcc": BLOCK | {"temperature": 2.5},
    "coral": BLOCK | {"strength": 30.0},
}
PLAIN = {"warmup_epochs": 0, "batch_size": 30, "label_smoothing": 0.0, "augment": "none", "patience": 99, "schedule": "constant"}


def points(num, seed, shift):
    """Two classes of points: a clear sign of the class moves with the domain, a weaker one stays, and two say nothing."""
    random = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    values = random.normal(size=(num, 4), scale=[0.4, 0.7, 1, 1])
    values[:, 0] += 2 * labels + shift
    values[:, 1] += 2 * labels
    given = torch.from_numpy(values.astype(np.float32))
    return LoadedSplit(lambda indices, level, draws: given[indices], torch.from_numpy(labels), num_draws=0)


def blind(split):
    """Without its labels."""
    return split._replace(targets=torch.zeros(len(split.targets), 0))


def network(seed=0):
    torch.manual_seed(seed)
    return backbones.Model(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()), nn.Linear(8, 2))


def accuracy(model, split):
    with torch.no_grad():
        outputs = model.eval()(split.inputs(torch.arange(len(split.targets)), "none", None))
    return (outputs.argmax(1) == split.targets).float().mean().item()


def adapted(strategy, seed=0, state=None, save=lambda state: None, model=None, shift=2.0, **changes):
    """A network trained with a strategy on labelled points and, if it takes them, unlabelled shifted ones."""
    torch.use_deterministic_algorithms(True)
    plugin = plugins.load("strategies", strategy)
    model = model or network(seed)
    data = Data(points(300, 1, 0.0), points(100, 2, 0.0))
    if getattr(plugin, "UNLABELLED", False):
        data = Data(*data[:2], blind(points(200, 3, shift)), blind(points(100, 4, shift)))
    fitted = fit(
        Fabric(accelerator="cpu", devices=1), model, plugin.plan(model, **BLOCKS[strategy] | changes), data, learning,
        options(**PLAIN), loss_jump=1e9, seed=seed, state=state, save=save,
    )  # fmt: skip
    return model, fitted
