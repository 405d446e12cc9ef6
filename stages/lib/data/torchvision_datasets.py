"""The torchvision datasets that the download and the reader `torchvision` support: add a name and its splits here."""

from pathlib import Path
from typing import Any, Literal

from stages.lib.errors import UserError

Name = Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "Flowers102", "OxfordIIITPet", "USPS"]

# For each published split, the arguments with which torchvision opens it.
_TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
SPLITS: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": _TRAIN_TEST,
    "CIFAR100": _TRAIN_TEST,
    "MNIST": _TRAIN_TEST,
    "FashionMNIST": _TRAIN_TEST,
    "Flowers102": {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "USPS": _TRAIN_TEST,
}


def classes(name: str, images: Any) -> list[str]:
    """Names of the classes: torchvision's own; of the digits of USPS, which it does not name, those of MNIST."""
    import torchvision

    return list((torchvision.datasets.MNIST if name == "USPS" else images).classes)


def open_splits(name: str, root: Path, *, download: bool) -> dict[str, Any]:
    """torchvision's datasets of (PIL image, class index), by split.

    Raises:
        UserError: the files are not in `root`, or could not be downloaded.
    """
    import torchvision

    kind = getattr(torchvision.datasets, name)
    try:
        return {split: kind(str(root), **which, download=download) for split, which in SPLITS[name].items()}
    except (OSError, RuntimeError) as error:  # how torchvision reports missing files, wrong checksums and no network
        if download:
            raise UserError(f"torchvision could not download {name}: {error}. Check the network and the proxy.") from None
        raise UserError(
            f"{root} does not hold {name} as torchvision stores it ({error}). Let a block of download with"
            f" `fetch: torchvision` and `dataset: {name}` fetch it, and name its folder in `raw`."
        ) from None
