"""Complete freezing: no gradients, no updates of running statistics, and no dropout."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def set_modes(module: nn.Module, statistics: bool, training: bool = True) -> None:
    """Put trained modules into training mode and frozen ones into evaluation mode.

    requires_grad=False stops neither BatchNorm's running statistics nor dropout: both depend on the mode.
    A module without parameters follows the module that contains it.

    Args:
        statistics: whether trained normalisation layers use batch statistics; if not, they keep their running statistics.
    """
    parameters = list(module.parameters())
    training = any(parameter.requires_grad for parameter in parameters) if parameters else training
    module.training = training and (statistics or not isinstance(module, _NormBase))
    for child in module.children():
        set_modes(child, statistics, training)


def freeze(model: nn.Module, trainable: set[str], statistics: bool) -> None:
    """Make exactly the named parameters trainable; `statistics` as for `set_modes`.

    Raises:
        KeyError: the model has no parameter of that name.
    """
    unknown = trainable - dict(model.named_parameters()).keys()
    if unknown:
        raise KeyError(f"not in the model: {', '.join(sorted(unknown))}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
    set_modes(model, statistics)
