"""Splits: disjoint, fair to the classes, whole groups, the same for the same seed, and clear where they cannot be made."""

from collections import Counter

import numpy as np
import pytest

from stages.lib.core.contracts import Example
from stages.lib.data import splits
from stages.lib.errors import UserError

HOW = {"val": 0.1, "test": 0.25, "seed": 0, "by_group": False, "stratify": True, "noun": "image"}


def made(*, per_group=0, given=None, **counts):
    """Examples of classes with so many images each; every `per_group` of a class make a group."""
    return [
        Example(f"{label}/{i:04}", label, f"{label}{i // per_group}" if per_group else "", given(i) if given else "", bytes)
        for label, count in counts.items()
        for i in range(count)
    ]


def table(examples, assigned):
    return Counter((example.label, split) for example, split in zip(examples, assigned, strict=True))


@pytest.mark.parametrize("counts", [{"a": 700, "b": 374}, {"a": 91, "b": 33, "c": 57, "d": 20}, {"a": 30, "b": 29}])
@pytest.mark.parametrize("seed", range(5))
def test_stratified_to_within_one(counts, seed):
    examples = made(**counts)
    assigned = splits.assign(examples, **HOW | {"seed": seed})
    found = table(examples, assigned)
    for label, count in counts.items():
        for split, share in [("train", 0.65), ("val", 0.1), ("test", 0.25)]:
            assert abs(found[label, split] - share * count) <= 1.5, (label, split)  # 1, and the rounding of the whole split
    total = sum(counts.values())
    assert Counter(assigned)["test"] == round(0.25 * total) and Counter(assigned)["val"] == round(0.1 * total)


def test_seeds():
    examples = made(a=60, b=40)
    first = splits.assign(examples, **HOW)
    assert splits.assign(examples, **HOW) == first
    assert splits.assign(examples, **HOW | {"seed": 1}) != first
    more_val = splits.assign(examples, **HOW | {"val": 0.2})
    assert [split == "test" for split in more_val] == [split == "test" for split in first], "val moves no test image"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("test, val", [(0.25, 0.1), (0.3, 0.2), (0.4, 0.3)])
def test_groups_stay_whole_and_shares_are_met(seed, test, val):
    examples = made(a=400, b=200, per_group=8)
    assigned = splits.assign(examples, **HOW | {"val": val, "test": test, "seed": seed, "by_group": True})
    where = {}
    for example, split in zip(examples, assigned, strict=True):
        assert where.setdefault(example.group, split) == split
    found = table(examples, assigned)
    for split, share in [("test", test), ("val", val)]:
        assert found["a", split] / 400 == pytest.approx(share, abs=0.05)
        assert found["b", split] / 200 == pytest.approx(share, abs=0.05)
    assert assigned == splits.assign(examples, **HOW | {"val": val, "test": test, "seed": seed, "by_group": True})


def test_given_splits_are_kept():
    examples = made(a=40, b=40, given=lambda i: ["train", "val", "test", "train"][i % 4])
    assert splits.assign(examples, **HOW) == [example.split for example in examples]


@pytest.mark.parametrize("given, missing", [("test", "val"), ("val", "test")])
def test_a_split_that_is_missing_is_drawn_from_train(given, missing):
    examples = made(a=60, b=40, given=lambda i: given if i % 5 == 0 else "train")
    assigned = splits.assign(examples, **HOW)
    for example, split in zip(examples, assigned, strict=True):
        assert split == given if example.split == given else split in ("train", missing)
    assert Counter(assigned)[missing] == round(100 * HOW[missing]), "shares are of all images"


@pytest.mark.parametrize("counts, named", [
    ({"many": 50, "few": 2}, r"few: 2 images \(.*\): add at least 1 more"),
    ({"many": 50, "one": 1}, r"one: 1 image \(.*\): add at least 2 more"),
])  # fmt: skip
def test_too_small_classes_are_named(counts, named):
    with pytest.raises(UserError, match=f"(?s)some classes have no image in one of the splits.*{named}") as error:
        splits.assign(made(**counts), **HOW)
    assert "many" not in str(error.value), "only what is too small"


