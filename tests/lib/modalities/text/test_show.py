"""Samples of each split, escaped and short."""

import numpy as np
import pytest

from stages.lib.modalities.text import show
from tests import texts
from tests.fragments import Shown

PACKING = {"max_tokens": 16}


def shown(tmp_path, splits, classes, title="reviews"):
    path = tmp_path / show.FILE
    show.samples(path, splits, classes, title, PACKING)
    found = Shown(path.read_text(encoding="utf-8"))
    assert found.open == [] and "<html" not in path.read_text()
    rows = path.read_text().split("<tr>")[2:]
    return found, [[cell.partition("</td>")[0] for cell in row.split("<td>")[1:]] for row in rows]


def split(num=6, labels=("bad", "good")):
    names = [labels[index % len(labels)] for index in range(num)]
    return texts.packed([f"text {index} is {name}" for index, name in enumerate(names)], names)


def test_the_first_two_texts_of_each_class_and_split_are_shown(tmp_path):
    _, rows = shown(tmp_path, {"train": split(), "val": split(3)}, ["bad", "good"])
    assert rows == [
        ["train", "bad", "text 0 is bad"], ["train", "bad", "text 2 is bad"],
        ["train", "good", "text 1 is good"], ["train", "good", "text 3 is good"],
        ["val", "bad", "text 0 is bad"], ["val", "bad", "text 2 is bad"], ["val", "good", "text 1 is good"],
    ]  # fmt: skip


def test_without_classes_the_first_texts_are_shown_with_their_labels(tmp_path):
    _, rows = shown(tmp_path, {"train": split(6, ["B-X O O", "O", "O O"])}, None)
    assert rows == [["train", "B-X O O", "text 0 is B-X O O"], ["train", "O", "text 1 is O"]]


@pytest.mark.parametrize(("num", "rest"), [(12, ""), (13, " (the first 12 of 13 classes)")])
def test_not_more_than_twelve_classes(tmp_path, num, rest):
    classes = [f"class {index:02}" for index in range(num)]
    found, rows = shown(tmp_path, {"train": split(num, classes)}, classes)
    assert len(rows) == 12 and f"reviews{rest}\n" in found.text


def test_long_texts_and_labels_are_shortened(tmp_path):
    long = "ä" * 240
    labels = ["O " * 200, "O"]
    found, rows = shown(tmp_path, {"train": texts.packed([long, f"{long}ä"], labels)}, None)
    assert rows[0][2] == long and rows[1][2] == "ä" * 239 + "…" and len(rows[0][1]) == 240 and found.text


def test_what_looks_like_html_is_shown_as_it_is(tmp_path):
    evil = "<script>alert('1')</script> & <td>"
    named = texts.packed([evil], [evil])
    found, rows = shown(tmp_path, {evil: named}, [evil], title=evil)
    assert found.text.count(evil) == 4 and len(rows) == 1
    assert found.tags == {"p", "b", "div", "table", "tr", "th", "td"}


def test_a_split_may_lack_a_class(tmp_path):
    _, rows = shown(tmp_path, {"val": split(2, ["bad"])}, ["bad", "good"])
    assert {row[1] for row in rows} == {"bad"} and np.shape(rows) == (2, 3)
