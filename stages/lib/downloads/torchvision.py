"""A data set that torchvision can download, with torchvision's own checksums."""

from pathlib import Path

from stages.lib import torchvision_datasets
from stages.lib.strict import Strict


class Knobs(Strict):
    dataset: torchvision_datasets.Name


def fetch(folder: Path, *, dataset: str) -> None:
    """Download every split into `folder`, as the reader `torchvision` looks for it."""
    torchvision_datasets.open_splits(dataset, folder, download=True)
