"""Prepared data and models on disk: a folder each, and a card (JSON) that explains it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.errors import UserError


class Split(NamedTuple):
    """One split of a prepared dataset."""

    inputs: np.ndarray  # (N, px, px, 3) uint8, mapped into memory, not read
    labels: np.ndarray  # (N,) int64, indices into the card's classes
    keys: list[str]  # name of each example, unique in its dataset
    groups: np.ndarray | None  # (N,) what each example belongs to (patient, module), or None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a value so that equal values give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a value; a missing or damaged file is a UserError that says how to make it anew."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Make it anew with: dvc repro") from None


def read_table(path: Path, **how: Any) -> pd.DataFrame:
    """Read a .csv file that a stage wrote; a missing one is a UserError that says how to make it anew."""
    try:
        return pd.read_csv(path, **how)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Make it anew with: dvc repro") from None


def write_split(folder: Path, name: str, inputs: Iterable[np.ndarray], table: pd.DataFrame) -> None:
    """Write one split.

    Args:
        folder, name: where, and train, val or test.
        inputs: (px, px, 3) uint8 for each row of the table; written one by one, so that a split need not fit into memory.
        table: with the columns key, label (index) and group.
    """
    with open(folder / f"{name}.npy", "wb") as file:
        for index, array in enumerate(inputs):
            if index == 0:
                header = {"shape": (len(table), *array.shape), "fortran_order": False, "descr": array.dtype.str}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(array.tobytes())
    table[["key", "label", "group"]].to_csv(folder / f"{name}.csv", index=False)


def read_split(folder: Path, name: str) -> Split:
    """Map one split into memory. The test split is for what measures (stages.evaluate), never for training."""
    table = read_table(folder / f"{name}.csv", dtype={"key": str, "label": np.int64, "group": str}, keep_default_na=False)
    groups = None if (table["group"] == "").all() else table["group"].to_numpy()
    try:
        inputs = np.load(folder / f"{name}.npy", mmap_mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder} is not whole ({error}). Make it anew with: dvc repro") from None
    return Split(inputs, table["label"].to_numpy(), table["key"].tolist(), groups)


def write_model(folder: Path, tensors: dict, card: dict) -> None:
    """Write a model: its tensors by name as safetensors, and its card, to which the file's sha256 is added."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / "weights.safetensors")
    write_json(folder / "card.json", card | {"sha256": sha256(folder / "weights.safetensors")})


def read_model(folder: Path) -> tuple[dict, dict]:
    """Read a model's tensors by name, and its card.

    Raises:
        UserError: the weights are missing, or are not those that the card describes.
    """
    from safetensors.torch import load_file

    card = read_json(folder / "card.json")
    weights = folder / "weights.safetensors"
    if not weights.exists() or sha256(weights) != card["sha256"]:
        raise UserError(f"{weights} is missing or is not the file that its card describes. Make it anew with: dvc repro")
    return load_file(weights), card
