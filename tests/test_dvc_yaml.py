"""dvc.yaml against the code: what a stage imports or may load is what it depends on, what it declares is what it reads."""

import json
import re
import shutil
import sys

import pytest
import yaml

from stages.lib.core import closure
from stages.lib.core.runs import prepared
from tests.reading import HASHED, LOADS, STAGES, body, code, script, sections, words
from tests.tiny import ROOT

FILES = {path.relative_to(ROOT).as_posix() for path in closure.STAGES.rglob("*") if path.is_file() and path.suffix != ".pyc"}
CODE = sorted(set(STAGES) - {"check", "track"})  # these two run whenever anything changes
MEASURING = ["evaluate", "evaluate-alternative", "evaluate-scratch", "evaluate-intermediate", "forgetting"]
MODALITY, TASK = "stages/lib/modalities/${modality}", "stages/lib/tasks/${target.task}"

OTHERS = re.compile(r"stages/lib/(modalities/(?!image/)|tasks/(?!classify/))")

# Where a folder among the deps holds more than the stage needs (of the modality image and the task classify): a change there
# makes it run again for nothing. In exchange dvc.yaml can be read, and nothing that a result depends on is forgotten.
CLOSURE = {"stages/lib/core": ["closure"]}
CORE = {"stages/lib/core": ["closure", "licences"]}
SAID = ["facts", "page", "words"]  # what a task says of its figures, which compare and report alone need
EVALUATE = CORE | {
    "stages/lib/evaluation": ["adaptation", "comparison", "current", "facts", "forgetting", "pairing", "verdicts"],
    "stages/lib/networks": ["interpolation", "layers"],
    MODALITY: ["near_duplicates", "served", "show", "standalone", "variants"],
    TASK: SAID,
}
OF_A_HOP = "stages/lib/tasks/${item.task}"
CONTROLS = EVALUATE | {
    "stages/lib/evaluation": ["adaptation", "calibrated", "comparison", "current", "facts", "forgetting", "pairing", "verdicts"],
    MODALITY: ["explain", "near_duplicates", "saliency", "served", "show", "standalone", "variants"],
    TASK: ["calibration", *SAID],
}
RECIPE = {
    "stages/lib/core": ["contracts", "datasets", "licences", "seeds"],
    "stages/lib/modalities": [
        "__init__",
        "explain",
        "files",
        "near_duplicates",
        "saliency",
        "served",
        "show",
        "standalone",
        "variants",
    ],
    "stages/lib/strategies": ["_domains"],
    "stages/lib/tasks": ["__init__", "calibration", "facts", "measures", "metrics", "outputs", "page", "plots", "words"],
}
COARSE = {
    "source": {
        MODALITY: ["explain", "files", "inputs", "near_duplicates", "saliency", "served", "show", "standalone", "variants"]
    },
    "calibrate": CORE
    | {
        "stages/lib/networks": ["interpolation", "layers"],
        MODALITY: ["explain", "near_duplicates", "saliency", "served", "show", "standalone", "variants"],
        TASK: ["facts", "measures", "page", "plots", "words"],
    },
    "controls": CONTROLS,
    "prepare": CORE | {"stages/lib/data": ["fetch"], MODALITY: ["explain", "saliency", "served", "standalone", "variants"]},
    "leaks": {
        "stages/lib/core": ["closure", "contracts", "licences", "seeds"],
        MODALITY: ["explain", "files", "inputs", "saliency", "served", "show", "standalone", "variants"],
    },
    "recipe-hops": RECIPE,
    "recipe": RECIPE,
    "advise": {
        "stages/lib/core": ["licences"],
        "stages/lib/networks": ["folding", "inference", "interpolation"],
        MODALITY: ["explain", "near_duplicates", "saliency", "served", "show", "standalone"],
        TASK: ["calibration", "facts", "measures", "metrics", "outputs", "page", "plots", "words"],
    },
    "evaluate": EVALUATE,
    "evaluate-alternative": EVALUATE,
    "evaluate-scratch": EVALUATE,
    "evaluate-intermediate": {dep: files for dep, files in EVALUATE.items() if dep != TASK} | {OF_A_HOP: SAID},
    "forgetting": CORE
    | {
        "stages/lib/evaluation": ["adaptation", "calibrated", "comparison", "current", "facts", "verdicts"],
        "stages/lib/networks": ["layers"],
        MODALITY: ["explain", "near_duplicates", "saliency", "served", "show", "standalone", "variants"],
        OF_A_HOP: ["calibration", *SAID],
    },
    "compare": CLOSURE
    | {
        "stages/lib/evaluation": ["calibrated", "forgetting", "measure"],
        "stages/lib/plots": ["svg"],
        TASK: ["calibration", "learning", "outputs", "page"],
    },
    "report": CLOSURE
    | {
        "stages/lib/evaluation": ["adaptation", "calibrated", "forgetting", "measure"],
        "stages/lib/plots": ["gallery", "trainings"],
        "stages/lib/reporting": ["warnings"],
        TASK: ["calibration", "learning", "outputs"],
    },
}


