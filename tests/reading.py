"""What each stage of dvc.yaml reads: its code, as the imports say it, and the sections of params.yaml."""

import ast
from pathlib import Path

import yaml

from stages.lib.core import closure, plugins
from tests.tiny import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# Which plug-ins a stage may load, which no import says: the parts of a modality or a task, and None for the file of any other.
MEASURING = {"modalities": ("__init__", "inputs"), "tasks": ("__init__", "learning", "measures", "outputs")}
LOADS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "check": {},
    "download": {"downloads": None},
    "source": {"weights": None, "libraries": None, "modalities": ("__init__", "beside")},
    "prepare": {"readers": None, "modalities": ("__init__", "inputs", "show", "near_duplicates")},
    "leaks": {"modalities": ("__init__", "near_duplicates")},
    "recipe": {},  # it takes the hash of what a training will run: the files themselves
    "intermediate": {},
    "target": {},
    "alternative": {},
    "scratch": {},
    "advise": {"modalities": ("__init__", "inputs", "variants"), "tasks": ("__init__", "learning")},
    "calibrate": {"modalities": ("__init__", "inputs"), "tasks": ("__init__", "learning", "outputs", "calibration")},
    "controls": MEASURING | {"baselines": None},
    "evaluate": {"modalities": ("__init__", "inputs", "explain"), "tasks": (*MEASURING["tasks"], "calibration")},
    "forgetting": MEASURING,
    "compare": {"modalities": ("__init__",), "tasks": ("__init__", "measures", "facts")},
    "report": {"modalities": ("__init__",), "tasks": ("__init__", "measures", "facts", "page")},
    "track": {},
}
# Plug-ins whose hash stands in what these stages read instead: in the recipe, and of libraries in the model's card.
RECIPE: dict[str, tuple[str, ...] | None] = {"strategies": None, "modalities": ("inputs",), "tasks": ("learning",)}
HASHED = {word: RECIPE | {"libraries": None} for word in ("intermediate", "target", "alternative", "scratch")}
HASHED |= {word: {"libraries": None} for word in ("advise", "calibrate", "evaluate", "controls", "forgetting")}


def body(stage: str) -> dict:
    """A stage of dvc.yaml, or what it does for each of many."""
    return STAGES[stage].get("do", STAGES[stage])


def words(stage: str) -> list[str]:
    """What stands after `python -m stages` in its command."""
    return body(stage)["cmd"].partition(" || ")[0].split()[3:]


def script(stage: str) -> Path:
    """The file that it runs."""
    return closure.STAGES / f"{words(stage)[0]}.py"


def code(stage: str) -> set[str]:
    """Files that its result depends on, but for plug-ins whose hash stands in what it reads."""
    word = words(stage)[0]
    found = closure.files(script(stage), *_files(LOADS[word]))
    if word == "recipe":
        found |= set(_files(RECIPE))
    for kind, parts in HASHED.get(word, {}).items():
        taken = closure.files(*_files({kind: parts}))
        found |= {path for path in taken if not any(path.is_relative_to(closure.STAGES / "lib" / each) for each in HASHED[word])}
    return {path.relative_to(ROOT).as_posix() for path in found}


def sections(stage: str) -> set[str]:
    """Sections of params.yaml that it loads; where its first argument names a function of its file, those of that function."""
    tree: ast.AST = ast.parse(script(stage).read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    tree = functions.get(words(stage)[1], tree) if len(words(stage)) > 1 else tree
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load"]
    return {argument.value for load in loads for argument in load.args}


def _files(loads: dict[str, tuple[str, ...] | None]) -> list[Path]:
    named = [(kind, name, parts or ()) for kind, parts in loads.items() for name in plugins.names(kind)]
    files = [path for kind, name, parts in named for path in closure.plugin(kind, name, *parts)]
    return [path for path in files if path.exists()]  # some parts are optional
