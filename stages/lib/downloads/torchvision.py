"""A dataset that torchvision can download, checked with torchvision's own checksums."""

from pathlib import Path

from stages.lib.data import torchvision_datasets
from stages.lib.params.fields import Strict


class Params(Strict):
    dataset: torchvision_datasets.Name


def fetch(folder: Path, *, dataset: str) -> None:
    """Download every split into `folder`, where the reader `torchvision` expects it."""
    torchvision_datasets.open_splits(dataset, folder, download=True)
