"""Decode, check, resize, split and pack one dataset into data/prepared/NAME: python -m stages.prepare NAME"""

import hashlib
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.lib import artifacts, command, images, params, pictures, plugins, splits
from stages.lib.errors import UserError
from stages.lib.readers import Example

SAMPLES, MOST_CLASSES = 3, 12  # images of each class and split in samples.png, and how many classes fit there
BATCH = 256  # images that threads decode before their pixels are written: the most that is held in memory


class Decoded(NamedTuple):
    """What is kept of an image in memory once its pixels are written."""

    digest: str  # of the decoded image before it is resized: equal for equal images, whatever their files
    error: str  # why it cannot be read, or ""


def main(name: str) -> None:
    block = params.block(params.load("datasets").datasets, "datasets", name)
    wanted = artifacts.read_json(Path("models") / block.preprocessing / "card.json")["preprocessing"]
    geometry = {"px": block.px, "fit": block.fit} | {key: wanted[key] for key in ("crop_pct", "interpolation")}
    out = Path("data/prepared") / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        card = prepare(name, block, geometry, out)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}") from None
    artifacts.write_json(out / "card.json", card)
    show(out, card["classes"])
    totals = ", ".join(f"{split} {sum(counts.values())}" for split, counts in card["counts"].items())
    if block.px != wanted["px"]:
        print(f"{name}: packed at {block.px} px; the weights of {block.preprocessing} were trained at {wanted['px']} px")
    print(f"{name}: {totals} images of {len(card['classes'])} classes; licence: {block.licence}")


def prepare(name: str, block, geometry: dict, out: Path) -> dict:
    """Write the splits of one dataset to `out`.

    Args:
        name: of the dataset, and `block`, its block of params.yaml.
        geometry: the keyword arguments of stages.lib.images.resize.
        out: an empty folder.

    Returns:
        The dataset's card.

    Raises:
        UserError: too many broken images, the same image in two splits, or splits that cannot be made.
    """
    plugin = plugins.load("readers", block.reader)
    examples = plugin.read(Path(block.raw), **plugins.knobs(block, plugin))
    _require_unique_keys(examples)
    examples = splits.limit(examples, block.limit, block.split.seed)
    with tempfile.TemporaryFile(dir=out) as store:  # pixels wait here: splits can be made once all images have been seen
        decoded = decode_all(examples, geometry, store)
        broken = _broken(examples, decoded, block.max_broken)
        rows = [row for row in range(len(examples)) if not decoded[row].error]
        same = _same(rows, decoded)
        _tell_contradictions(examples, same)
        dropped = _duplicates(examples, same) if block.duplicates == "drop" else {}
        rows = [row for row in rows if row not in dropped]
        assigned = dict(zip(rows, splits.assign([examples[row] for row in rows], **block.split.model_dump()), strict=True))
        if block.duplicates == "refuse":
            _require_none_across_splits(examples, same, assigned)

        classes = sorted({examples[row].label for row in rows})
        counts = {}
        for split in splits.NAMES:
            chosen = [row for row in rows if assigned[row] == split]
            table = pd.DataFrame({
                "key": [examples[row].key for row in chosen],
                "label": [classes.index(examples[row].label) for row in chosen],
                "group": [examples[row].group for row in chosen],
            })  # fmt: skip
            artifacts.write_split(out, split, (_stored(store, row, block.px) for row in chosen), table)
            counts[split] = {label: int((table["label"] == index).sum()) for index, label in enumerate(classes)}
    files = sorted(path for path in out.iterdir() if path.suffix in (".npy", ".csv"))
    return {
        "kind": "data",
        "name": name,
        "modality": "image",
        "classes": classes,
        "counts": counts,
        "geometry": geometry,
        "preprocessing_of": block.preprocessing,
        "licence": block.licence,
        "reader": block.reader,
        "settings": block.model_dump(),
        "given_splits": sorted({examples[row].split for row in rows} - {""}),
        "broken": broken,
        "duplicates_dropped": [_pair(examples[row], examples[kept]) for row, kept in sorted(dropped.items())],
        "sha256": {path.name: artifacts.sha256(path) for path in files},
    }


def show(folder: Path, classes: list[str]) -> None:
    """Draw the first images of each class and split as they were packed, for people to look at before they train."""
    found = {}
    for split in splits.NAMES:
        packed = artifacts.read_split(folder, split)
        for index, label in enumerate(classes[:MOST_CLASSES]):
            found[label, split] = np.array(packed.inputs[np.flatnonzero(packed.labels == index)[:SAMPLES]])
    left_out = f" (the first {MOST_CLASSES} of {len(classes)} classes)" if len(classes) > MOST_CLASSES else ""
    pictures.samples(folder / "samples.png", found, SAMPLES, f"{folder.name}{left_out}")


