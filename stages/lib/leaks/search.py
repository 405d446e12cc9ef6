"""Which test examples are in training data as well, by the fingerprints that prepare leaves; no split is opened."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import datasets, plugins, runs
from stages.lib.params.schema import Leaks

TRAINING = ("train", "val")  # the splits that a training sees
COLUMNS = ["test", "test_row", "split", "trained", "row", "same", "correlation"]


def plan(trained: Mapping[str, str], target: str, test: str, alternatives: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared: data that something is trained on, and data whose test split measures it.

    The test of the target, with the data of everything that leads to it; of a dataset of its own that includes the other splits,
    whose inputs domain adaptation learns from. And the test of each hop, with its own training.

    Args:
        trained: the data of each hop.
        target, test: the datasets that the target is trained and tested on.
        alternatives: the data of the other ways to train it.
    """
    before = [(data, test) for data in (*trained.values(), target, *alternatives, test)]
    return list(dict.fromkeys(before + [(data, data) for data in trained.values()]))


def shared(trained_on: str, tested_on: str, modality: str, settings: Leaks) -> tuple[pd.DataFrame, int]:
    """Pairs of a test example and a training or validation example that are the same, or nearly.

    Args:
        trained_on, tested_on: datasets.
        modality: whose `near_duplicates` are looked for too, if it has such a module.
        settings: the section `leaks`.

    Returns:
        A table with COLUMNS, ordered by rows, and the number of test examples. `same`: equal content; else the `correlation`
        says how similar they are.
    """
    tests = datasets.read_fingerprints(runs.fingerprints(tested_on), "test")
    found = []
    for split in TRAINING:
        others = datasets.read_fingerprints(runs.fingerprints(trained_on), split)
        pairs = {pair: 1.0 for pair in _equal(tests.digests, others.digests)}
        same = set(pairs)
        if tests.small is not None and others.small is not None:
            near = plugins.load("modalities", modality, "near_duplicates").find(
                tests.small, others.small, correlation=settings.correlation, nearness=settings.nearness
            )
            pairs = {(each.test, each.other): each.correlation for each in near} | pairs
        for (row, other), correlation in sorted(pairs.items()):
            found.append((tests.keys[row], row, split, others.keys[other], other, (row, other) in same, round(correlation, 4)))
    return pd.DataFrame(found, columns=COLUMNS).sort_values(["test_row", "split", "row"], ignore_index=True), len(tests.keys)


def summary(trained_on: str, tested_on: str, pairs: pd.DataFrame, num: int, noun: str) -> dict[str, Any]:
    """One comparison, as leaks.json holds it: how many test examples are affected, which, and in words ("" if none is)."""
    keys = pairs.drop_duplicates("test_row")
    same = set(pairs.test_row[pairs.same])
    share = f"{len(keys)} of {num} test {noun}s of {tested_on} ({100 * len(keys) / num:.1f} %)"
    kinds = f" ({len(same)} the same, {len(keys) - len(same)} nearly the same)"
    words = f"{share} are also in the training or validation data of {trained_on}{kinds}" if len(keys) else ""
    return {"trained_on": trained_on, "tested_on": tested_on, "num_test": num, "num_same": len(same),
            "num_nearly": len(keys) - len(same), "keys": keys.test.tolist(), "words": words}  # fmt: skip


def left_out(found: Mapping[tuple[str, str], pd.DataFrame]) -> dict[str, dict[str, list[int]]]:
    """The rows of each dataset's training and validation split that are in a test, by (trained on, tested on)."""
    rows: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for (trained_on, _), pairs in found.items():
        for split, row in zip(pairs.split, pairs.row, strict=True):
            rows[trained_on][split].add(int(row))
    return {data: {split: sorted(each) for split, each in splits.items()} for data, splits in rows.items()}


def pictured(found: Mapping[tuple[str, str], pd.DataFrame], most: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Some pairs to look at, the least alike first: both names, and both fingerprints."""
    shown: list[tuple[float, str, np.ndarray, np.ndarray]] = []
    for (trained_on, tested_on), pairs in found.items():
        tests = datasets.read_fingerprints(runs.fingerprints(tested_on), "test")
        for row in pairs.sort_values("correlation", kind="stable")[:most].itertuples():
            others = datasets.read_fingerprints(runs.fingerprints(trained_on), str(row.split))
            if tests.small is not None and others.small is not None:
                title = f"{tested_on}: {row.test}\n{trained_on}: {row.trained}"
                shown.append((float(str(row.correlation)), title, tests.small[row.test_row], others.small[row.row]))
    return [each[1:] for each in sorted(shown, key=lambda each: each[:2])[:most]]


def _equal(tests: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of equal digests."""
    rows = defaultdict(list)
    for other, digest in enumerate(others):
        rows[digest].append(other)
    return [(row, other) for row, digest in enumerate(tests) for other in rows.get(digest, ())]
