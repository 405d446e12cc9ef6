"""dvc.yaml against the code: what a stage imports is what it depends on, what it declares is what it reads."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from stages.lib import plugins, schema
from tests.closure import ROOT, closure

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PLUGINS = {"download": "downloads", "prepare": "readers", "source": "weights", "intermediate": "strategies",
           "target": "strategies", "scratch": "strategies"}  # fmt: skip


def body(name):
    stage = STAGES[name]
    return stage.get("do", stage)


def script(name):
    return Path(re.search(r"stages\.(\w+)", body(name)["cmd"])[1])


def declared_code(name):
    return {dep for dep in body(name)["deps"] if dep.endswith(".py")}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check"}))
def test_deps_equal_the_import_closure(name):
    """A plug-in is named by the params (`${...}`); what any of them imports counts for all."""
    stage = Path("stages") / f"{script(name)}.py"
    folder = PLUGINS.get(name)
    files = [Path("stages/lib") / folder / f"{plugin}.py" for plugin in plugins.names(folder)] if folder else []
    needed = {path.as_posix() for path in closure(stage, *files)} - {path.as_posix() for path in files}
    if name == "scratch":
        needed |= {"stages/lib/strategies/scratch.py"}
    elif name == "recipe":  # reads the knobs of any strategy and hashes its code; which one, for auto, only advise.json says
        assert "stages/lib/strategies" in body(name)["deps"]
    elif folder:
        template = next(dep for dep in declared_code(name) if "${" in dep)
        assert template.startswith(f"stages/lib/{folder}/")
        needed |= {template}
    assert declared_code(name) == needed


@pytest.mark.parametrize("name", ["evaluate", "evaluate-scratch", "evaluate-intermediate", "forgetting"])
def test_what_measures_does_not_depend_on_how_training_is_done(name):
    assert not {"stages/lib/fit.py", "stages/lib/optimizers.py", "stages/lib/mistakes.py"} & declared_code(name)


def test_check_depends_on_all_that_decides_whether_params_are_valid():
    folders = {f"stages/lib/{folder}" for _, _, folder in schema.BLOCKS.values()}
    needed = {path.as_posix() for path in closure(Path("stages/check.py"))}
    assert set(body("check")["deps"]) == needed | folders | {"params.yaml", "requirements.in"}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check", "track"}))
def test_declared_params_equal_the_sections_that_are_read(name):
    tree = ast.parse((ROOT / "stages" / f"{script(name)}.py").read_text())
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load"]
    read = {argument.value for load in loads for argument in load.args}
    declared = {param.partition(".")[0] for param in body(name).get("params", [])}
    assert read == declared


def test_only_evaluate_and_forgetting_open_the_test_split():
    for name in STAGES:
        opens = any("/test." in dep for dep in body(name)["deps"])
        assert opens == (script(name).name in ("evaluate", "forgetting")), name  # neither chooses anything
    readers = [path for path in (ROOT / "stages").rglob("*.py") if re.search(r"read_split\([^)]*test", path.read_text())]
    assert [path.name for path in readers] == ["evaluate.py"]


def test_a_stage_has_its_file_and_its_description():
    for name in STAGES:
        assert (ROOT / "stages" / f"{script(name)}.py").exists()
        assert body(name).get("desc")
    files = {path.stem for path in (ROOT / "stages").glob("[!_]*.py")}
    assert files == {script(name).name for name in STAGES}


def test_no_param_goes_into_a_command_but_names_that_the_check_stage_has_seen():
    allowed = {"${key}", "${item.init}", "${item.seed}", "${item.data}", "${target.data}"}
    for name in STAGES:
        assert set(re.findall(r"\$\{[^}]*\}", body(name)["cmd"])) <= allowed
