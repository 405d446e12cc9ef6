"""Write a trained model in a form that needs none of this code: python -m stages.commands.export FILE [--model FOLDER]

FILE ends in .onnx (ONNX Runtime, other languages) or .pt2 (torch.export.load). The exported network takes images as uint8
(N, px, px, 3), resized as the model's card says, normalises them itself and gives probabilities (N, classes). Its classes and
preprocessing are inside the file. It is written only if it answers as the model does, to 1e-4.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from stages.lib.command import in_words

from stages.commands.predict import shipped
from stages.lib import artifacts
from stages.lib.errors import UserError

TOLERANCE = 1e-4  # of a probability: other kernels round otherwise
KINDS = (".onnx", ".pt2")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages.commands.export", description=__doc__.partition(":")[0])
    parser.add_argument("file", type=Path, help="ends in .onnx or .pt2")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    asked = parser.parse_args(words)
    if asked.file.suffix not in KINDS:
        raise UserError(f"{asked.file}: the name must end in {' or '.join(KINDS)}.")
    tensors, card = artifacts.read_model(asked.model or shipped())
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    part = asked.file.with_name(f".{asked.file.name}.part{asked.file.suffix}")
    try:
        worst = export(tensors, card, part)
        if worst > TOLERANCE:
            raise UserError(
                f"The export answers otherwise than the model: a probability is off by {worst:.2g}. Nothing was written."
            )
        part.replace(asked.file)
    finally:
        part.unlink(missing_ok=True)
    print(f"{asked.file}: {asked.file.stat().st_size / 1e6:.1f} MB, answers as the model does (largest difference {worst:.1g})")


def export(tensors: dict, card: dict, path: Path) -> float:
    """Write one model, read it again, and hold its answers against the model's.

    Args:
        tensors: of the whole network, and `card`, what they are.
        path: of the file; its suffix is one of KINDS.

    Returns:
        The largest difference of a probability, on batches of one and of several images.
    """
    import torch

    network = standalone(tensors, card)
    px = card["preprocessing"]["px"]
    example = torch.zeros(2, px, px, 3, dtype=torch.uint8)
    about = {name: card[name] for name in ("name", "classes", "preprocessing", "chain", "licences", "sha256")}
    answer = (_onnx if path.suffix == ".onnx" else _pt2)(network, example, json.dumps(about, ensure_ascii=False), path)
    differences = []
    for num in (1, 5):
        images = np.random.default_rng(num).integers(0, 256, (num, px, px, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        differences.append(float(np.abs(answer(images) - expected).max()))
    return max(differences)


def standalone(tensors: dict, card: dict):
    """The network from pixels to probabilities, in evaluation mode."""
    import torch

    from stages.lib import backbones, images

    class Standalone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = backbones.build(card["architecture"], len(card["classes"]))
            self.model.load_state_dict(tensors)

        def forward(self, pixels):
            how = card["preprocessing"]
            return self.model(images.to_network(pixels, how["mean"], how["std"]).contiguous()).softmax(1)

    return Standalone().eval()


def _onnx(network, example, about: str, path: Path):
    import onnx
    import onnxruntime
    import torch

    program = torch.onnx.export(
        network, (example,), dynamo=True, input_names=["images"], output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False,
    )  # fmt: skip
    model = program.model_proto
    model.metadata_props.append(onnx.StringStringEntryProto(key="card", value=about))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _pt2(network, example, about: str, path: Path):
    import torch

    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={"card.json": about})
    loaded = torch.export.load(path).module()
    return lambda images: loaded(torch.from_numpy(images)).detach().numpy()


if __name__ == "__main__":
    with in_words():
        main(sys.argv[1:])
