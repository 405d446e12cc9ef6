"""Prepared data and models on disk: one folder each, described by a card (JSON)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from stages.lib.errors import UserError

if TYPE_CHECKING:  # imported where they are used: many stages only read a card
    import pandas as pd
    import torch

VERSION: Literal[2] = 2  # of the cards; cards of another version are rejected
AGAIN = "Make it again with: dvc repro"


class Card(BaseModel):
    """The description of a folder; frozen, and no unknown fields are allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[2] = VERSION
    name: str


class DataCard(Card):
    """A prepared dataset."""

    kind: Literal["data"] = "data"
    modality: str
    labels: list[str] | None  # in order, if each example has one of a few labels (split.stratify); else None
    counts: dict[str, dict[str, int]]  # examples per split and label; under "" if labels are not counted
    packing: dict[str, Any]  # the keyword arguments of the modality's `pack`
    preprocessing_of: str  # the source whose card defines the preprocessing
    licence: str
    reader: str
    settings: dict[str, Any]  # its block of params.yaml
    given_splits: list[str]  # the splits that came with the data
    broken: list[dict[str, str]]  # key and reason of each example that cannot be read
    duplicates_dropped: list[dict[str, str]]
    notes: list[str]  # what packing changed, in words: texts that were cut
    sha256: dict[str, str]  # of each file

    def num(self, split: str) -> int:
        """Examples of a split."""
        return sum(self.counts[split].values())


class Parent(BaseModel):
    """The model that a training started from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str


class ModelCard(Card):
    """A source, or a trained model."""

    kind: Literal["source", "intermediate", "target", "alternative", "scratch"]
    modality: str
    task: str | None = None  # what it was trained for; None for a source
    architecture: dict[str, Any]  # library, model and, once trained, head
    preprocessing: dict[str, Any]  # how inputs were preprocessed when it was trained
    output_names: list[str] | None  # what its outputs mean (classes), if known
    pretrained: bool = True  # False for a source with random weights
    origin: str | None = None  # for a source: where its weights came from
    code: str  # hash of its plug-ins' code
    parent: Parent | None = None
    chain: list[str]  # names from the source to this model
    data: str | None = None  # the dataset of its own training
    settings: dict[str, Any] = {}  # strategy, hyperparameters, options and seed of its own training
    licences: list[str]  # of the data, the weights and the code of the network, of the whole chain
    use: str = "unknown"  # what they allow (stages.lib.core.licences)
    deterministic: bool = True  # whether the same machine trains the same bits again (device.deterministic)
    best: dict[str, float] = {}  # best epoch, and its metrics on validation
    sha256: str = ""  # of weights.safetensors
    files: dict[str, str] = {}  # sha256 of the files beside the weights that its preprocessing needs (tokenizer.json)

    _folder: Path = PrivateAttr(default=Path())

    @property
    def how(self) -> dict[str, Any]:
        """The preprocessing as the modality takes it: with the `folder` of its files, if there are any."""
        return self.preprocessing | ({"folder": str(self._folder)} if self.files else {})

    @property
    def contents(self) -> dict[str, bytes]:
        """The contents of these files; a UserError if one is missing or not the file that the card describes."""
        found = {}
        for name, digest in self.files.items():
            path = self._folder / name
            if not path.is_file() or sha256(path) != digest:
                raise UserError(f"{path} is missing, or is not the file that its card describes. {AGAIN}")
            found[name] = path.read_bytes()
        return found

    @property
    def trained_for(self) -> str:
        """The task of a trained model; a UserError for a source, which has no task."""
        if self.task is None:
            raise UserError(
                f"{self.name} is a source and not trained for a task. Allowed: a model like models/target/<init>-<seed>."
            )
        return self.task

    @property
    def ancestors(self) -> list[str]:
        """The models from the source to the one that it was trained from."""
        return self.chain[:-1]

    @property
    def hops(self) -> list[str]:
        """The hops between the source and this training."""
        return self.chain[1:-1]

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a trained model's head."""
        return len(self.output_names or [])


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_split(card: DataCard, split: str) -> str:
    """A sha256 of a split's files, from those on the card."""
    files = {name: digest for name, digest in card.sha256.items() if name.startswith(f"{split}/")}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a value so that equal values give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a value; a missing or damaged file raises a UserError that says how to recreate it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). {AGAIN}") from None


def rounded(value: Any) -> Any:
    """Round to six digits: finer than any test set resolves, coarser than the effect of summation order. NaN becomes null."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def read_table(path: Path, **how: Any) -> pd.DataFrame:
    """Read a .csv file that a stage wrote; a missing one raises a UserError that says how to recreate it."""
    import pandas as pd

    try:
        return pd.read_csv(path, **how)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {AGAIN}") from None


def read_data_card(folder: Path) -> DataCard:
    """The card of a prepared dataset."""
    return parsed(folder / "card.json", DataCard)


def read_model_card(folder: Path) -> ModelCard:
    """The card of a source or of a trained model."""
    card = parsed(folder / "card.json", ModelCard)
    card._folder = folder
    return card


def write_data_card(folder: Path, card: DataCard) -> None:
    """Write the card of a prepared dataset."""
    write_json(folder / "card.json", card.model_dump())


def parsed(path: Path, kind: type[AnyModel]) -> AnyModel:
    """Read a file that a stage wrote as a typed record; a UserError if another version of the code wrote it."""
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path} was not written by this version of the code ({where}). {AGAIN}") from None


def write_model(
    folder: Path, tensors: dict[str, torch.Tensor], card: ModelCard, files: Mapping[str, bytes] | None = None
) -> ModelCard:
    """Write a model: its tensors by name as safetensors, the files that its preprocessing needs, and its card with their
    sha256, which is returned."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    save_file(_to_save(tensors), folder / "weights.safetensors")
    digests = {name: sha256(folder / name) for name in files or {}}
    card = card.model_copy(update={"sha256": sha256(folder / "weights.safetensors"), "files": digests})
    write_json(folder / "card.json", card.model_dump())
    return card


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """The sha256 that the weights would have as a file."""
    from safetensors.torch import save

    return hashlib.sha256(save(_to_save(tensors))).hexdigest()


def _to_save(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def read_model(folder: Path) -> tuple[dict[str, torch.Tensor], ModelCard]:
    """Read a model's tensors by name, and its card.

    Raises:
        UserError: the weights are missing or do not match the card.
    """
    from safetensors.torch import load_file

    card = read_model_card(folder)
    weights = folder / "weights.safetensors"
    if not weights.exists() or sha256(weights) != card.sha256:
        raise UserError(f"{weights} is missing, or is not the file that its card describes. {AGAIN}")
    _ = card.contents  # are they complete?
    return load_file(weights), card
