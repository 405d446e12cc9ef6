"""What one `dvc` will run, held against what DVC itself says of the small pipeline."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.lib.params import read as params
from stages.lib.shell import plan, progress
from tests.tiny import FULL, PARAMS, ROOT, write_params


@pytest.fixture
def repo(finished, copy_of, monkeypatch):
    repo = copy_of(finished)
    monkeypatch.chdir(repo.path)
    return repo


def planned(*asked, own="check"):
    """The stages that will run once `own` has begun."""
    plan.md5.cache_clear()  # each stage is a process of its own
    values = params.read()
    stages = progress.expand(yaml.safe_load(Path("dvc.yaml").read_text()), values)
    first = next(stage for stage in stages if stage.name == own)
    return set(plan.will_run(first, stages, plan.read_lock(), values, asked))


AFTER = {"calibrate", "evaluate@dots-0", "evaluate@tiny-0", "forgetting@dots", "compare", "report", "track"}
TARGETS = {"target@dots-0", "target@tiny-0"}


def test_with_nothing_changed_nothing_but_the_first_and_the_last_is_planned(repo):
    assert planned() == {"check", "track"}
    assert planned(own="track") == {"track"}


def test_all_that_another_strategy_reruns_is_planned_although_old_outputs_are_there(repo):
    write_params(repo.path, PARAMS | {"strategy": "full"})
    assert planned() == {"check", "recipe"} | TARGETS | AFTER
    assert planned("dvc", "repro", "target@dots-0") == {"check", "recipe", "target@dots-0"}
    assert planned("dvc", "repro", "target") == {"check", "recipe"} | TARGETS


def test_code_params_missing_outputs_and_new_stages_are_seen(repo):
    values = copy.deepcopy(PARAMS)
    values["scratch"]["lr"] = 0.02
    write_params(repo.path, values)
    assert planned() >= {"check", "recipe-hops", "scratch@0", "evaluate-scratch@0"}
    write_params(repo.path, PARAMS)
    code = repo.path / "stages/lib/advice/rule.py"
    code.write_text(code.read_text() + "# another\n")
    assert planned() == {"check", "advise", "recipe"} | TARGETS | AFTER
    shutil.rmtree(repo.path / "models/scratch/0")
    code.write_text(code.read_text().removesuffix("# another\n"))
    assert planned() == {"check", "scratch@0", "evaluate-scratch@0", "forgetting@dots", "compare", "report", "track"}
    write_params(repo.path, PARAMS | {"seeds": [0, 1]})
    assert planned() >= {"target@dots-1", "target@tiny-1", "scratch@1", "evaluate@dots-1"}


def test_each_file_of_the_packages_counts_for_dvc_and_for_the_plan():
    """The style and the script of the report, too: otherwise an edit of them would leave an old page."""
    files = subprocess.run(["git", "ls-files", "stages/lib"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    ignored = subprocess.run(["dvc", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True)
    assert files and ignored.stdout == ignored.stderr == ""
    assert {Path(file).suffix for file in files} <= set(plan.CODE)


@pytest.mark.slow
def test_dvc_runs_no_stage_that_is_not_planned(repo):
    """And with another strategy all that are; what is made again and stays the same may spare others."""
    write_params(repo.path, PARAMS | {"strategy": "full"})
    assert planned() == repo.ran("repro")
    values = copy.deepcopy(PARAMS) | {"strategy": "full"}
    values["training"]["label_smoothing"] = 0.2
    values["strategies"]["full"] = FULL | {"label_smoothing": 0.1}
    write_params(repo.path, values)
    will = planned()
    assert repo.ran("repro") < will


def test_the_plan_is_made_once_and_kept_by_the_dvc_that_runs_it(repo):
    """Two stages that one `dvc` starts, and one of the next."""
    write_params(repo.path, PARAMS | {"strategy": "full"})
    program = (
        "import json, sys, yaml\n"
        "from stages.lib.params import read as params\n"
        "from stages.lib.shell import plan, progress\n"
        "stages = progress.expand(yaml.safe_load(open('dvc.yaml')), params.read())\n"
        "own = next(stage for stage in stages if stage.name == sys.argv[1])\n"
        "found = plan.of_this_run(own, stages, params.read())\n"
        "print(json.dumps([len(found.stages), found.begun, [stage.name for stage in plan.left(own, found, stages)]]))\n"
    )
    (repo.path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(repo.path)}

    def dvc(*names):
        runs = "\n".join(f"subprocess.run([{sys.executable!r}, 'program.py', {name!r}], check=True)" for name in names)
        (repo.path / "dvc").write_text(f"import subprocess\n{runs}")
        done = subprocess.run([sys.executable, "dvc", "repro"], capture_output=True, text=True, check=True, env=environment)
        return [json.loads(line) for line in done.stdout.splitlines()]

    first, second, third = dvc("check", "target@tiny-0", "evaluate@dots-0")
    assert first[0] == second[0] == third[0] == 2 + len(TARGETS | AFTER)
    assert "recipe" in first[2] and "recipe" not in second[2], "what a stage depends on has run, or had nothing to do"
    assert {"target@dots-0", "evaluate@tiny-0"} <= set(second[2])
    assert third[1] == ["check", "target@tiny-0", "evaluate@dots-0"]
    ((num, begun, _),) = dvc("recipe")
    assert (num, begun) == (2 + len(TARGETS | AFTER), ["recipe"]), "the next one plans anew"
