"""The reader of ELPV, on a wheel of the same layout."""

import zipfile

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import elpv

ROWS = [(0.0, "mono"), (1 / 3, "mono"), (2 / 3, "poly"), (1.0, "mono"), (0.0, "poly"), (2 / 3, "mono")]


@pytest.fixture
def raw(tmp_path):
    with zipfile.ZipFile(tmp_path / "elpv_dataset-1-py3-none-any.whl", "w") as wheel:
        lines = [f"images/cell{i:04}.png  {p!r:<20} {kind}" for i, (p, kind) in enumerate(ROWS, 1)]
        wheel.writestr(elpv.LABELS, "\n".join(lines) + "\n")
        for i in range(1, len(ROWS) + 1):
            wheel.writestr(f"elpv_dataset/data/images/cell{i:04}.png", f"image {i}")
    return tmp_path


def test_cells_of_one_kind(raw):
    mono = elpv.read(raw, cells="mono", threshold=0.5, block=0)
    assert [(e.key, e.label, e.group, e.split) for e in mono] == [
        ("cell0001", "intact", "", ""), ("cell0002", "intact", "", ""),
        ("cell0004", "defective", "", ""), ("cell0006", "defective", "", ""),
    ]  # fmt: skip
    assert [e.open() for e in mono] == [b"image 1", b"image 2", b"image 4", b"image 6"]
    assert [e.key for e in elpv.read(raw, cells="poly", threshold=0.5, block=0)] == ["cell0003", "cell0005"]


def test_threshold_is_inclusive(raw):
    labels = [e.label for e in elpv.read(raw, cells="mono", threshold=2 / 3, block=0)]
    assert labels == ["intact", "intact", "defective", "defective"]
    assert {e.label for e in elpv.read(raw, cells="mono", threshold=0.0, block=0)} == {"defective"}


def test_blocks_are_counted_over_both_kinds(raw):
    assert [e.group for e in elpv.read(raw, cells="mono", threshold=0.5, block=2)] == ["0", "0", "1", "2"]
    assert [e.group for e in elpv.read(raw, cells="poly", threshold=0.5, block=2)] == ["1", "2"]


def test_wrong_folders(tmp_path, raw):
    with pytest.raises(UserError, match="must hold the wheel elpv-dataset"):
        elpv.read(tmp_path / "nowhere", cells="mono", threshold=0.5, block=0)
    (other,) = raw.glob("*.whl")
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("six.py", "")
    with pytest.raises(UserError, match=r"has no elpv_dataset/data/labels\.csv"):
        elpv.read(raw, cells="mono", threshold=0.5, block=0)