def covered(dep: str) -> set[str]:
    """Files of stages/ that a dep names, or that lie below it; `${...}` stands for any plug-in."""
    pattern = "[^/_][^/]*".join(map(re.escape, re.split(r"\$\{[^}]*\}", dep))) + "(/.*)?"
    return {path for path in FILES if re.fullmatch(pattern, path)}


def code_deps(name: str) -> dict[str, set[str]]:
    return {dep: covered(dep) for dep in body(name)["deps"] if dep.startswith("stages/")}


def needed(name: str) -> set[str]:
    own = {f"stages/lib/reporting/report.{ending}" for ending in ("html", "css", "js")}
    return code(name) | (own if name == "report" else set())


@pytest.mark.parametrize("name", CODE)
def test_nothing_that_a_result_depends_on_is_missing_in_the_deps(name):
    assert needed(name) - set().union(*code_deps(name).values()) == set()


@pytest.mark.parametrize("name", CODE)
def test_where_the_deps_are_coarser_than_what_is_needed(name):
    coarse = {}
    for dep in code_deps(name):
        files = covered(re.sub(r"/\$\{[^}]*modality\}", "/image", re.sub(r"/\$\{[^}]*task\}", "/classify", dep)))
        files = {path for path in files if not OTHERS.match(path)}
        assert files & needed(name), f"{dep} is of no use"
        if extra := files - needed(name):
            coarse[dep] = sorted(path.rpartition("/")[2].removesuffix(".py") for path in extra)
    assert coarse == COARSE.get(name, {})


