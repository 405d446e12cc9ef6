"""Small trainings, for the tests of the training loop."""

import copy
from contextlib import contextmanager

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks import backbones
from stages.lib.params.fields import Trainable
from stages.lib.strategies import feature_extraction, full, gradual, l2_sp, lp_ft, partial
from stages.lib.tasks.classify import learning
from stages.lib.training.loop import fit
from stages.lib.training.phases import Data
from tests.tiny import noise, options

LAST = Trainable(last_blocks=2)
PLANS = {
    "feature_extraction": lambda model: feature_extraction.plan(model, epochs=3, head_lr=0.05),
    "partial": lambda model: partial.plan(model, epochs=3, trainable=LAST, lr=0.01, head_lr=0.05),
    "full": lambda model: full.plan(model, epochs=3, lr=0.01, head_lr=0.05),
    "gradual": lambda model: gradual.plan(model, epochs=2, steps=2, lr=0.01, head_lr=0.05, decay=0.5),
    "lp_ft": lambda model: lp_ft.plan(model, probe_epochs=2, head_lr=0.05, epochs=2, lr=0.01),
    "l2_sp": lambda model: l2_sp.plan(model, epochs=3, lr=0.01, head_lr=0.05, trainable=LAST, alpha=0.5, beta=0.1),
}


def run(model, phases, *, train=None, val=None, fabric=None, state=None, save=lambda state: None, loss_jump=3, seed=3, **changes):
    """Train on noise, or on the splits given, with `changes` of the options; 24 examples are four batches."""
    torch.use_deterministic_algorithms(True)
    how = options(**{"batch_size": 6, "augment": "none", "patience": 9} | changes)
    return fit(
        fabric or Fabric(accelerator="cpu", devices=1), model, phases, Data(train or noise(), val or noise(16, 1)), learning, how,
        loss_jump=loss_jump, seed=seed, state=state, save=save,
    )  # fmt: skip


def custom(*after, seed=0):
    """A small network without batch normalisation, and what is put between it and its head."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    return backbones.Model(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after), nn.Linear(8, 2))


class Judge(nn.Module):
    """A penalty with parameters of its own: they learn to tell bright images from dark ones by their features, and the backbone
    learns to hide it, as from the discriminator of domains."""

    lr = 0.03

    def __init__(self, num_features=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(num_features, 4), nn.ReLU(), nn.Linear(4, 1))
        self.features = None

    def forward(self, inputs):
        features, self.features = self.features, None
        bright = (inputs.mean((1, 2, 3)) > 0.25).float()
        reversed_gradient = 2 * features.detach() - features
        return binary_cross_entropy_with_logits(self.layers(reversed_gradient)[:, 0], bright)


@contextmanager
def judged(model, start, train, loss, *, num_features=8, made=None):
    """Attach a Judge; `made` gets a copy of it as it begins."""
    judge = Judge(num_features)
    if made is not None:
        made.append(copy.deepcopy(judge))

    def remember(backbone, inputs, output):
        judge.features = output

    with model.backbone.register_forward_hook(remember):
        yield judge


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def without_times(history):
    return [{key: value for key, value in row.items() if key != "time_ms"} for row in history]


class Linear(nn.Module):
    """Two linear layers, whose gradients can be written down; a third is there to be frozen."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(5, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, inputs):
        return self.last(self.frozen(inputs))


def linear():
    torch.manual_seed(1)
    return backbones.Model(Linear(), nn.Linear(4, 3))


def points(num=20, seed=0):
    """Three classes, of which the first has most examples."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, num, p=[0.6, 0.3, 0.1])
    values = torch.from_numpy((random.normal(size=(num, 5)) + labels[:, None]).astype(np.float32))
    return LoadedSplit(lambda indices, level, draws: values[indices], torch.from_numpy(labels), num_draws=0)


LRS = {"backbone.last.weight": 0.02, "backbone.last.bias": 0.02, "head.weight": 0.05, "head.bias": 0.05}
PLAIN = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0, "batch_size": 100,
         "label_smoothing": 0.0, "loss_jump": 1e9}  # fmt: skip
