"""Set params.yaml up for a ready-made system: python -m stages scenario [NAME] [--raw PATH] [--dry] [--force]

Without NAME, lists the scenarios. A scenario (stages/scenarios) is an overlay on params.yaml: sections of named blocks (download,
datasets, source, intermediate, alternatives, baselines) are replaced, in all others only the keys that it names. With --raw, the
data are looked at: what cannot be read is told before anything is written, and if the scenario names `steps`, the epochs of all
trainings follow from it and the number of examples.
"""

import argparse
import difflib
import io
import math
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from stages.lib.core import plugins, runs
from stages.lib.core.contracts import Example
from stages.lib.errors import UserError, listed, nearest
from stages.lib.params.read import PATH, read
from stages.lib.params.validate import validate

FOLDER = Path(__file__).parents[1] / "scenarios"
REPLACED = ("download", "datasets", "source", "intermediate", "alternatives", "baselines")
WHOLE = ("trainable", "metric_learning")  # blocks whose keys depend on each other
EPOCHS = (3, 30)  # the fewest and the most that follow from `steps`
UNEQUAL = 3  # how many times larger than the smallest the largest class may be without a word


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages scenario", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("name", nargs="?", help="of a scenario; default: list them", metavar="NAME")
    parser.add_argument("--raw", help="folder or archive of the target's data, instead of the scenario's", metavar="PATH")
    parser.add_argument("--dry", action="store_true", help="only show what would change")
    parser.add_argument("--force", action="store_true", help="overwrite changes of params.yaml that git does not hold")
    asked = parser.parse_args(words)
    known = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if asked.name is None:
        for name, path in known.items():
            print(f"{name}\n{header(path)}\n")
        return
    if asked.name not in known:
        raise UserError(f"There is no scenario {asked.name!r}.{nearest(asked.name, known)} Scenarios: {listed(known)}.")
    read()  # a UserError if it is missing, or no YAML
    before = PATH.read_text(encoding="utf-8")
    overlay = known[asked.name].read_text(encoding="utf-8")
    raw = None if asked.raw is None else str(Path(asked.raw).expanduser())
    after = overlaid(before, overlay, raw)
    checked = validate(YAML(typ="safe").load(after))
    told: list[str] = []
    if raw is not None:
        told, num_train = look(checked.modality, checked.target.data, checked.datasets[checked.target.data])
        if steps := YAML(typ="safe").load(overlay).get("steps"):
            after, chosen = suited(after, steps, num_train)
            told.append(chosen)
    if after == before:
        print(f"{PATH} is already set up for {asked.name}.")
        return
    changes = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(PATH), f"{PATH} for {asked.name}", n=0)
    print("".join(changes), *told, sep="\n")
    if asked.dry:
        return
    if not asked.force and not held_by_git():
        raise UserError(
            f"git does not hold {PATH} as it is now, so it could not give it back. Commit it first, or give --force. Nothing was "
            "written."
        )
    PATH.write_text(after, encoding="utf-8")
    print(f"{PATH} is set up for {asked.name}. Next: {before_repro(checked.datasets, pointed=raw is not None)}dvc repro")


def before_repro(datasets: Mapping[str, Any], pointed: bool) -> str:
    """What people must do before `dvc repro`: own data have to be where params.yaml says; downloads come by themselves."""
    paths = dict.fromkeys(Path(block.raw) for block in datasets.values())
    missing = [path for path in paths if path.parent != runs.raw("") and not path.exists()]
    if not missing:
        return ""
    otherwise = "" if pointed else " (or say where they are: --raw PATH --force)"
    return f"put your data at {' and '.join(map(str, missing))}{otherwise}, then "


