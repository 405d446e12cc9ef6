"""Decode, check, split and pack one dataset."""

import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.lib.core import cards, datasets, plugins
from stages.lib.core.contracts import Example
from stages.lib.data import classes, episodes, splits
from stages.lib.errors import UserError

NEAR = "near_duplicates"  # the optional module of a modality that gives fingerprints
BATCH = 256  # examples that threads decode before they are written: the most that are in memory at once


class Packed(NamedTuple):
    """What stays in memory of an example once its packed input is written."""

    digest: str  # of the decoded input before packing: equal for equal inputs, whatever the file format
    error: str  # why it cannot be read, or ""
    remarks: Mapping[str, float] = {}  # what is changed in it: in words, with an amount
    place: int = 0  # where its packed input begins in the store
    shape: tuple[int, ...] = ()
    dtype: str = ""
    small: np.ndarray | None = None  # its fingerprint, if the modality has one


def pack(
    name: str, block: Any, modality: str, packing: dict[str, Any], preprocessing: dict[str, Any], out: Path, fingerprints: Path
) -> cards.DataCard:
    """Write the splits of one dataset to `out`, and what they are compared by to `fingerprints`.

    Args:
        name: of the dataset.
        block: its block of params.yaml.
        modality: name of a plug-in.
        packing: the keyword arguments of the modality's `pack`.
        preprocessing: of the source's card, for remarks on what is cut.
        out: an empty folder.

    Returns:
        The dataset's card, which is not written yet.

    Raises:
        UserError: too many broken examples, the same example in two splits, or splits that cannot be made.
    """
    reader, door = plugins.load("readers", block.reader), plugins.load("modalities", modality)
    noun = door.NOUN
    examples: list[Example] = reader.read(Path(block.raw), **plugins.arguments(block, reader))
    _require_unique_keys(examples)
    given, examples = examples, splits.limit(examples, block.limit, block.split.seed, block.split.stratify)
    are_classes = block.split.stratify
    if are_classes:
        classes.tell_alike(examples)
        few = f"limit: {block.limit} is less than one {noun} for each. Raise it, or set it to 0 for all."
        classes.require_all(given, examples, few)
    with tempfile.TemporaryFile(dir=out) as store:  # holds the inputs until all have been seen and splits can be made
        inputs = plugins.load("modalities", modality, "inputs")
        near = plugins.load("modalities", modality, NEAR) if plugins.has("modalities", modality, NEAR) else None
        packed = pack_all(examples, inputs, packing, preprocessing, store, noun, near.fingerprint if near else None)
        broken = _broken(examples, packed, block.max_broken, noun)
        rows = [row for row in range(len(examples)) if not packed[row].error]
        read = [examples[row] for row in rows]
        if are_classes:
            unread = f"None of their {noun}s can be read. Repair them, or leave out the whole class:{_reasons(broken)}"
            classes.require_all(examples, read, unread)
        same = _same(rows, packed)
        _report_contradictions(examples, same, noun)
        dropped = _duplicates(examples, same) if block.duplicates == "drop" else {}
        rows = [row for row in rows if row not in dropped]
        usable, how = [examples[row] for row in rows], block.split
        if are_classes:
            copies = (f"All their {noun}s are copies of others, and `duplicates: drop` keeps the first of each. Give each its "
                      "right label, or leave out the whole class.")  # fmt: skip
            classes.require_all(read, usable, copies)
        chosen = splits.assign(usable, **how.model_dump(exclude={"train"}), noun=noun)
        assigned = dict(zip(rows, chosen, strict=True))
        if block.duplicates == "refuse":
            _require_none_across_splits(examples, same, assigned, noun)
        assigned = dict(zip(rows, splits.few(usable, chosen, how.train, how.seed, how.stratify), strict=True))
        labels = sorted({example.label for example in usable}) if are_classes else None
        counts, told = {}, {}
        for split in splits.NAMES:
            members = [row for row in rows if assigned[row] == split]
            table = pd.DataFrame([examples[row][:3] for row in members], columns=["key", "label", "group"])
            lengths = [packed[row].shape[0] for row in members] if door.RAGGED else None
            datasets.write_split(out, split, (_stored(store, packed[row]) for row in members), table, lengths)
            small = np.array([packed[row].small for row in members]) if near else None
            digests = [packed[row].digest for row in members]
            datasets.write_fingerprints(fingerprints, split, datasets.Fingerprints(table["key"].tolist(), digests, small))
            told[split] = table["label"].tolist()
            found = Counter(told[split])
            counts[split] = {label: found[label] for label in labels} if labels else {"": len(table)}
    if asked := getattr(block, "episodes", None):
        drawn = episodes.draw(told["test"], {*told["train"], *told["val"]}, **asked.model_dump(), noun=noun)
        datasets.write_episodes(out, "test", drawn)
    files = sorted(path for path in out.rglob("*") if path.suffix in (".npy", ".npz", ".csv"))
    return cards.DataCard(
        name=name,
        modality=modality,
        labels=labels,
        counts=counts,
        packing=packing,
        preprocessing_of=block.preprocessing,
        licence=block.licence,
        reader=block.reader,
        settings=block.model_dump(exclude_unset=True),
        given_splits=sorted({examples[row].split for row in rows} - {""}),
        broken=broken,
        duplicates_dropped=[_pair(examples[row], examples[kept]) for row, kept in sorted(dropped.items())],
        notes=_notes([packed[row] for row in rows], noun) + _unused(chosen, how.train, noun),
        sha256={path.relative_to(out).as_posix(): cards.sha256(path) for path in files},
    )


