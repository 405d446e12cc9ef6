"""The splits of a prepared dataset on disk: one folder each, memory-mapped."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from stages.lib.core import cards
from stages.lib.errors import UserError

EPISODES = "episodes.npz"  # of a split, if it has some


class Episodes(NamedTuple):
    """Few-shot episodes of a split: rows of its examples. Episodes of fewer classes or shots are parts of these."""

    ways: list[int]  # numbers of classes that are measured
    shots: list[int]  # numbers of support examples of each class that are measured
    support: np.ndarray  # (E, most classes, most shots)
    queries: np.ndarray  # (E, most classes, queries of each class)

    def part(self, way: int, shot: int) -> tuple[np.ndarray, np.ndarray]:
        """The support (E, way, shot) and the queries (E, way, queries): the first classes, and the first shots of each."""
        return self.support[:, :way, :shot], self.queries[:, :way]


class PackedSplit(NamedTuple):
    """One split of a prepared dataset, as stored on disk."""

    inputs: np.ndarray  # (N, ...) memory-mapped; if ragged, the rows of all examples, concatenated
    offsets: np.ndarray | None  # (N + 1,) where each example begins and ends in `inputs`; None if all have the same shape
    labels: list[str]  # as the reader gave them
    keys: list[str]  # name of each example, unique within its dataset
    groups: np.ndarray | None  # (N,) what each example belongs to (patient, module), or None
    episodes: Episodes | None = None  # of a test that is measured by episodes

    def rows(self, indices: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Some of the inputs: (n, ...), or a list of arrays if they are ragged."""
        if self.offsets is None:
            same_shape: np.ndarray = self.inputs[indices]
            return same_shape
        return [self.inputs[self.offsets[index] : self.offsets[index + 1]] for index in indices]


class Fingerprints(NamedTuple):
    """What tells whether two examples are the same, of each example of a split, in its order; no labels."""

    keys: list[str]
    digests: list[str]  # equal for equal content
    small: np.ndarray | None  # (N, ...) what near-duplicates are found by, if the modality knows them


def in_memory(inputs: Sequence[np.ndarray], ragged: bool) -> PackedSplit:
    """Packed inputs held in memory, without labels."""
    offsets = np.cumsum([0, *map(len, inputs)]) if ragged else None
    joined = np.concatenate(inputs) if ragged else np.stack(inputs)
    return PackedSplit(joined, offsets, [""] * len(inputs), [str(row) for row in range(len(inputs))], None)


def write_split(
    folder: Path, name: str, inputs: Iterable[np.ndarray], table: pd.DataFrame, lengths: Sequence[int] | None = None
) -> None:
    """Write one split to its own folder.

    Args:
        folder: of the dataset.
        name: train, val or test.
        inputs: one array per row of the table, all of the same type and shape; written one at a time, so a split need not fit
            into memory.
        table: with the columns key, label and group.
        lengths: of the first axis of each input, if they differ; offsets.npy then says where each begins.
    """
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "inputs.npy", "wb") as file:
        for index, array in enumerate(inputs):
            if index == 0:
                shape = (len(table), *array.shape) if lengths is None else (sum(lengths), *array.shape[1:])
                header = {"shape": shape, "fortran_order": False, "descr": array.dtype.str}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(array.tobytes())
    if lengths is not None:
        np.save(out / "offsets.npy", np.cumsum([0, *lengths]))
    table[["key", "label", "group"]].to_csv(out / "table.csv", index=False)


def read_inputs(folder: Path, name: str) -> PackedSplit:
    """Memory-map the inputs of one split and nothing else, for trainings that must not see its labels; all of the same shape."""
    try:
        return PackedSplit(np.load(folder / name / "inputs.npy", mmap_mode="r"), None, [], [], None)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UserError(f"{folder / name} is not complete ({error}). {cards.AGAIN}") from None


def read_split(folder: Path, name: str) -> PackedSplit:
    """Memory-map one split. The test split is for evaluation only (stages.lib.evaluation), never for training."""
    part = folder / name
    table = cards.read_table(part / "table.csv", dtype=str, keep_default_na=False)
    groups = None if (table["group"] == "").all() else table["group"].to_numpy()
    try:
        inputs = np.load(part / "inputs.npy", mmap_mode="r")
        offsets = np.load(part / "offsets.npy") if (part / "offsets.npy").exists() else None
        episodes = _read_episodes(part / EPISODES) if (part / EPISODES).exists() else None
    except (FileNotFoundError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{part} is not complete ({error}). {cards.AGAIN}") from None
    return PackedSplit(inputs, offsets, table["label"].tolist(), table["key"].tolist(), groups, episodes)


def write_fingerprints(folder: Path, name: str, found: Fingerprints) -> None:
    """Write the fingerprints of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"key": found.keys, "digest": found.digests}).to_csv(folder / f"{name}.csv", index=False)
    if found.small is not None:
        np.save(folder / f"{name}.npy", found.small)


def read_fingerprints(folder: Path, name: str) -> Fingerprints:
    """Read the fingerprints of one split."""
    table, small = cards.read_table(folder / f"{name}.csv", dtype=str, keep_default_na=False), folder / f"{name}.npy"
    return Fingerprints(
        table["key"].tolist(), table["digest"].tolist(), np.load(small, mmap_mode="r") if small.exists() else None
    )


def write_episodes(folder: Path, name: str, episodes: Episodes) -> None:
    """Write the episodes of one split, beside it; equal ones give equal bytes."""
    np.savez(folder / name / EPISODES, **episodes._asdict())


def _read_episodes(path: Path) -> Episodes:
    with np.load(path) as found:
        return Episodes(found["ways"].tolist(), found["shots"].tolist(), found["support"], found["queries"])
