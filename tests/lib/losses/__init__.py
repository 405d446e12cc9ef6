"""What the tests of the penalties share: tiny networks with their start, and examples."""

import copy
from contextlib import contextmanager

import torch
from torch import distributed

from stages.lib import backbones
from stages.lib.examples import Examples

PX = {"test_resnet": 32, "test_efficientnet": 32, "test_vit": 160}


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
    images = torch.randn(num, 3, PX[name], PX[name], generator=torch.Generator().manual_seed(2))
    return Examples(lambda indices, level, draws: images[indices], torch.arange(num) % 2, num_draws=0)


def images_of(train):
    return train.inputs(torch.arange(len(train.labels)), "none", None)


def traces(*models):
    """Names of modules that still have a hook, or a forward of their own."""
    return [
        name
        for model in models
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


def trained(attach, steps=3, name="test_resnet", wrap=lambda model: model):
    """All tensors after a few steps of SGD on the penalty and the loss, in training mode."""
    torch.use_deterministic_algorithms(True)
    (model, start), train = pair(name), examples(name)
    model.train()
    network = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with attach(model, start, train) as compute:
        for _ in range(steps):
            loss = torch.nn.functional.cross_entropy(network(images_of(train)), train.labels)
            (loss + compute(images_of(train))).backward()
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
