"""Which example is for training, for choosing the epoch, and for the test: made once, by chance from a seed, checked always."""

import warnings
from collections import Counter

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from stages.lib.errors import UserError
from stages.lib.readers import Example
from stages.lib.seeds import seed_for

NAMES = ("train", "val", "test")
MOST_FOLDS = 20  # of which whole ones become val and test, so that shares are met to 1/20


def limit(examples: list[Example], most: int, seed: int) -> list[Example]:
    """At most `most` examples (0: all), drawn evenly over the classes, in their old order."""
    if not most or len(examples) <= most:
        return examples
    ranked, seen = [], Counter()
    for index in np.random.default_rng(seed_for(seed, "limit")).permutation(len(examples)):
        label = examples[index].label
        ranked.append((seen[label], label, index))  # the first of every class, then the second of every class, ...
        seen[label] += 1
    return [examples[index] for _, _, index in sorted(sorted(ranked)[:most], key=lambda entry: entry[2])]


def assign(examples: list[Example], *, val: float, test: float, seed: int, by_group: bool) -> list[str]:
    """The split of each example.

    Given splits are kept. A split that nobody gave is drawn, stratified by label, from the examples whose split is
    "train" or open; what is left there is for training.

    Args:
        examples: sorted, so that the result depends on nothing but them and the seed.
        val, test: shares of all examples, 0 to 1; used for the splits that are not given.
        seed: of the splits alone.
        by_group: keep every group in one split.

    Returns:
        "train", "val" or "test" for each example.

    Raises:
        UserError: a class would be missing in a split, or by_group is asked for and cannot be met.
    """
    labels = np.array([example.label for example in examples])
    groups = np.array([example.group for example in examples])
    splits = np.array([example.split or "train" for example in examples], dtype="<U5")
    if len(set(labels)) < 2:
        raise UserError(f"at least two classes are needed; the readable images have: {', '.join(sorted(set(labels))) or 'none'}.")
    if by_group and "" in groups:
        raise UserError(
            f"split.by_group: true needs a group for each image, but {(groups == '').sum()} of {len(groups)} have none. "
            "Let the reader make groups (group_from, block, or the column group), or set by_group: false."
        )
    wanted = {name: share for name, share in [("test", test), ("val", val)] if name not in splits}
    counts = {name: round(share * len(examples)) for name, share in wanted.items()}
    pool = np.flatnonzero(splits == "train")
    if by_group and wanted:
        splits[pool] = _by_group(labels[pool], groups[pool], {name: n / len(pool) for name, n in counts.items()}, seed)
    for name, count in counts.items() if not by_group else ():
        pool = np.flatnonzero(splits == "train")
        try:
            _, drawn = train_test_split(pool, test_size=count, stratify=labels[pool], random_state=seed_for(seed, "split", name))
        except ValueError:  # fewer images than classes, or a class with one image
            raise UserError(_too_few(labels, splits, f"{name} would get {count} images, ")) from None
        splits[drawn] = name

    if any(not ((labels == label) & (splits == name)).any() for label in set(labels) for name in NAMES):
        raise UserError(_too_few(labels, splits, ""))
    if by_group:
        torn = sorted(group for group in set(groups) if len(set(splits[groups == group])) > 1)
        if torn:
            raise UserError(f"split.by_group: the given splits tear {len(torn)} groups apart: {', '.join(torn[:10])}.")
    return splits.tolist()


def _by_group(labels: np.ndarray, groups: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """Cut into folds of whole groups with like shares of the classes, and give whole folds to each split."""
    num_groups = len(set(groups))
    most = min(MOST_FOLDS, num_groups)
    if most <= len(shares):
        raise UserError(f"split.by_group: {num_groups} groups cannot fill {len(shares) + 1} splits.")

    def folds_of(num: int) -> dict[str, int]:
        return {name: max(1, round(share * num)) for name, share in shares.items()}

    def error(num: int) -> float:
        return sum(abs(folds_of(num)[name] / num - share) for name, share in shares.items())

    num = min(range(len(shares) + 1, most + 1), key=error)
    cut = StratifiedGroupKFold(num, shuffle=True, random_state=seed_for(seed, "split", "groups"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is fine: folds are put together
        folds = [members for _, members in cut.split(labels, labels, groups)]
    splits = np.full(len(labels), "train", dtype="<U5")
    for name, count in folds_of(num).items():
        for _ in range(count):
            splits[folds.pop()] = name
    return splits


def _too_few(labels: np.ndarray, splits: np.ndarray, why: str) -> str:
    lines = []
    for label in sorted(set(labels)):
        counts = {name: int(((labels == label) & (splits == name)).sum()) for name in NAMES}
        if min(counts.values()) == 0:
            told = ", ".join(f"{count} in {name}" for name, count in counts.items())
            lines.append(f"  {label}: {sum(counts.values())} images ({told})")
    rest = f"\n  ... and {len(lines) - 20} more" if len(lines) > 20 else ""
    return (
        f"{why}so that not every class has an image in every split. Add images of these classes, leave them out, or raise "
        "split.val and split.test:\n" + "\n".join(lines[:20]) + rest
    )
