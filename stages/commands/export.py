"""Export a trained model to ONNX or torch.export, to run without this code: python -m stages export FILE [--model FOLDER]

FILE ends in .onnx (ONNX Runtime, other languages) or .pt2 (torch.export.load). The exported network takes packed inputs (for
images uint8 (N, px, px, 3), resized as the model's card says), normalises them itself and returns predictions (for classes
probabilities (N, classes)). Classes and preprocessing are stored in the file. The file is written only if its predictions agree
with the model's to within 1e-4.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.commands.predict import shipped
from stages.lib.core import cards, plugins
from stages.lib.core.cards import ModelCard
from stages.lib.errors import UserError

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-4  # of a prediction: other kernels round differently
KINDS = (".onnx", ".pt2")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages export", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("file", type=Path, help="ends in .onnx or .pt2")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    asked = parser.parse_args(words)
    if asked.file.suffix not in KINDS:
        raise UserError(f"{asked.file}: the name must end in {' or '.join(KINDS)}.")
    tensors, card = cards.read_model(asked.model or shipped())
    if not plugins.has("modalities", card.modality, "standalone"):
        raise UserError(f"{card.name} cannot be exported: the modality {card.modality} has no network that stands alone.")
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    part = asked.file.with_name(f".{asked.file.name}.part{asked.file.suffix}")
    try:
        worst = export(tensors, card, part)
        if worst > TOLERANCE:
            raise UserError(
                f"The exported model's predictions differ from the original's by up to {worst:.2g}; nothing was written."
            )
        part.replace(asked.file)
    finally:
        part.unlink(missing_ok=True)
    print(f"{asked.file}: {asked.file.stat().st_size / 1e6:.1f} MB, answers as the model does (largest difference {worst:.1g})")


def export(tensors: "dict[str, torch.Tensor]", card: ModelCard, path: Path) -> float:
    """Write one model, read it back, and compare its predictions with the model's.

    Args:
        tensors: of the whole network.
        card: the model's card.
        path: of the file; its suffix is one of KINDS.

    Returns:
        The largest difference between predictions, on a batch of one input and on a batch of several.
    """
    import torch

    from stages.lib.networks import backbones

    standalone = plugins.load("modalities", card.modality, "standalone")
    activation = plugins.load("tasks", card.trained_for, "measures").activation
    model = backbones.trained(tensors, card.architecture, card.num_outputs)
    network = standalone.network(model, card.preprocessing, activation).eval()
    about = {name: getattr(card, name) for name in ("name", "task", "preprocessing", "chain", "licences", "sha256")}
    about["classes"] = card.output_names
    write = _onnx if path.suffix == ".onnx" else _pt2
    answer = write(network, standalone.examples(card.preprocessing, 2), json.dumps(about, ensure_ascii=False), path)
    differences = []
    for num in (1, 5):
        packed = standalone.examples(card.preprocessing, num)
        with torch.inference_mode():
            expected = network(packed).numpy()
        differences.append(float(np.abs(answer(packed.numpy()) - expected).max()))
    return max(differences)


def _onnx(network: "torch.nn.Module", example: "torch.Tensor", about: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnx
    import onnxruntime
    import torch

    program = torch.onnx.export(
        network, (example,), dynamo=True, input_names=["inputs"], output_names=["predictions"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False,
    )  # fmt: skip
    assert program is not None, "dynamo=True gives a program"
    model = program.model_proto
    model.metadata_props.append(onnx.StringStringEntryProto(key="card", value=about))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda packed: session.run(None, {"inputs": packed})[0]


def _pt2(network: "torch.nn.Module", example: "torch.Tensor", about: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={"card.json": about})
    loaded = torch.export.load(path).module()
    return lambda packed: loaded(torch.from_numpy(packed)).detach().numpy()
