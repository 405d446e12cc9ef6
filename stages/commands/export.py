"""Export a trained model to ONNX or torch.export, to run without this code: python -m stages export FILE [--model FOLDER]

FILE ends in .onnx (ONNX Runtime, other languages) or .pt2 (torch.export.load). The exported network takes what `standalone` of
the modality says (images: uint8 (N, px, px, 3), resized as the model's card says; texts: pieces of the tokenizer, which is
written beside FILE) and returns predictions (for classes probabilities (N, classes)) and, if the model is calibrated, the
distance (N,) to the training data. Classes, preprocessing and the calibration (threshold, limits of the sets and of the distance)
are stored in the file. It is written only if its outputs agree with the model's to within 1e-4.
"""

import argparse
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.commands.predict import require_answers, shipped
from stages.lib.calibration import record
from stages.lib.calibration.record import Calibration
from stages.lib.core import cards, licences, plugins, runs
from stages.lib.core.cards import ModelCard
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.tracking import registry

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
    folder = asked.model or shipped()
    tensors, card = cards.read_model(folder)
    require_answers(card)
    require_use(card)
    if not plugins.has("modalities", card.modality, "standalone"):
        raise UserError(f"{card.name} cannot be exported: the modality {card.modality} has no network that stands alone.")
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    part = asked.file.with_name(f".{asked.file.name}.part{asked.file.suffix}")
    try:
        worst = export(tensors, card, record.of_model(folder, card), part)
        if worst > TOLERANCE:
            raise UserError(
                f"The exported model's predictions differ from the original's by up to {worst:.2g}; nothing was written."
            )
        part.replace(asked.file)
    finally:
        part.unlink(missing_ok=True)
    for name, content in card.contents.items():
        beside = asked.file.with_suffix(f".{name}")
        beside.write_bytes(content)
        print(f"{beside}: what makes its inputs")
    about = runs.REPORT.with_name(registry.CARD)
    if asked.model is None and about.exists():  # it is of the model to ship
        shutil.copyfile(about, asked.file.with_suffix(".md"))
        print(f"{asked.file.with_suffix('.md')}: what to know before using it")
    print(f"licences: {licences.use(card.licences)}")
    print(f"{asked.file}: {asked.file.stat().st_size / 1e6:.1f} MB, answers as the model does (largest difference {worst:.1g})")


def require_use(card: ModelCard) -> None:
    """A UserError if a model's licences, perhaps others than those of params.yaml, do not allow what `checks.use` asks for."""
    if not params.PATH.exists():
        return
    asked: licences.Asked = params.load("checks").checks.use
    found = licences.use(card.licences)
    if found.answer not in licences.ALLOWED[asked]:
        raise UserError(f"{card.name}: {found}. The params ask for {asked} use (checks.use), so it is not exported.")


def export(tensors: "dict[str, torch.Tensor]", card: ModelCard, calibration: Calibration | None, path: Path) -> float:
    """Write one model, read it back, and compare its predictions with the model's.

    Args:
        tensors: of the whole network.
        card: the model's card.
        calibration: if it has one: the distance to the training data becomes a second output.
        path: of the file; its suffix is one of KINDS.

    Returns:
        The largest difference between predictions, on a batch of one input and on a batch of several.
    """
    import torch

    from stages.lib.calibration import neighbours
    from stages.lib.networks import backbones

    standalone = plugins.load("modalities", card.modality, "standalone")
    activation = plugins.load("tasks", card.trained_for, "outputs").activation
    model = backbones.trained(tensors, card.architecture, card.num_outputs)
    if calibration:  # the network gives two outputs; the activation is for the first
        model = neighbours.WithDistance(model, calibration.bank, calibration.record.neighbours)
    network = standalone.network(model, card.how, _of_first(activation) if calibration else activation).eval()
    about: dict[str, Any] = {
        name: getattr(card, name) for name in ("name", "task", "preprocessing", "chain", "licences", "use", "sha256")
    }
    about["classes"] = card.output_names
    about["calibration"] = calibration.record.model_dump() if calibration else None
    outputs = ["predictions", *(["distance"] if calibration else [])]
    write = _onnx if path.suffix == ".onnx" else _pt2
    names = inspect.signature(network.forward).parameters
    varying = tuple(dict.fromkeys(standalone.VARYING, torch.export.Dim.DYNAMIC) for _ in names)

    def examples(num: int) -> tuple[torch.Tensor, ...]:
        made = standalone.examples(card.how, num)
        return (made,) if isinstance(made, torch.Tensor) else tuple(made)[: len(names)]

    answer = write(network, examples(2), varying, (list(names), outputs), json.dumps(about, ensure_ascii=False), path)
    differences = []
    for num in (1, 5):
        packed = examples(num)
        with torch.inference_mode():
            expected = _each(network(*packed))
        given = answer(*(each.numpy() for each in packed))
        differences += [float(np.abs(a - b.numpy()).max()) for a, b in zip(given, expected, strict=True)]
    return max(differences)


def about(path: Path) -> str:
    """What an .onnx file that was written here says of itself, as JSON."""
    import onnxruntime

    found: str = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map["card"]
    )
    return found


def _each(outputs: Any) -> tuple[Any, ...]:
    """The outputs of a network that has one or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _of_first(activation: Callable[["torch.Tensor"], "torch.Tensor"]) -> Callable[[Any], Any]:
    """The activation of the first of several outputs; the others stay as they are."""
    return lambda outputs: (activation(outputs[0]), *outputs[1:])


def _onnx(
    network: "torch.nn.Module", example: "tuple[torch.Tensor, ...]", varying: Any, names: tuple[list[str], list[str]],
    about: str, path: Path,
) -> Callable[..., tuple[np.ndarray, ...]]:  # fmt: skip
    import onnx
    import onnxruntime
    import torch

    program = torch.onnx.export(
        network, example, dynamo=True, input_names=names[0], output_names=names[1], dynamic_shapes=varying, verbose=False,
    )  # fmt: skip
    assert program is not None, "dynamo=True gives a program"
    model = program.model_proto
    model.metadata_props.append(onnx.StringStringEntryProto(key="card", value=about))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *packed: tuple(session.run(None, dict(zip(names[0], packed, strict=True))))


def _pt2(
    network: "torch.nn.Module", example: "tuple[torch.Tensor, ...]", varying: Any, names: tuple[list[str], list[str]],
    about: str, path: Path,
) -> Callable[..., tuple[np.ndarray, ...]]:  # fmt: skip
    import torch

    program = torch.export.export(network, example, dynamic_shapes=varying)
    torch.export.save(program, path, extra_files={"card.json": about})
    loaded = torch.export.load(path).module()
    return lambda *packed: tuple(each.detach().numpy() for each in _each(loaded(*map(torch.from_numpy, packed))))