@pytest.mark.parametrize("counts", [{"many": 400, "few": 3}, {"many": 400, "few": 3, "five": 5}, {f"c{i}": 3 for i in range(20)}])
@pytest.mark.parametrize("seed", range(5))
def test_three_images_of_a_class_are_enough(counts, seed):
    examples = made(**counts)
    found = table(examples, splits.assign(examples, **HOW | {"seed": seed}))
    assert all(found[label, split] for label in counts for split in splits.NAMES)
    if "few" in counts:
        assert [found["few", split] for split in splits.NAMES] == [1, 1, 1]
        assert found["many", "test"] == pytest.approx(100, abs=2), "the others keep their shares"


def test_a_split_that_is_to_be_empty_is_not_filled():
    with pytest.raises(UserError, match=r"a: 20 images \(15 in train, 0 in val, 5 in test\)"):
        splits.assign(made(a=20, b=20), **HOW | {"val": 0})


def test_a_given_split_without_a_class_is_named():
    examples = made(a=10, given=lambda i: ["train", "val", "test"][i % 3]) + made(b=10, given=lambda i: ["train", "test"][i % 2])
    with pytest.raises(UserError, match=r"b: 10 images \(5 in train, 0 in val, 5 in test\)"):
        splits.assign(examples, **HOW)


def test_one_class_and_none():
    with pytest.raises(UserError, match="at least two classes are needed; the readable images have: a"):
        splits.assign(made(a=10), **HOW)
    with pytest.raises(UserError, match="have: none"):
        splits.assign([], **HOW)


def test_groups_that_cannot_be():
    by_group = HOW | {"by_group": True}
    with pytest.raises(UserError, match=r"split\.by_group: true needs a group for each image, but 40 of 40 have none"):
        splits.assign(made(a=20, b=20), **by_group)
    with pytest.raises(UserError, match="a: 20 images in 2 groups"):
        splits.assign(made(a=20, b=20, per_group=10), **by_group)
    torn = [example._replace(split=["train", "val", "test"][i % 3]) for i, example in enumerate(made(a=20, b=20, per_group=5))]
    with pytest.raises(UserError, match="given splits divide 8 groups: a0, a1"):
        splits.assign(torn, **by_group)


def test_limit_is_even_and_repeatable():
    examples = made(a=100, b=40, c=3)
    kept = splits.limit(examples, 43, seed=0, stratify=True)
    assert Counter(example.label for example in kept) == {"a": 20, "b": 20, "c": 3}
    assert [example.key for example in kept] == sorted(example.key for example in kept)
    assert splits.limit(examples, 43, seed=0, stratify=True) == kept != splits.limit(examples, 43, seed=1, stratify=True)
    assert splits.limit(examples, 0, 0, True) == examples == splits.limit(examples, 143, 0, True)
    assert not np.array_equal([e.key for e in kept[:20]], [e.key for e in examples[:20]]), "drawn, not the first"


def test_a_given_test_split_stays_whole_whatever_the_limit():
    examples = made(a=100, b=40, given=lambda i: "test" if i % 2 else "train")
    kept = splits.limit(examples, 10, seed=0, stratify=True)
    assert table(kept, [e.split for e in kept]) == {("a", "train"): 5, ("b", "train"): 5, ("a", "test"): 50, ("b", "test"): 20}
    assert [example.key for example in kept] == sorted(example.key for example in kept)
    assert splits.limit(examples, 70, seed=0, stratify=True) == examples, "the limit is of the others"


# Fewer labels.


def used(examples, assigned, split):
    return {example.key for example, where in zip(examples, assigned, strict=True) if where == split}


