"""Read weights files safely and convert them to a Source."""

import io
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from stages.lib.core import plugins
from stages.lib.core.contracts import Source
from stages.lib.errors import UserError, listed
from stages.lib.params.fields import Architecture, Strict

if TYPE_CHECKING:
    import torch

# Small files that belong to the weights beside which they lie: the network's configuration and the tokenizer.
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the file of weights in a folder in Hugging Face's layout
WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "net_state_dict")  # around the tensors, in training scripts
MOST_NAMES = 20  # of files that a message lists


def read(
    content: bytes, name: str, origin: str, by_order: bool, architecture: Architecture, preprocessing: Strict,
    beside: Mapping[str, bytes] | None = None,
) -> Source:  # fmt: skip
    """A Source from the bytes of a weights file.

    Args:
        content: the file's bytes.
        name: its name; the extension tells the format.
        origin: where it came from, for the card.
        by_order: match the tensors by order, because the file uses other names.
        beside: contents of the files BESIDE it, as far as they are there.

    Raises:
        UserError: the file is not a weights file, would run code when loaded, or does not fit the architecture.
    """
    from stages.lib.networks.backbones import asked_for, from_library

    state, beside = _tensors(content, name), dict(beside or {})
    network = architecture.model_dump()
    library = plugins.load("libraries", architecture.library)
    if hasattr(library, "complete"):
        network = library.complete(network, beside)
    if hasattr(library, "rename"):
        state, left_out = library.rename(state, network)
        if left_out:
            print(f"{name}: left out on purpose, because a new head replaces them: {listed(left_out[:10])}"
                  + (f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""))  # fmt: skip
    network = asked_for(network, "example")
    tensors = from_library(network, state, by_order)
    wrong = [each for each, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise UserError(
            f"{name} holds numbers that are NaN or infinite, in {len(wrong)} of {len(tensors)} tensors: {listed(wrong[:5])}. A "
            "training that diverged leaves such weights; take those of an earlier epoch."
        )
    return Source(network, tensors, preprocessing.model_dump(), None, origin, beside)


def in_folder(there: Collection[str], where: str) -> tuple[str, list[str]]:
    """Of the names of the files in a folder in Hugging Face's layout, that of the weights and those BESIDE it.

    Raises:
        UserError: there are no weights.
    """
    weights = next((name for name in WEIGHTS if name in there), None)
    if weights is None:
        more = f" and {len(there) - MOST_NAMES} more" if len(there) > MOST_NAMES else ""
        files = listed(sorted(there)[:MOST_NAMES]) if there else "none"
        raise UserError(f"{where} has none of {listed(WEIGHTS)}. Files in it: {files}{more}.")
    return weights, [name for name in BESIDE if name in there]


def _tensors(content: bytes, name: str) -> "dict[str, torch.Tensor]":
    import torch
    from safetensors.torch import load

    from stages.lib.formats import ctranslate2, onnx_bert, onnx_int8

    if name.endswith(".onnx"):
        return onnx_int8.tensors(content) if onnx_int8.is_one(content) else onnx_bert.tensors(content)
    if ctranslate2.is_one(content):
        return ctranslate2.tensors(content)
    try:
        if name.endswith(".safetensors"):
            return load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: what is damaged is read until something does not fit
        raise UserError(
            f"{name} cannot be read as weights: {_why(content, error)}. "
            "Allowed: .safetensors, a file of torch.save that holds tensors alone (a whole pickled model can run code when "
            "loaded, so it is refused), a BERT or a file with integer weights as .onnx, or a Whisper as CTranslate2's model.bin."
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    wrong = [key for key, value in state.items() if not isinstance(value, torch.Tensor)] if named else ["all"]
    if wrong:
        raise UserError(f"{name} holds something other than named tensors ({', '.join(map(str, wrong[:5]))}).")
    return {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel adds the prefix


def _why(content: bytes, error: Exception) -> str:
    """What a file is instead of weights. torch's own text advises to load it with code, which would be unsafe."""
    if content.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; get the file itself (git lfs pull)"
    if content.lstrip()[:1] == b"<":
        return "it is a web page; the address of the file itself may be another one"
    if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds an object {refused[1]} besides tensors; save the tensors alone, torch.save(model.state_dict(), FILE)"
    if "TorchScript" in str(error):
        return "it is a program (TorchScript); save the tensors of the model alone, torch.save(model.state_dict(), FILE)"
    if content.startswith(b"PK") and "zip archive" in str(error):
        return "it is cut off or damaged; get it again"
    if "weights_only" in str(error):
        return "it is damaged, or no file of torch.save"
    return str(error).splitlines()[0] if str(error) else "it is empty"
