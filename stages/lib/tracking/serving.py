"""A trained model as an MLflow pyfunc: raw inputs in, predictions out, with the preprocessing of its card.

MLflow copies this file into the model and runs it there ("models from code"), with a copy of stages/ beside it.
"""

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Schema, TensorSpec

from stages.lib.calibration import neighbours, record
from stages.lib.core import cards, datasets, plugins
from stages.lib.networks import backbones

LABEL = "label"  # column of what is known, for models of embeddings
BATCH = 64  # inputs per forward pass; limits the memory and does not affect predictions
# The packages that the code packaged with the model imports, besides those of its modality and its task.
PACKAGES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "timm", "torch", "torchvision")


class Served(PythonModel):
    """Predicts on the CPU in float32, in evaluation mode."""

    def load_context(self, context: Any) -> None:
        """Load the weights once; MLflow requires the argument name `context`."""
        tensors, self.card = cards.read_model(Path(context.artifacts["model"]))
        self.model = backbones.trained(tensors, self.card.architecture, self.card.num_outputs)
        files = [Path(context.artifacts[name]) for name in (record.FILE, record.BANK) if name in context.artifacts]
        self.calibration = record.of_files(files[0], files[1], self.card) if files else None

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict each cell of the modality's column (`image`, for images).

        For a model of embeddings, rows with text in the column `label` (if there is one) are known: the support set of few shots,
        or a gallery of people. The other rows are answered by comparing them with these.

        Returns:
            One row per input (per input that is not known), with the columns that the task defines: for classes `label`, its
            `probability`, and `p_<class>` for every class; and those of the calibration (record.columns), if there is one.

        Raises:
            MlflowException: a row cannot be read; the text names the row.
        """
        if compares(self.card) and LABEL in model_input and (known := model_input[LABEL].map(_known)).any():
            embeddings = self.predict(context, model_input.drop(columns=LABEL))
            answers = identified(self.card, embeddings[known], model_input[LABEL][known].tolist(), embeddings[~known])
            return answers.set_index(model_input.index[~known])
        served = self._part("modalities", "served")
        measures, predictions = self._part("tasks", "measures"), self._part("tasks", "outputs").predictions
        column = list(model_input[served.COLUMN])
        tables = []
        for start in range(0, len(column), BATCH):
            given, features, outputs = self._outputs(column[start : start + BATCH], start)
            found = predictions(outputs)
            columns = measures.served(found, self.card.output_names, given)
            if self.calibration:
                _, bank = self.calibration
                far = neighbours.distances(features, bank, self.calibration.record.neighbours).numpy()
                columns = record.columns(self.calibration, self.card, found, far, columns)
            tables.append(pd.DataFrame(columns))
        if not tables:
            tables = [pd.DataFrame(empty(self.card, self.calibration)).iloc[:0]]
        return pd.concat(tables).set_index(model_input.index)

    def _outputs(self, cells: list[Any], first: int) -> tuple[list[Any], torch.Tensor, torch.Tensor]:
        """Decoded inputs, features and outputs (n, ...) for cells; the first cell is in row `first`."""
        inputs, how = self._part("modalities", "inputs"), self.card.how
        keywords = inspect.signature(inputs.pack).parameters.values()
        packing = {each.name: how[each.name] for each in keywords if each.kind is each.KEYWORD_ONLY}
        decoded = [self._receive(cell, row) for row, cell in enumerate(cells, first)]
        packed = [inputs.pack(each, **packing) for each in decoded]
        split = datasets.in_memory(packed, plugins.load("modalities", self.card.modality).RAGGED)
        loaded = inputs.load(split, torch.zeros(len(cells)), how, torch.device("cpu"))
        with torch.inference_mode():
            features, outputs = self.model.both(loaded.inputs(torch.arange(len(cells)), "none", None))
        return decoded, features.float(), outputs.float()

    def _receive(self, cell: Any, row: int) -> Any:
        served = self._part("modalities", "served")
        try:
            return served.receive(cell)
        except Exception as error:
            raise MlflowException.invalid_parameter_value(
                f"Row {row} of `{served.COLUMN}` cannot be read ({error}). Allowed: {served.ALLOWED}."
            ) from None

    def _part(self, kind: str, part: str) -> Any:
        return plugins.load(kind, self.card.modality if kind == "modalities" else self.card.trained_for, part)


def compares(card: cards.ModelCard) -> bool:
    """Whether a model's answers can be compared with known examples."""
    return plugins.has("tasks", card.trained_for, "gallery")


def identified(card: cards.ModelCard, known: pd.DataFrame, labels: list[str], asked: pd.DataFrame) -> pd.DataFrame:
    """The columns of the task's answers (N,), from the embeddings of the known examples (M, D), their labels and those of the new
    ones (N, D)."""
    identify = plugins.load("tasks", card.trained_for, "gallery").identified
    own = plugins.taken(identify, {"threshold": card.best.get("val_threshold")})
    return pd.DataFrame(identify(known.to_numpy(), labels, asked.to_numpy(), **own))


def _known(label: Any) -> bool:
    return isinstance(label, str) and label != ""


def empty(card: cards.ModelCard, calibration: record.Calibration | None) -> dict[str, Any]:
    """The columns of an answer, to nothing."""
    measures, last = (plugins.load("tasks", card.trained_for, part) for part in ("measures", "outputs"))
    steps = () if plugins.load("tasks", card.trained_for).PER == "example" else (1,)
    outputs = torch.zeros(1, *steps, card.num_outputs)
    found = last.predictions(outputs)
    columns: dict[str, Any] = measures.served(found, card.output_names, [""])
    return record.columns(calibration, card, found, np.zeros(1), columns) if calibration else columns


def _type(values: Any) -> Any:
    """MLflow's type of a column."""
    if isinstance(values, list):  # of lists of names
        return Array(DataType.string)
    return DataType.string if np.asarray(values).dtype == object else DataType.float


def package(folder: Path) -> dict[str, Any]:
    """Keyword arguments of mlflow.pyfunc.save_model and log_model for the model in `folder`, with its calibration if it has one.

    The input is declared as "any", because a specific type would accept only one of bytes, text and arrays. The requirements
    are listed, because inferring them takes MLflow seconds and a second copy of the model.
    """
    card = cards.read_model_card(folder)
    served = plugins.load("modalities", card.modality, "served")
    doors = plugins.load("modalities", card.modality), plugins.load("tasks", card.trained_for)
    packages = sorted({*PACKAGES, *(name for door in doors for name in getattr(door, "PACKAGES", ()))})
    known = [ColSpec("string", LABEL, required=False)] if compares(card) else []
    calibration = record.of_model(folder, card)
    files = record.files(folder) if calibration else None
    beside = {path.name: path.as_uri() for path in files or ()}
    outputs: list[ColSpec | TensorSpec] = [ColSpec(_type(values), name) for name, values in empty(card, calibration).items()]
    return {
        "python_model": str(Path(__file__).resolve()),
        "artifacts": {"model": folder.resolve().as_uri(), **beside},  # of a path MLflow would decode %20
        "code_paths": [str(Path(__file__).resolve().parents[2])],
        "pip_requirements": [f"{name}=={version(name).partition('+')[0]}" for name in packages],  # no "+cu128": not on PyPI
        "input_example": pd.DataFrame({served.COLUMN: [served.example(card.how)]}),
        "signature": ModelSignature(Schema([ColSpec(AnyType(), served.COLUMN), *known]), Schema(outputs)),
    }


set_model(Served())
