"""The setups for other services are valid, and what they name is there."""

import json
import re
import tomllib

import pytest
from ruamel.yaml import YAML

from tests.tiny import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_valid_asks_for_little_and_names_files_that_are_there(path):
    flow = YAML(typ="safe").load(path)
    assert flow.keys() == {"name", "on", "permissions", "concurrency", "jobs"}
    assert flow["permissions"].pop("contents") == "read" and set(flow["permissions"]) <= {"pull-requests"}
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] <= 90 and job["runs-on"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "actions/checkout@v5"))
            assert "${{" not in step.get("run", ""), "what others write reaches a shell as a variable only"
            for file in re.findall(r"(?<!\S)(?:metrics|\.ci)/\S+", step.get("run", "")):
                assert (ROOT / file).exists(), file
    for file in flow["on"].get("pull_request", {}).get("paths", []) if flow["on"].get("pull_request") else []:
        assert (ROOT / file).exists(), file


def test_the_verdict_is_commented_by_what_git_holds():
    flow = YAML(typ="safe").load(ROOT / ".github/workflows/verdict.yml")
    (job,) = flow["jobs"].values()
    assert "github.repository" in job["if"], "not from a fork"
    assert "--body-file metrics/verdict.md" in job["steps"][-1]["run"]
    assert "metrics/verdict.md" in flow["on"]["pull_request"]["paths"]


def test_the_container_has_a_supported_python_and_installs_the_lock():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert container["image"].endswith(f":{oldest}")
    assert "pip install -q -r requirements.txt" in container["postCreateCommand"]
    assert 5000 in container["forwardPorts"]
