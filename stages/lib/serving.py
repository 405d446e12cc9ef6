"""A trained model as an MLflow pyfunc: images in, labels and probabilities out, prepared as its card says.

MLflow copies this file into the model and runs it there ("models from code"), with a copy of stages/ beside it.
"""

import base64
import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types.schema import AnyType, ColSpec, Schema
from PIL import Image

from stages.lib import artifacts, backbones, images

BATCH = 64  # images on their way through the network at once; bounds the memory, not the answer
# What the code that travels with the model imports.
PACKAGES = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "timm", "torch", "torchvision")


class Classifier(PythonModel):
    """Answers on the CPU in float32, in evaluation mode."""

    def load_context(self, context) -> None:
        """Load the weights once; MLflow wants the argument to be called `context`."""
        tensors, self.card = artifacts.read_model(Path(context.artifacts["model"]))
        self.model = backbones.build(self.card["architecture"], len(self.card["classes"]))
        self.model.load_state_dict(tensors)
        self.model.eval()

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        """Classify the images in the column `image`.

        Returns:
            A row for each image: `label`, its `probability`, and `p_<class>` for every class.

        Raises:
            MlflowException: a row holds no image; the text names the row.
        """
        how = self.card["preprocessing"]
        geometry = {name: how[name] for name in ("px", "fit", "crop_pct", "interpolation")}
        column = list(model_input["image"])
        answers = [np.zeros((0, len(self.card["classes"])), np.float32)]
        for start in range(0, len(column), BATCH):
            rows = enumerate(column[start : start + BATCH], start)
            packed = np.stack([images.resize(decode(value, row), **geometry) for row, value in rows])
            with torch.inference_mode():
                logits = self.model(images.to_network(torch.from_numpy(packed), how["mean"], how["std"]))
            answers.append(logits.float().softmax(1).numpy())
        probabilities = np.concatenate(answers)
        labels = np.array(self.card["classes"], dtype=object)[probabilities.argmax(1)]
        table = {"label": labels, "probability": probabilities.max(1)}
        table |= {f"p_{name}": probabilities[:, index] for index, name in enumerate(self.card["classes"])}
        return pd.DataFrame(table, index=model_input.index)


def decode(value: Any, row: int) -> Image.Image:
    """One cell of the column `image`: the bytes of an image file, their base64 text, or pixels.

    Args:
        value: bytes, str, or whole numbers from 0 to 255 as an array or nested lists, (H, W, 3) or (H, W).
        row: where it stands, for the message.
    """
    try:
        if isinstance(value, str):
            value = base64.b64decode("".join(value.split()), validate=True)  # some encoders break lines
        if isinstance(value, bytes | bytearray | memoryview):
            return images.decode(bytes(value))
        pixels = np.asarray(value)
        shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        if not shaped or pixels.size == 0 or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(f"{type(value).__name__} of shape {pixels.shape} and type {pixels.dtype}")
        return images.decode(Image.fromarray(pixels.astype(np.uint8)))
    except Exception as error:
        raise MlflowException.invalid_parameter_value(
            f"Row {row} of `image` is not an image that can be read ({error}). Allowed: the bytes of an image file "
            "(JPEG, PNG, ...), the same as base64 text, or whole numbers from 0 to 255 of shape (H, W, 3) or (H, W)."
        ) from None


def package(folder: Path) -> dict[str, Any]:
    """Keyword arguments of mlflow.pyfunc.save_model and log_model for the model in `folder`.

    The input is declared as "any": a declared type would let through only one of bytes, text and arrays. The
    requirements are named because inferring them takes MLflow seconds and a second copy of the model.
    """
    card = artifacts.read_json(folder / "card.json")
    classes, px = card["classes"], card["preprocessing"]["px"]
    example = io.BytesIO()
    Image.new("L", (px, px), 128).save(example, "PNG")
    outputs = [ColSpec("string", "label"), ColSpec("float", "probability")] + [ColSpec("float", f"p_{name}") for name in classes]
    return {
        "python_model": str(Path(__file__).resolve()),
        "artifacts": {"model": str(folder.resolve())},
        "code_paths": [str(Path(__file__).resolve().parents[1])],
        "pip_requirements": [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES],  # no "+cu128": not on PyPI
        "input_example": pd.DataFrame({"image": [base64.b64encode(example.getvalue()).decode()]}),  # JSON holds no bytes
        "signature": ModelSignature(Schema([ColSpec(AnyType(), "image")]), Schema(outputs)),
    }


set_model(Classifier())
