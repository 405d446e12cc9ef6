"""What the guide to clusters shows is valid: shells, YAML and Python parse, and name what there is."""

import ast
import re
import subprocess

import pytest
import yaml

from stages.commands._fan_out.slurm import Cluster
from stages.lib.tracking import place
from tests.tiny import ROOT

GUIDE = (ROOT / "stages/commands/cluster.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
YAML = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "bash"])
def test_shell_commands_parse(text):
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for word in re.findall(r"python -m stages (\w+)|-m stages (\w+)", text):
        assert any((ROOT / "stages" / folder / f"{''.join(word)}.py").exists() for folder in ("", "commands"))


def test_cluster_yaml_is_taken(tmp_path):
    (tmp_path / "cluster.yaml").write_text(next(text for kind, text in BLOCKS if "at_once" in text))
    cluster = Cluster(tmp_path / "cluster.yaml")
    assert cluster.at_once == 100 and cluster.asks("download@elpv") is None
    assert cluster.asks("target@mono-0") == {"timeout_min": 240, "cpus_per_task": 4, "slurm_partition": "main",
                                             "slurm_constraint": "epyc", "gpus_per_node": 1}  # fmt: skip
    submitit = pytest.importorskip("submitit", reason="pip install submitit")
    executor = submitit.AutoExecutor(folder=tmp_path, cluster="debug")
    executor.update_parameters(**cluster.asks("target@mono-0"))


def test_the_recipes_call_fan_out():
    _, sky, job = YAML
    assert "python -m stages fan_out" in sky["run"] and {"name", "resources", "workdir", "envs", "setup", "run"} == sky.keys()
    pod = job["spec"]["template"]["spec"]
    assert (job["apiVersion"], job["kind"], pod["restartPolicy"]) == ("batch/v1", "Job", "OnFailure")
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "stages", "fan_out"]
    assert [each["name"] for each in container["volumeMounts"]] == [each["name"] for each in pod["volumes"]]
    (text,) = (text for kind, text in BLOCKS if kind == "python")
    assert ast.parse(text) and '"stages", "fan_out"' in text


def test_the_tags_that_it_names_are_those_of_the_runs():
    assert {"transfer.node", "transfer.cpu"} <= place.tags().keys()
    assert set(re.findall(r"`(transfer\.\w+)`", GUIDE)) == {"transfer.node", "transfer.cpu", "transfer.gpu", "transfer.threads"}
