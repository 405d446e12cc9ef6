"""Set params.yaml up for a ready-made system: python -m stages scenario [NAME] [--raw PATH] [--dry] [--force]

Without NAME, lists the scenarios. A scenario (stages/scenarios) is an overlay on params.yaml: sections of named blocks (download,
datasets, source, intermediate, alternatives, baselines) are replaced, in all others only the keys that it names.
"""

import argparse
import difflib
import io
import re
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.errors import UserError, listed, nearest
from stages.lib.params.read import PATH, read
from stages.lib.params.validate import validate

FOLDER = Path(__file__).parents[1] / "scenarios"
REPLACED = ("download", "datasets", "source", "intermediate", "alternatives", "baselines")
WHOLE = ("trainable", "metric_learning")  # blocks whose keys depend on each other


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
    after = overlaid(before, known[asked.name].read_text(encoding="utf-8"), asked.raw)
    validate(YAML(typ="safe").load(after))
    if after == before:
        print(f"{PATH} is already set up for {asked.name}.")
        return
    changes = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(PATH), f"{PATH} for {asked.name}", n=0)
    print("".join(changes))
    if asked.dry:
        return
    if not asked.force and not held_by_git():
        raise UserError(
            f"git does not hold {PATH} as it is now, so it could not give it back. Commit it first, or give --force. Nothing was "
            "written."
        )
    PATH.write_text(after, encoding="utf-8")
    print(f"{PATH} is set up for {asked.name}. Next: dvc repro")


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
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 130, True
    extra = yaml.load(overlay)
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
        merged["datasets"][merged["target"]["data"]]["raw"] = raw
    text = io.StringIO()
    yaml.dump(merged, text)
    return text.getvalue()


def held_by_git() -> bool:
    """Whether git could give params.yaml back as it is; it could not outside of a repository, or without git."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{PATH}"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return shown.returncode == 0 and shown.stdout == PATH.read_bytes()


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
