"""Which code a result depends on, derived from the imports without running anything.

Used by the test of dvc.yaml, by a recipe's hash of its plug-ins, and by the keys of resumed trainings.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

STAGES = Path(__file__).resolve().parents[2]

# Code that cannot change a result, and so is not a dependency of any stage: the command line, how libraries are imported, locks,
# progress and checkpoints; logging to MLflow; and validation and error messages. (A test checks that validation never changes
# params.)
OBSERVERS = (
    "__main__.py",
    "lib/errors.py",
    "lib/imports.py",
    "lib/shell",
    "lib/tracking",
    "lib/params",
)


def observes(path: Path) -> bool:
    """Whether a file of stages/ is one of the observers."""
    return any(path.is_relative_to(STAGES / each) for each in OBSERVERS)


@cache
def imports(path: Path) -> frozenset[Path]:
    """Files of stages/ that one file imports, at its top or inside its functions."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(STAGES.parent).parent.parts  # that the dots of a relative import refer to
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            modules |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    found: set[Path] = set()
    for module in modules:
        parts = module.split(".")
        if parts[0] == STAGES.name:  # importing a.b.c runs the __init__ of a and of a.b too
            found |= {file for end in range(2, len(parts) + 1) if (file := _file(parts[1:end]))}
    return frozenset(found)


def files(*roots: Path, observers: bool = False) -> set[Path]:
    """All files of stages/ that these import, directly or indirectly, and these themselves; not the plug-ins that they load."""
    todo, done = [root.resolve() for root in roots], set[Path]()
    while todo:
        path = todo.pop()
        if path not in done and (observers or not observes(path)):
            done.add(path)
            todo += imports(path)
    return done


def plugin(kind: str, name: str, *parts: str) -> list[Path]:
    """The file of a plug-in; if it is a folder, all of its files or only the named `parts`."""
    folder = STAGES / "lib" / kind / name
    if not folder.is_dir():
        return [folder.with_suffix(".py")]
    return [folder / f"{part}.py" for part in parts] if parts else sorted(folder.rglob("*.py"))


def of_plugin(kind: str, name: str, *parts: str) -> set[Path]:
    """Files of one kind of plug-in that a plug-in, or the named `parts` of it, runs: its own and those it takes from others."""
    folder = STAGES / "lib" / kind
    return {path for path in files(*plugin(kind, name, *parts)) if path.is_relative_to(folder)}


def key(paths: Iterable[Path], values: dict[str, Any]) -> str:
    """Hash of JSON-serialisable values and of code: the same key means that the same result is expected."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode() + digest(paths).encode()).hexdigest()


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files of stages/."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.relative_to(STAGES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _file(parts: list[str]) -> Path | None:
    path = STAGES.joinpath(*parts)
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)
