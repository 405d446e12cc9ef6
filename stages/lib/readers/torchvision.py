"""A torchvision dataset, as stored by the download `torchvision`; its given splits are kept."""

from functools import partial
from pathlib import Path
from typing import Any

from stages.lib.core.contracts import Example
from stages.lib.data import torchvision_datasets
from stages.lib.params.fields import Strict

SELECTS = ("dataset",)  # params that select which images are read


class Params(Strict):
    dataset: torchvision_datasets.Name


def read(raw: Path, *, dataset: str) -> list[Example]:
    """List the examples of every given split, with torchvision's class names.

    Raises:
        UserError: `raw` does not contain the dataset.
    """
    examples = []
    for split, images in torchvision_datasets.open_splits(dataset, raw, download=False).items():
        # Not every torchvision dataset has a public list of labels, and images[i][1] would decode all images just to list them.
        labels = images.targets if hasattr(images, "targets") else images._labels
        classes = torchvision_datasets.classes(dataset, images)
        for index, label in enumerate(map(int, labels)):
            name = classes[label]
            examples.append(Example(f"{split}/{index:06d}", name, "", split, partial(_image, images, index)))
    return sorted(examples, key=lambda example: example.key)


def _image(images: Any, index: int) -> Any:
    return images[index][0]
