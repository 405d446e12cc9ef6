"""What is frozen stays frozen: no gradient, and no statistics or dropout of training either."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def set_modes(module: nn.Module, statistics: bool, training: bool = True) -> None:
    """Put what is trained into training mode and what is frozen into evaluation mode.

    requires_grad=False does not stop BatchNorm's running statistics, nor dropout, which both act in training mode.
    A module without parameters of its own goes with the module that holds it.

    Args:
        statistics: whether normalisations that are trained follow the batches, or keep the running statistics that they have.
    """
    parameters = list(module.parameters())
    training = any(parameter.requires_grad for parameter in parameters) if parameters else training
    module.training = training and (statistics or not isinstance(module, _NormBase))
    for child in module.children():
        set_modes(child, statistics, training)


def freeze(model: nn.Module, trainable: set[str], statistics: bool) -> None:
    """Make exactly the named parameters trainable; `statistics` as for `set_modes`.

    Raises:
        KeyError: a name that the model does not have.
    """
    unknown = trainable - dict(model.named_parameters()).keys()
    if unknown:
        raise KeyError(f"not in the model: {', '.join(sorted(unknown))}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
    set_modes(model, statistics)
