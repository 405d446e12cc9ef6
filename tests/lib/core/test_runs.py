"""Every training that params.yaml asks for, and where its files lie: as dvc.yaml has them."""

import copy
from pathlib import Path

import pytest

from stages.lib.core import runs
from stages.lib.params import read as params
from stages.lib.reporting import page
from tests.reading import body
from tests.tiny import PARAMS, ROOT

HOP, TARGET, SCRATCH = runs.hop("dots", "dots"), runs.target("dots", 3, "lines"), runs.scratch(3, "lines")


@pytest.mark.parametrize(
    ("training", "files"),
    [
        (HOP, ["intermediate dots", "intermediate@dots", "evaluate-intermediate@dots", "models/dots", "metrics/intermediate/dots",
               "metrics/recipes/dots.json", "metrics/evaluate/intermediate-dots"]),
        (TARGET, ["target dots-3", "target@dots-3", "evaluate@dots-3", "models/target/dots-3", "metrics/target/dots-3",
                  "metrics/recipe/target.json", "metrics/evaluate/target-dots-3"]),
        (SCRATCH, ["scratch 3", "scratch@3", "evaluate-scratch@3", "models/scratch/3", "metrics/scratch/3",
                   "metrics/recipes/scratch.json", "metrics/evaluate/scratch-3"]),
    ],
)  # fmt: skip
def test_the_names_and_files_of_each_kind_of_training(training, files):
    found = [training.label, training.stage, training.evaluation_stage, training.model, training.metrics, training.recipe,
             training.evaluation]  # fmt: skip
    assert found == [*files[:3], *map(Path, files[3:])]


def filled(template: str, training: runs.Training) -> str:
    words = {"${key}": training.name, "${item.init}": training.name.split("-")[0], "${item.seed}": training.name.split("-")[-1]}
    for word, value in words.items():
        template = template.replace(word, value)
    return template


@pytest.mark.parametrize("training", [HOP, TARGET, SCRATCH], ids=lambda training: training.kind)
def test_the_files_are_those_of_dvc_yaml(training):
    outs = [filled(out, training) for out in body(training.kind)["outs"]]
    assert outs == [str(training.model), str(training.metrics)]
    assert str(training.recipe) in [filled(dep, training) for dep in body(training.kind)["deps"]]
    evaluation = body(training.evaluation_stage.partition("@")[0])
    assert [filled(out, training) for out in evaluation["outs"]] == [str(training.evaluation)]
    assert str(training.model) in [filled(dep, training) for dep in evaluation["deps"]]


def test_the_other_files_are_those_of_dvc_yaml():
    assert body("advise")["outs"] == [str(runs.ADVICE)] and body("report")["outs"] == [str(runs.REPORT), str(page.MODEL_CARD)]
    assert [*body("compare")["metrics"][0]] == [str(runs.SHIPPED)]
    written = [name for out in body("compare")["outs"] for name in out]
    assert written == [str(runs.COMPARISON), str(runs.VERDICT), str(runs.PLOTS)]
    assert body("download")["outs"] == [str(runs.raw("${key}"))]
    assert body("prepare")["outs"] == [str(runs.prepared("${key}")), str(runs.fingerprints("${key}"))]
    assert body("source")["outs"] == [str(runs.starting_point("${key}"))]
    assert body("forgetting")["outs"] == [str(runs.forgetting("${key}"))]


def test_every_training_that_params_ask_for_in_the_order_of_reading():
    assert [(each.label, each.data) for each in runs.expected(PARAMS)] == [
        ("intermediate dots", "dots"), ("target dots-0", "lines"), ("target tiny-0", "lines"), ("scratch 0", "lines"),
    ]  # fmt: skip
    more = copy.deepcopy(PARAMS) | {"seeds": [1, 0]}
    more["intermediate"] = {"more": more["intermediate"]["dots"] | {"init": "dots", "data": "lines"}} | more["intermediate"]
    assert [each.stage for each in runs.expected(more)] == [
        "intermediate@more", "intermediate@dots", "target@dots-1", "target@dots-0", "target@tiny-1", "target@tiny-0", "scratch@1",
        "scratch@0",
    ]  # fmt: skip
    none = PARAMS | {"intermediate": {}, "inits": ["tiny"]}
    assert [each.stage for each in runs.expected(none)] == ["target@tiny-0", "scratch@0"]


def test_the_default_task_has_a_hop_and_three_arms_of_five_seeds():
    shown = [each.label for each in runs.expected(params.read(ROOT / "params.yaml"))]
    arms = [f"{arm}{seed}" for arm in ("target mono-", "target imagenet-", "scratch ") for seed in range(5)]
    assert shown == ["intermediate mono", *arms]


def test_arms_have_the_proposal_first_and_random_weights_last():
    arms = runs.arms(["dots", "tiny"], {"oracle": "dots"}, [0, 1], "lines")
    assert {name: [each.name for each in arm] for name, arm in arms.items()} == {
        "dots": ["dots-0", "dots-1"], "tiny": ["tiny-0", "tiny-1"], "oracle": ["oracle-0", "oracle-1"],
        "scratch": ["0", "1"]}  # fmt: skip
    assert list(arms) == ["dots", "tiny", "oracle", "scratch"]
    assert {each.data for each in arms["oracle"]} == {"dots"} and {each.data for each in arms["tiny"]} == {"lines"}
    assert [runs.shown(arm) for arm in ("scratch", "scratchpad")] == ["random weights", "scratchpad"]