def pack_all(
    examples: list[Example],
    inputs: ModuleType,
    packing: dict[str, Any],
    preprocessing: dict[str, Any],
    store: IO[bytes],
    noun: str,
    fingerprint: Callable[[Any], np.ndarray] | None = None,
) -> list[Packed]:
    """Decode and pack every example, and append its packed input to `store`."""

    def decode(example: Example) -> tuple[np.ndarray | None, Packed]:
        try:
            decoded = inputs.decode(example.open())
        except Exception as error:  # damaged files raise almost any exception, and must not end the stage
            reason = re.sub(r" <.*?>", "", f"{type(error).__name__}: {error}")  # memory addresses differ between runs
            return None, Packed("", reason)
        remarks = inputs.remarks(decoded, preprocessing | packing)
        small = fingerprint(decoded) if fingerprint else None
        return np.ascontiguousarray(inputs.pack(decoded, **packing)), Packed(inputs.digest(decoded), "", remarks, small=small)

    packed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(examples), unit=noun, disable=None) as bar:
        for start in range(0, len(examples), BATCH):
            for array, result in pool.map(decode, examples[start : start + BATCH]):
                if array is not None:
                    result = result._replace(place=store.tell(), shape=array.shape, dtype=array.dtype.str)
                    store.write(array.tobytes())
                packed.append(result)
                bar.update()
    return packed


def _notes(packed: list[Packed], noun: str) -> list[str]:
    """The remarks on all examples, each with their number and the sum of their amounts."""
    amounts = defaultdict(list)
    for each in packed:
        for remark, amount in each.remarks.items():
            amounts[remark].append(amount)
    return [f"{len(found)} of {len(packed)} {noun}s {remark.format(sum(found))}" for remark, found in sorted(amounts.items())]


def _unused(assigned: list[str], num: int, noun: str) -> list[str]:
    """A remark on the examples that split.train leaves out."""
    given = assigned.count("train")
    return [f"split.train: {num} of {given} training {noun}s are used; the others are in no split"] if 0 < num < given else []


def _stored(store: IO[bytes], packed: Packed) -> np.ndarray:
    store.seek(packed.place)
    num_bytes = int(np.prod(packed.shape)) * np.dtype(packed.dtype).itemsize
    return np.frombuffer(store.read(num_bytes), packed.dtype).reshape(packed.shape)


def _require_unique_keys(examples: list[Example]) -> None:
    keys = [example.key for example in examples]
    twice = sorted({a for a, b in pairwise(sorted(keys)) if a == b})
    if twice:
        raise UserError(f"raw: {len(twice)} duplicate names: {', '.join(twice[:10])}.")


def _broken(examples: list[Example], packed: list[Packed], most: float, noun: str) -> list[dict[str, str]]:
    found = [{"key": example.key, "reason": d.error} for example, d in zip(examples, packed, strict=True) if d.error]
    listed = _reasons(found)
    if len(found) > most * len(examples):
        raise UserError(
            f"{len(found)} of {len(examples)} {noun}s cannot be read; max_broken: {most} allows {int(most * len(examples))}. "
            f"Repair or remove them, or raise max_broken to leave them out:{listed}"
        )
    if found:
        print(f"{len(found)} of {len(examples)} {noun}s cannot be read and are left out:{listed}")
    return found


def _reasons(broken: list[dict[str, str]]) -> str:
    return "".join(f"\n  {entry['key']}: {entry['reason']}" for entry in broken[:10]) + ("\n  ..." if len(broken) > 10 else "")


def _same(rows: list[int], packed: list[Packed]) -> list[list[int]]:
    """Groups of rows with the same decoded input."""
    by_digest = defaultdict(list)
    for row in rows:
        by_digest[packed[row].digest].append(row)
    return [members for members in by_digest.values() if len(members) > 1]


def _report_contradictions(examples: list[Example], same: list[list[int]], noun: str) -> None:
    found = [members for members in same if len({examples[row].label for row in members}) > 1]
    if found:
        print(f"WARNING: {len(found)} {noun}s with conflicting labels:" + _listed(found, examples, lambda row: ""))


def _duplicates(examples: list[Example], same: list[list[int]]) -> dict[int, int]:
    """Each dropped row and the row kept instead: the first one, but preferably one of a given test split."""
    importance = ["test", "val", "train", ""]
    dropped: dict[int, int] = {}
    for members in same:
        kept = min(members, key=lambda row: (importance.index(examples[row].split), row))
        dropped |= {row: kept for row in members if row != kept}
    return dropped


def _pair(dropped: Example, kept: Example) -> dict[str, str]:
    return {"key": dropped.key, "label": dropped.label, "same_as": kept.key, "its_label": kept.label}


def _require_none_across_splits(examples: list[Example], same: list[list[int]], assigned: dict[int, str], noun: str) -> None:
    leaks = [members for members in same if len({assigned[row] for row in members}) > 1]
    if leaks:
        raise UserError(
            f"{len(leaks)} {noun}s are in more than one split, so the test would not be of unseen {noun}s. "
            "`duplicates: drop` keeps the first of each:" + _listed(leaks, examples, lambda row: f"{assigned[row]}, ")
        )


def _listed(found: list[list[int]], examples: list[Example], split: Callable[[int], str]) -> str:
    lines = [" = ".join(f"{examples[row].key} ({split(row)}{examples[row].label[:60]})" for row in members) for members in found]
    return "".join(f"\n  {line}" for line in lines[:10]) + ("\n  ..." if len(lines) > 10 else "")