def decode_all(examples: list[Example], geometry: dict, store: IO[bytes]) -> list[Decoded]:
    """Decode and resize every image, and write its pixels to `store`, row after row; broken ones leave a gap there."""

    def decode(example: Example) -> tuple[np.ndarray | None, Decoded]:
        try:
            image = images.decode(example.open())
        except Exception as error:  # damaged files raise nearly anything, and one of them should not end the stage
            reason = re.sub(r" <.*?>", "", f"{type(error).__name__}: {error}")  # an address in memory differs in every run
            return None, Decoded("", reason)
        digest = hashlib.sha256(f"{image.width}x{image.height} ".encode() + image.tobytes()).hexdigest()
        return images.resize(image, **geometry), Decoded(digest, "")

    decoded = []
    row_bytes = geometry["px"] ** 2 * 3
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(examples), unit="image", disable=None) as bar:
        for start in range(0, len(examples), BATCH):
            for pixels, result in pool.map(decode, examples[start : start + BATCH]):
                if pixels is not None:
                    store.seek(len(decoded) * row_bytes)
                    store.write(pixels.tobytes())
                decoded.append(result)
                bar.update()
    return decoded


def _stored(store: IO[bytes], row: int, px: int) -> np.ndarray:
    store.seek(row * px * px * 3)
    return np.frombuffer(store.read(px * px * 3), np.uint8).reshape(px, px, 3)


def _require_unique_keys(examples: list[Example]) -> None:
    keys = [example.key for example in examples]
    twice = sorted({a for a, b in pairwise(sorted(keys)) if a == b})
    if twice:
        raise UserError(f"raw: {len(twice)} names stand there twice: {', '.join(twice[:10])}.")


def _broken(examples: list[Example], decoded: list[Decoded], most: float) -> list[dict[str, str]]:
    found = [{"key": example.key, "reason": d.error} for example, d in zip(examples, decoded, strict=True) if d.error]
    listed = "".join(f"\n  {entry['key']}: {entry['reason']}" for entry in found[:10]) + ("\n  ..." if len(found) > 10 else "")
    if len(found) > most * len(examples):
        raise UserError(
            f"{len(found)} of {len(examples)} images cannot be read; max_broken: {most} allows {int(most * len(examples))}. "
            f"Repair them or take them away, or raise max_broken to leave them out:{listed}"
        )
    if found:
        print(f"left out, because they cannot be read, {len(found)} of {len(examples)}:{listed}")
    return found


def _same(rows: list[int], decoded: list[Decoded]) -> list[list[int]]:
    """Rows that hold the same image, pixel for pixel."""
    by_digest = defaultdict(list)
    for row in rows:
        by_digest[decoded[row].digest].append(row)
    return [members for members in by_digest.values() if len(members) > 1]


def _tell_contradictions(examples: list[Example], same: list[list[int]]) -> None:
    found = [members for members in same if len({examples[row].label for row in members}) > 1]
    if found:
        print(f"warning: {len(found)} images stand there with more than one label:" + _listed(found, examples, lambda row: ""))


def _duplicates(examples: list[Example], same: list[list[int]]) -> dict[int, int]:
    """The row of each image that is dropped, and of the one kept for it: the first, but one of a given test split first."""
    importance = ["test", "val", "train", ""]
    dropped = {}
    for members in same:
        kept = min(members, key=lambda row: (importance.index(examples[row].split), row))
        dropped |= {row: kept for row in members if row != kept}
    return dropped


def _pair(dropped: Example, kept: Example) -> dict[str, str]:
    return {"key": dropped.key, "label": dropped.label, "same_as": kept.key, "its_label": kept.label}


def _require_none_across_splits(examples: list[Example], same: list[list[int]], assigned: dict[int, str]) -> None:
    leaks = [members for members in same if len({assigned[row] for row in members}) > 1]
    if leaks:
        raise UserError(
            f"{len(leaks)} images are in more than one split, so that the test would not be of unseen images. "
            "`duplicates: drop` keeps the first of each:" + _listed(leaks, examples, lambda row: f"{assigned[row]}, ")
        )


def _listed(found: list[list[int]], examples: list[Example], split: Callable[[int], str]) -> str:
    lines = [" = ".join(f"{examples[row].key} ({split(row)}{examples[row].label})" for row in members) for members in found]
    return "".join(f"\n  {line}" for line in lines[:10]) + ("\n  ..." if len(lines) > 10 else "")


if __name__ == "__main__":
    command.run(main)
