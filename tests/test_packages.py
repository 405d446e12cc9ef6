"""Imports between packages go one way, as the table in stages/README.md says."""

import re

import pytest

from stages.lib.core.closure import STAGES, imports

TABLE = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (STAGES / "README.md").read_text().split("| reader |")[0], re.MULTILINE)
ORDER = [name for row in TABLE for name in re.findall(r"`(\w+)`", row)]
OBSERVERS = {"params", "shell", "tracking"}
ALSO = {("learning_curve", "plots"), ("advice", "strategies")}


def package(path):
    """The first folder in stages/lib/; of stages and commands, the file itself."""
    parts = path.relative_to(STAGES).parts
    return parts[1] if parts[0] == "lib" and len(parts) > 2 else path.stem


def test_the_table_lists_every_package():
    plugins = {"downloads", "readers", "weights", "libraries", "strategies", "modalities", "tasks", "baselines"}
    folders = {path.name for path in (STAGES / "lib").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(ORDER) == folders - plugins


@pytest.mark.parametrize("name", [name for name in ORDER if name not in OBSERVERS])
def test_a_package_imports_only_those_above_it(name):
    allowed = {
        *ORDER[: ORDER.index(name) + 1],
        "errors",
        "imports",
        *(imported for importer, imported in ALSO if importer == name),
    }
    for path in (STAGES / "lib" / name).rglob("*.py"):
        assert {package(imported) for imported in imports(path)} - {"lib"} <= allowed, path


def test_no_stage_imports_a_stage():
    stages = set(STAGES.glob("*.py")) - {STAGES / "__main__.py"}
    for path in [*stages, *(STAGES / "lib").rglob("*.py")]:
        assert not imports(path) & stages, path