@pytest.mark.parametrize("how", [{}, {"by_group": True}, {"stratify": False}])
def test_fewer_labels_are_a_part_of_more_and_the_test_is_the_same(how):
    how = HOW | how
    examples = made(a=400, b=200, per_group=8)
    everything = splits.assign(examples, **how)
    found = {num: splits.few(examples, everything, num, 0, how["stratify"]) for num in (20, 100, 200, 0)}
    total = {split: len(used(examples, everything, split)) for split in splits.NAMES}
    for num, assigned in found.items():
        assert used(examples, assigned, "test") == used(examples, everything, "test")
        assert len(used(examples, assigned, "train")) == (num or total["train"])
        assert len(used(examples, assigned, "val")) == (round(total["val"] * num / total["train"]) if num else total["val"])
        for now, before in zip(assigned, everything, strict=True):
            assert now in ("", before), "an unused example is in no split, and none moves"
    for fewer, more in ((20, 100), (100, 200), (200, 0)):
        for split in ("train", "val"):
            assert used(examples, found[fewer], split) < used(examples, found[more], split)
    if how["by_group"]:
        where = {}
        for example, split in zip(examples, found[100], strict=True):
            assert not split or where.setdefault(example.group, split) == split


@pytest.mark.parametrize("num, of_a, of_b", [(2, 1, 1), (9, 6, 3), (150, 100, 50)])
def test_fewer_labels_keep_the_classes_proportions(num, of_a, of_b):
    examples = made(a=400, b=200)
    everything = splits.assign(examples, **HOW)
    found = table(examples, splits.few(examples, everything, num, 0, True))
    assert (found["a", "train"], found["b", "train"]) == (of_a, of_b)
    assert min(found["a", "val"], found["b", "val"]) >= 1, "validation has every class too"
    other = splits.few(examples, everything, num, 1, True)
    assert used(examples, other, "train") != used(examples, splits.few(examples, everything, num, 0, True), "train")


@pytest.mark.parametrize("num", [1, 391])
def test_labels_that_are_not_there_cannot_be_used(num):
    examples = made(a=400, b=200)
    with pytest.raises(UserError, match=rf"split\.train: {num} examples cannot be drawn: there are 390 .* Allowed: 2 to 390"):
        splits.few(examples, splits.assign(examples, **HOW), num, 0, True)


# Labels that are not classes.

ANY = HOW | {"stratify": False}


def unlike(num, *, per_group=0):
    """Examples of which each has a label of its own."""
    return [Example(f"{i:04}", f"{i / 7:.3f}", f"g{i // per_group}" if per_group else "", "", bytes) for i in range(num)]


@pytest.mark.parametrize("seed", range(3))
def test_splits_without_classes_have_their_shares(seed):
    examples = unlike(101)
    assigned = splits.assign(examples, **ANY | {"seed": seed})
    assert Counter(assigned) == {"test": 25, "val": 10, "train": 66}
    assert splits.assign(examples, **ANY | {"seed": seed}) == assigned != splits.assign(examples, **ANY | {"seed": seed + 1})
    changed = [example._replace(label="x") for example in examples]
    assert splits.assign(changed, **ANY | {"seed": seed}) == assigned, "labels do not count"


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_whole_without_classes(seed):
    examples = unlike(200, per_group=5)
    assigned = splits.assign(examples, **ANY | {"seed": seed, "by_group": True})
    where = {}
    for example, split in zip(examples, assigned, strict=True):
        assert where.setdefault(example.group, split) == split
    assert Counter(assigned)["test"] == pytest.approx(50, abs=10) and Counter(assigned)["val"] == pytest.approx(20, abs=10)


def test_given_splits_are_kept_without_classes():
    examples = [example._replace(split="test" if i % 4 == 0 else "") for i, example in enumerate(unlike(80))]
    assigned = splits.assign(examples, **ANY)
    assert Counter(assigned) == {"test": 20, "val": 8, "train": 52}
    assert all(split == "test" for example, split in zip(examples, assigned, strict=True) if example.split)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_a_split_that_would_be_empty_is_told(num):
    with pytest.raises(UserError, match=rf"a split would be empty: {num} images \(\d in train, \d in val, \d in test\)"):
        splits.assign(unlike(num), **ANY)


def test_limit_without_classes_draws_from_all():
    examples = made(a=100, b=10)
    kept = splits.limit(examples, 44, seed=0, stratify=False)
    assert len(kept) == 44 and kept == splits.limit(examples, 44, seed=0, stratify=False)
    assert Counter(example.label for example in kept)["a"] > 34, "not evenly"
    assert [example.key for example in kept] == sorted(example.key for example in kept)