def header(path: Path) -> str:
    """The comment at the top of a scenario."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").rstrip() for line in lines[:end])


def overlaid(base: str, overlay: str, raw: str | None = None) -> str:
    """The text of params.yaml with an overlay; the comments of both are kept.

    Args:
        base: text of params.yaml.
        overlay: text of a scenario.
        raw: of the target's dataset, instead of the overlay's.
    """
    yaml = _yaml()
    extra = yaml.load(overlay)
    extra.pop("steps", None)  # it is for `suited`, and no section
    own, new = _sections(base), _sections(overlay)
    # Spliced as text: to ruamel, the comment above a section is a part of the one before it, and would be replaced with that.
    replaced = {name: new[name].rstrip() + "\n\n" for name in REPLACED if name in new}
    own |= {name: _emptied(own[name]) for name, value in extra.items() if isinstance(value, list) and name in own}
    merged = yaml.load("".join((own | replaced).values()))
    for section, value in extra.items():
        if section in REPLACED:
            continue
        if isinstance(value, dict):
            _merge(merged.setdefault(section, {}), value)
        else:
            merged[section] = value
    if raw is not None:
        _point(merged, merged["datasets"][merged["target"]["data"]], raw)
    return _dumped(yaml, merged)


def look(modality: str, name: str, block: Any) -> tuple[list[str], int]:
    """What a dataset holds and how it will be split, before anything is decoded.

    Args:
        name: of the dataset, and its `block`.

    Returns:
        Lines for people, and the number of training examples.

    Raises:
        UserError: the data cannot be read, or a split cannot be made.
    """
    from stages.lib.data import splits  # here, so that listing scenarios need not wait for scikit-learn

    noun = plugins.load("modalities", modality).NOUN
    reader, how = plugins.load("readers", block.reader), block.split
    try:
        found: list[Example] = reader.read(Path(block.raw), **plugins.arguments(block, reader))
        examples = splits.limit(found, block.limit, how.seed, how.stratify)
        assigned = splits.assign(examples, **how.model_dump(exclude={"train"}), noun=noun)
        assigned = splits.few(examples, assigned, how.train, how.seed, how.stratify)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}\nNothing was written.") from None
    counts = Counter(example.label for example in found) if how.stratify else Counter()
    shown = ", ".join(f"{label} {count}" for label, count in counts.most_common(12)) + (" ..." if len(counts) > 12 else "")
    shares = ", ".join(f"{assigned.count(split)} for {split}" for split in splits.NAMES)
    told = [f"{block.raw}: {len(found)} {noun}s" + (f" of {len(counts)} classes: {shown}" if counts else "")]
    own = {example.split for example in found}  # the data's own splits
    drawn = "".join(f"; {split} is drawn from train" for split in splits.NAMES if "train" in own and split not in own)
    told += [f"{shares}, if all can be read and none is there twice{drawn}"]
    if counts and max(counts.values()) > UNEQUAL * min(counts.values()):
        told += ["The classes are unequal: `training.balance: weights` lets each count equally in training, and `compare.metric: "
                 "balanced_accuracy` in the verdict"]  # fmt: skip
    return told, assigned.count("train")


def suited(text: str, steps: int, num_train: int) -> tuple[str, str]:
    """The text of params.yaml with as many epochs as make about `steps` steps of each training, and a line for people."""
    yaml = _yaml()
    values = yaml.load(text)
    batch_size = values["training"]["batch_size"]
    epochs = min(max(math.ceil(steps * batch_size / num_train), EPOCHS[0]), EPOCHS[1])
    for block in [*values["strategies"].values(), *values["alternatives"].values(), values["scratch"]]:
        if "epochs" in block:
            block["epochs"] = epochs
    return _dumped(yaml, values), f"{epochs} epochs of {math.ceil(num_train / batch_size)} steps"


def held_by_git() -> bool:
    """Whether git could give params.yaml back as it is; it could not outside of a repository, or without git."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{PATH}"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return shown.returncode == 0 and shown.stdout == PATH.read_bytes()


def _yaml() -> YAML:
    """Reads and writes YAML with its comments."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = 130, True, _WithNull
    return yaml


class _WithNull(RoundTripRepresenter):
    """Writes `null`, which says more than nothing."""

    def represent_none(self, data: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_WithNull.add_representer(type(None), _WithNull.represent_none)


def _dumped(yaml: YAML, values: Any) -> str:
    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()


def _point(merged: Any, block: Any, raw: str) -> None:
    """Point a block of datasets to another folder or archive; where a download was, it is read as folders of classes."""
    of_download = block["raw"].startswith(f"{runs.raw('')}/")
    block["raw"] = raw
    if of_download:
        for key in plugins.load("readers", block["reader"]).Params.model_fields:
            del block[key]
        block["reader"], block["group_from"] = f"{merged['modality']}_folder", ""
        used = {str(each["raw"]) for each in merged["datasets"].values()}
        for name in [name for name in merged["download"] if str(runs.raw(name)) not in used]:
            del merged["download"][name]


def _sections(text: str) -> dict[str, str]:
    """The lines of each section by its name; the comment above a section has a name of its own."""
    found: dict[str, str] = {}
    name, comment = "", ""
    for line in text.splitlines(True):
        if match := re.match(r"([a-z_]+):", line):
            if comment:
                found[f"above {match[1]}"] = comment
            name, comment = match[1], ""
        elif line.startswith("#") or (comment and not line.strip()):
            comment += line
            continue
        found[name] = found.get(name, "") + comment + line  # a comment between the lines of a section belongs to it
        comment = ""
    found[name] = found.get(name, "") + comment
    return found


def _emptied(section: str) -> str:
    """A section, emptied but for its comments if it is a list with an item in each line: ruamel loses the line break after it."""
    first, *others = section.splitlines(True)
    if not any(line.lstrip().startswith("- ") for line in others):
        return section
    key, _, words = first.partition("#")
    kept = [line for line in others if not line.lstrip().startswith("- ")]
    return f"{key.rstrip()} []" + (f"  # {words.lstrip()}" if words else "\n") + "".join(kept)


def _merge(into: Any, values: Any) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict) and key not in WHOLE:
            _merge(into[key], value)
        else:
            into[key] = value
