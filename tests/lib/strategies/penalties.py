"""What the tests of the penalties share: tiny networks with their start, and examples."""

import copy
from contextlib import contextmanager

import torch
from torch import distributed

from stages.lib.networks import backbones
from stages.lib.tasks.classify.learning import loss
from tests.tiny import PX, noise


def pair(name="test_resnet"):
    """A tiny network in evaluation mode, where it computes what its start does, and a frozen copy of it."""
    torch.manual_seed(0)
    model = backbones.build({"library": "timm", "model": name}, 2).eval()
    return model, copy.deepcopy(model).requires_grad_(False)


def shift(model, size=0.02):
    """Move every parameter a little."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))


def examples(name="test_resnet", num=6):
    return noise(num, seed=2, px=PX[name], distance=0)


def images_of(train):
    return train.inputs(torch.arange(len(train.targets)), "none", None)


def traces(*models):
    """Names of modules that still have a hook, or a forward of their own."""
    return [
        name
        for model in models
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


def trained(attach, steps=3, name="test_resnet", wrap=lambda model: model, progress=None):
    """All tensors after a few steps of SGD on the penalty and the loss, in training mode.

    progress: of the training, for penalties on unlabelled inputs.
    """
    given = () if progress is None else (progress,)
    torch.use_deterministic_algorithms(True)
    (model, start), train = pair(name), examples(name)
    model.train()
    network = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with attach(model, start, train, loss) as compute:
        for _ in range(steps):
            mean = loss(network(images_of(train)), train.targets).mean()
            (mean + compute(images_of(train), *given)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


@contextmanager
def process_group():
    """A group of this process alone, as DistributedDataParallel needs it."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()
