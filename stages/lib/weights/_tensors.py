"""Read weights files safely and convert them to a Source."""

import io
import pickle
from typing import TYPE_CHECKING

from stages.lib.core.contracts import Source
from stages.lib.errors import UserError
from stages.lib.params.fields import Architecture, Strict

if TYPE_CHECKING:
    import torch


def read(content: bytes, name: str, origin: str, by_order: bool, architecture: Architecture, preprocessing: Strict) -> Source:
    """A Source from the bytes of a weights file.

    Args:
        content: the file's bytes.
        name: its name; the extension tells the format.
        origin: where it came from, for the card.
        by_order: match the tensors by order, because the file uses other names.

    Raises:
        UserError: the file is not a weights file, would run code when loaded, or does not fit the architecture.
    """
    from stages.lib.networks.backbones import from_library

    state = _tensors(content, name)
    network = architecture.model_dump()
    return Source(network, from_library(network, state, by_order), preprocessing.model_dump(), None, origin)


def _tensors(content: bytes, name: str) -> "dict[str, torch.Tensor]":
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if name.endswith(".safetensors"):
            return load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{name} cannot be read as weights: {(str(error) or 'it is empty').splitlines()[0]}. "
            "Allowed: .safetensors, or a file of torch.save that holds tensors alone "
            "(a whole pickled model can run code when loaded, so it is refused)."
        ) from None
    for wrapper in ("state_dict", "model", "model_state"):  # training scripts often wrap the tensors
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    wrong = [key for key, value in state.items() if not isinstance(value, torch.Tensor)] if isinstance(state, dict) else ["all"]
    if wrong:
        raise UserError(f"{name} holds something other than named tensors ({', '.join(map(str, wrong[:5]))}).")
    return {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel adds the prefix
