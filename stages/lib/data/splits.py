"""Assign examples to training, validation and test: drawn once from a seed, and always checked."""

import warnings
from collections import Counter
from fractions import Fraction

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from stages.lib.core.contracts import Example
from stages.lib.core.seeds import seed_for
from stages.lib.data.subset import draw, require_possible
from stages.lib.errors import UserError

NAMES = ("train", "val", "test")
MOST_FOLDS = 10  # most folds that groups are combined into: with more folds, their class proportions vary more


def limit(examples: list[Example], most: int, seed: int, stratify: bool) -> list[Example]:
    """At most `most` examples (0: all), in their original order; with `stratify`, drawn evenly over the classes.

    A given test split stays whole beside them: with fewer examples, figures on it would be no figures of this test.
    """
    given = [index for index, example in enumerate(examples) if example.split == "test"]
    if not most or len(examples) - len(given) <= most:
        return examples
    ranked, seen = [], Counter[str]()
    for index in np.random.default_rng(seed_for(seed, "limit")).permutation(len(examples)):
        if examples[index].split == "test":
            continue
        label = examples[index].label if stratify else ""
        ranked.append((seen[label], label, index))  # the first of every class, then the second of every class, ...
        seen[label] += 1
    return [examples[index] for index in sorted([*given, *(index for _, _, index in sorted(ranked)[:most])])]


def assign(
    examples: list[Example], *, val: float, test: float, seed: int, by_group: bool, stratify: bool, noun: str = "example"
) -> list[str]:
    """The split of each example.

    Given splits are kept. A split that is not given is drawn from the examples whose split is "train" or not given; the
    remaining ones are for training.

    Args:
        examples: sorted, so that the result depends only on them and the seed.
        val, test: fractions of all examples; used for splits that are not given.
        seed: for the splits only.
        by_group: keep every group in one split.
        stratify: labels are classes, and each split gets its proportion and at least one example of each; else any text.
        noun: what an example is called in messages.

    Returns:
        "train", "val" or "test" for each example.

    Raises:
        UserError: a class would be missing from a split, or by_group cannot be satisfied.
    """
    labels = np.array([example.label if stratify else "" for example in examples])
    groups = np.array([example.group for example in examples])
    splits = np.array([example.split or "train" for example in examples], dtype="<U5")
    if stratify and len(set(labels)) < 2:
        raise UserError(
            f"at least two classes are needed; the readable {noun}s have: {', '.join(sorted(set(labels))) or 'none'}. (Where "
            "labels are not classes, set split.stratify: false.)"
        )
    if by_group and "" in groups:
        raise UserError(
            f"split.by_group: true needs a group for each {noun}, but {(groups == '').sum()} of {len(groups)} have none. "
            "Let the reader make groups (group_from, block, or the column group), or set by_group: false."
        )
    for name, share in [("test", test), ("val", val)]:
        if name not in splits:
            pool = np.flatnonzero(splits == "train")
            draw = _whole_groups if by_group else _stratified
            chosen = draw(labels[pool], groups[pool], round(share * len(examples)), seed_for(seed, "split", name))
            splits[pool[chosen]] = name

    kinds = set(labels) if stratify else {""}
    if any(not ((labels == kind) & (splits == name)).any() for kind in kinds for name in NAMES):
        raise UserError(_too_few(labels, groups, splits, stratify, noun))
    if by_group:
        torn = sorted(group for group in set(groups) if len(set(splits[groups == group])) > 1)
        if torn:
            raise UserError(f"split.by_group: the given splits divide {len(torn)} groups: {', '.join(torn[:10])}.")
    assigned: list[str] = splits.tolist()
    return assigned


