"""torchvision's data sets, from files in the format that their publisher uses."""

import bz2
import struct

import numpy as np
import pytest

from stages.lib.data import torchvision_datasets
from stages.lib.downloads import torchvision as download
from stages.lib.errors import UserError
from stages.lib.readers import torchvision as reader

random = np.random.default_rng(0)


def write_idx(path, array):
    """The format of MNIST: magic number with type and dimensions, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def fashion(tmp_path):
    """FashionMNIST with 20 training and 10 test images; their pixels and labels."""
    written = {}
    for split, name, num in [("train", "train", 20), ("test", "t10k", 10)]:
        pixels, labels = random.integers(0, 255, (num, 28, 28), dtype=np.uint8), np.arange(num, dtype=np.uint8) % 10
        write_idx(tmp_path / f"FashionMNIST/raw/{name}-images-idx3-ubyte", pixels)
        write_idx(tmp_path / f"FashionMNIST/raw/{name}-labels-idx1-ubyte", labels)
        written[split] = pixels, labels
    return tmp_path, written


def test_fashion_mnist(fashion):
    raw, written = fashion
    examples = reader.read(raw, dataset="FashionMNIST")
    assert [e.key for e in examples] == [f"test/{i:06}" for i in range(10)] + [f"train/{i:06}" for i in range(20)]
    assert {e.split for e in examples} == {"train", "test"}
    for example in examples:
        split, index = example.key.split("/")
        pixels, labels = written[split]
        np.testing.assert_array_equal(np.asarray(example.open()), pixels[int(index)])
        assert example.split == split
        assert example.label == ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                                 "Ankle boot"][labels[int(index)]]  # fmt: skip


def test_usps_has_the_pixels_of_its_files_and_the_classes_of_mnist(tmp_path):
    """The format of LIBSVM: a digit + 1, and 256 values from -1 to 1, each after its index."""
    pixels, digits = random.integers(0, 256, (12, 256)), np.arange(12) % 10
    for name, chosen in (("usps.bz2", slice(0, 10)), ("usps.t.bz2", slice(10, 12))):
        lines = [
            " ".join([f"{digit + 1}", *(f"{index}:{(2 * value + 1) / 255 - 1:.6f}" for index, value in enumerate(row, 1))])
            for row, digit in zip(pixels[chosen], digits[chosen], strict=True)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    examples = reader.read(tmp_path, dataset="USPS")
    assert [e.key for e in examples] == ["test/000000", "test/000001", *(f"train/{i:06}" for i in range(10))]
    for example, row, digit in zip(examples, [*pixels[10:], *pixels[:10]], [*digits[10:], *digits[:10]], strict=True):
        np.testing.assert_array_equal(np.asarray(example.open()), row.reshape(16, 16))
        assert example.label.startswith(f"{digit} - ")


def test_download_keeps_what_is_there(fashion):
    raw, _ = fashion
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    download.fetch(raw, dataset="FashionMNIST")
    assert {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", torchvision_datasets.SPLITS)
def test_missing_files(tmp_path, name):
    with pytest.raises(UserError, match=f"does not hold {name}.*`fetch: torchvision`"):
        reader.read(tmp_path, dataset=name)


def test_every_name_has_its_splits():
    assert set(torchvision_datasets.Name.__args__) == set(torchvision_datasets.SPLITS)