RUN = """
import json, sys, threading
from pathlib import Path

stages = Path("stages").resolve()
checks = str(stages / "lib/params/validate.py")
ran, checking = set(), False

def profile(frame, event, argument):
    global checking
    code = frame.f_code
    if code.co_filename == checks and code.co_name == "validate":
        checking = event == "call"  # which loads plug-ins for their params alone
    elif event == "call" and code.co_flags & 1 and not checking and code.co_filename.startswith(f"{stages}/"):  # no import
        ran.add(Path(code.co_filename).relative_to(stages.parent).as_posix())

from stages.lib.shell.command import run_stage
from importlib import import_module

found = {}
for name, words in json.loads(sys.argv[1]).items():
    ran.clear()
    threading.setprofile(profile)
    sys.setprofile(profile)
    run_stage(words[0], words[1:], import_module(f"stages.{words[0]}").main)
    sys.setprofile(None)
    found[name] = sorted(ran)
Path("ran.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_every_function_that_a_stage_calls_is_in_its_deps(finished, copy_of):
    """The table of plug-ins above is made by hand; here each stage runs, and the functions that it calls are written down."""
    repo = copy_of(finished)
    shutil.rmtree(repo.path / ".transfer")  # or nothing would be trained
    lock = yaml.safe_load((repo.path / "dvc.lock").read_text())["stages"]
    commands = {name: stage["cmd"].split()[3:] for name, stage in lock.items() if name not in ("check", "track")}
    repo.run(sys.executable, "-c", RUN, json.dumps(commands))
    found = json.loads((repo.path / "ran.json").read_text())
    assert {name.partition("@")[0] for name in found} == set(CODE) - {
        "download",
        "alternative",
        "evaluate-alternative",
    }  # no such arms here
    assert {f"stages/lib/{name}.py" for name in ("training/loop", "modalities/image/inputs", "tasks/classify/learning")} <= set(
        found["target@tiny-0"]
    )
    for name, files in found.items():
        stage = name.partition("@")[0]
        hashed = tuple(f"stages/lib/{kind}/" for kind in HASHED.get(words(stage)[0], ()))
        result = {path for path in files if not closure.observes(ROOT / path) and not path.startswith(hashed)}
        assert result - set().union(*code_deps(stage).values()) == set(), name


def test_the_table_of_plugins_that_a_stage_may_load_has_every_stage():
    assert set(LOADS) == {words(name)[0] for name in STAGES}
    assert set(COARSE) <= set(CODE)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_observers_are_nobodys_dep(name):
    for dep, files in code_deps(name).items():
        assert not [path for path in files if closure.observes(ROOT / path)], dep


def test_the_observers_are_there():
    """Or a folder that was renamed would no longer be one, and every training would wait for it."""
    for each in closure.OBSERVERS:
        assert (closure.STAGES / each).exists(), each


def test_what_is_said_of_the_results_reruns_no_training():
    for name in set(STAGES) - {"compare", "report"}:
        assert not [dep for dep in body(name)["deps"] if "lib/reporting" in dep or dep.endswith("lib/plots")]


@pytest.mark.parametrize("name", MEASURING)
def test_what_measures_does_not_depend_on_how_training_is_done(name):
    assert not [path for files in code_deps(name).values() for path in files if path.startswith("stages/lib/training/")]


def test_what_trains_does_not_depend_on_how_it_is_measured():
    for name in ("intermediate", "target", "scratch"):
        files = set().union(*code_deps(name).values())
        assert not [path for path in files if "/evaluation/" in path or "/plots" in path or path.endswith("measures.py")]


def test_check_depends_on_what_it_checks_and_on_itself():
    assert set(body("check")["deps"]) == {"params.yaml", "requirements.in", "stages/check.py"}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check", "track"}))
def test_declared_params_equal_the_sections_that_are_read(name):
    assert {param.partition(".")[0] for param in body(name).get("params", [])} == sections(name)


def test_only_what_measures_opens_the_test_split():
    for name in STAGES:
        opens = any(dep.endswith("/test") for dep in body(name)["deps"])
        assert opens == (script(name).stem in ("evaluate", "forgetting", "controls")), name  # neither chooses anything
        whole = str(prepared("x").parent) in body(name)["deps"]
        assert whole == (name == "report"), name  # which reads the cards
    seen = [dep for dep in body("leaks")["deps"] if not dep.startswith("stages/")]
    assert seen == ["data/fingerprints"], "it compares what lies beside the splits, without labels, and opens none of them"
    readers = [path for path in sorted(closure.STAGES.rglob("*.py")) if re.search(r"read_split\([^)]*test", path.read_text())]
    assert [path.name for path in readers] == ["measure.py"]


def test_a_stage_has_its_file_and_its_description():
    for name in STAGES:
        assert script(name).exists()
        assert body(name).get("desc")
    files = {path.stem for path in closure.STAGES.glob("[!_]*.py")}
    assert files == {script(name).stem for name in STAGES}


def test_the_file_can_be_read():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 360


def test_no_param_goes_into_a_command_but_names_that_the_check_stage_has_seen():
    allowed = {"${key}", "${item.init}", "${item.seed}", "${item.data}", "${item.name}", "${target.test}"}
    for name in STAGES:
        assert set(re.findall(r"\$\{[^}]*\}", body(name)["cmd"])) <= allowed