def few(examples: list[Example], assigned: list[str], num: int, seed: int, stratify: bool) -> list[str]:
    """The splits if only `num` examples may be trained on (0: all), and validation in the same proportion.

    The others are in no split: the test stays the same for any `num`, so that results with more and fewer labels can be compared.
    Fewer are a part of more. Groups stay whole in the sense that none is in two splits.

    Args:
        assigned: the split of each example, from `assign`.
        seed: for the splits.
        stratify: keep the classes' proportions, and at least one example of each class in both splits.

    Returns:
        As `assigned`, with "" for examples that are in no split.

    Raises:
        UserError: there are fewer than `num` training examples, or more classes than `num`.
    """
    if not num:
        return assigned
    labels = np.array([example.label if stratify else "" for example in examples])
    splits = np.array(assigned, dtype="<U5")
    rows = {name: np.flatnonzero(splits == name) for name in ("train", "val")}
    try:
        require_possible(num, len(rows["train"]), len(set(labels)))
    except UserError as error:
        raise UserError(f"split.train: {error}") from None
    shares = {"train": num, "val": max(len(set(labels)), round(len(rows["val"]) * num / len(rows["train"])))}
    for name, share in shares.items():
        kept = draw(np.unique(labels[rows[name]], return_inverse=True)[1], share, seed_for(seed, "split", "few", name))
        splits[np.setdiff1d(rows[name], rows[name][kept])] = ""
    left: list[str] = splits.tolist()
    return left


def _stratified(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of about `count` examples in the classes' proportions, and at least one of each class that has one to spare."""
    sizes = Counter(labels.tolist())
    able = np.flatnonzero([sizes[label] > 1 for label in labels])  # a class with one example has none to spare
    num_classes = len(set(labels[able]))
    if not count or not num_classes:
        return np.array([], dtype=int)
    chosen = np.array([], dtype=int)
    if num_classes <= count <= len(able) - num_classes:
        chosen = train_test_split(able, test_size=count, stratify=labels[able], random_state=seed)[1]
    without = sorted({*labels[able]} - {*labels[chosen]})  # so small that their share is less than one
    random = np.random.default_rng(seed)
    more = [random.choice(np.flatnonzero(labels == label)) for label in without]
    return np.concatenate([chosen, np.array(more, dtype=int)])


def _whole_groups(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of about `count` examples in whole groups, approximately in the classes' proportions."""
    most = min(MOST_FOLDS, len(set(groups)))
    if most < 2:
        return np.array([], dtype=int)
    part = Fraction(count / len(labels)).limit_denominator(most)
    part = min(max(part, Fraction(1, most)), Fraction(most - 1, most))
    cut = StratifiedGroupKFold(part.denominator, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about classes with fewer images than folds: `assign` checks this itself
        folds = [members for _, members in cut.split(labels, labels, groups)]
    in_fold = np.array([[(labels[members] == label).sum() for label in sorted(set(labels))] for members in folds])
    chosen: list[int] = []
    for num in range(1, part.numerator + 1):  # each time, take the fold that brings the classes closest to their proportions
        unfair = np.abs(in_fold[chosen].sum(axis=0) + in_fold - in_fold.mean(axis=0) * num).sum(axis=1)
        unfair[chosen] = np.inf
        chosen.append(int(unfair.argmin()))
    return np.concatenate([folds[index] for index in chosen])


def _too_few(labels: np.ndarray, groups: np.ndarray, splits: np.ndarray, stratify: bool, noun: str) -> str:
    if not stratify:
        counts = ", ".join(f"{int((splits == name).sum())} in {name}" for name in NAMES)
        return (
            f"a split would be empty: {len(labels)} {noun}s ({counts}). Add {noun}s (or groups), or raise split.val or "
            "split.test."
        )
    lines = []
    for label in sorted(set(labels)):
        own = labels == label
        of_class = {name: int((own & (splits == name)).sum()) for name in NAMES}
        if min(of_class.values()) == 0:
            listed = ", ".join(f"{count} in {name}" for name, count in of_class.items())
            num_groups = len(set(groups[own]) - {""})
            of_groups = f" in {num_groups} group{'' if num_groups == 1 else 's'}" if num_groups else ""
            lacking = f": add at least {len(NAMES) - own.sum()} more" if own.sum() < len(NAMES) else ""
            lines.append(f"  {label}: {own.sum()} {noun}{'' if own.sum() == 1 else 's'}{of_groups} ({listed}){lacking}")
    rest = f"\n  ... and {len(lines) - 10} more" if len(lines) > 10 else ""
    return (
        f"some classes have no {noun} in one of the splits, and each needs one in all three. Add {noun}s (or groups) of these "
        "classes, or take the classes out:\n" + "\n".join(lines[:10]) + rest
    )
