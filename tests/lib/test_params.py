"""params.yaml: every mistake found at once, each with its path and what is allowed."""

import copy

import pytest
from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.errors import UserError


@pytest.fixture
def raw():
    return copy.deepcopy(params.read(params.Path(__file__).parents[2] / "params.yaml"))


def mistakes(raw) -> str:
    with pytest.raises(UserError) as error:
        params.validate(raw)
    return str(error.value)


def leaves(value, path=()):
    """(path, value) of every leaf; lists count as leaves."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def put(raw, path, value):
    for key in path[:-1]:
        raw = raw[key]
    raw[path[-1]] = value


def test_default_params_are_valid(raw):
    p = params.validate(raw)
    assert p.strategies[p.strategy].epochs >= 1


def test_every_leaf_is_required_typed_and_closed(raw):
    for path, _ in leaves(raw):
        wrong = copy.deepcopy(raw)
        put(wrong, path, {"not": "this"})
        assert ".".join(path) in mistakes(wrong)
        missing = copy.deepcopy(raw)
        inner = missing
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        assert ".".join(path) in mistakes(missing), "a hidden default"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("strategy", "ful", ["strategy: 'ful'", "Did you mean 'full'"]),
        ("strategies.full.learning_rate", 0.1, ["strategies.full.learning_rate: unknown key", "lr"]),
        ("strategies.full.lr", "0.1", ["strategies.full.lr", "number", "'0.1'"]),
        ("strategies.full.lr", -1, ["strategies.full.lr", "greater than 0", "-1"]),
        ("strategies.full.epochs", True, ["strategies.full.epochs", "integer", "True"]),
        ("strategies.full.warmup_epochs", 8, ["strategies.full.warmup_epochs", "less than epochs"]),
        ("strategies.magic", {}, ["strategies.magic: 'magic' does not exist", "feature_extraction"]),
        ("datasets.mono.reader", "elvp", ["datasets.mono.reader", "Did you mean 'elpv'"]),
        ("datasets.mono.raw", "data/raw/elvp", ["datasets.mono.raw", "Did you mean 'elpv'"]),
        ("datasets.mono.split.test", 0.95, ["datasets.mono.split", "leave images to train"]),
        ("datasets.mono.split.size", 1, ["datasets.mono.split.size: unknown key"]),
        ("datasets.size", {}, ["datasets.size: not a usable name", "DVC ignores"]),
        ("datasets.my data", {}, ["datasets.my data: not a usable name"]),
        ("intermediate.mono.init", "imagnet", ["intermediate.mono.init", "Did you mean 'imagenet'"]),
        ("intermediate.mono.init", "mono", ["round in a circle: mono -> mono"]),
        ("intermediate.mono.data", "mno", ["intermediate.mono.data", "Did you mean 'mono'"]),
        ("target.data", "polly", ["target.data", "Did you mean 'poly'"]),
        ("inits", [], ["inits", "at least one"]),
        ("inits", ["mono", "mono"], ["inits", "none twice"]),
        ("seeds", [-1], ["seeds", "0 or more"]),
        ("scratch.like", "mono", ["scratch.like", "source"]),
        ("sed", 1, ["sed: unknown section", "Did you mean 'seed'"]),
        ("source.imagenet.preprocessing.std", [0.5, 0, 0.5], ["source.imagenet.preprocessing.std.1", "greater than 0"]),
        ("datasets.mono.split", None, ["datasets.mono.split: must be a block with the keys val, test, seed, by_group"]),
        ("source.imagenet.sha256", "abc", ["source.imagenet.sha256"]),
        ("evaluate", 3, ["evaluate: must be a block"]),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(raw, path, value, words):
    put(raw, path.split("."), value)
    text = mistakes(raw)
    for word in words:
        assert word in text


def test_all_mistakes_come_at_once(raw):
    raw["seed"] = -1
    raw["strategies"]["full"]["lr"] = 100
    raw["strategies"]["partial"]["block"] = 2
    del raw["compare"]["metric"]
    text = mistakes(raw)
    assert "4 mistakes" in text
    for path in ("seed", "strategies.full.lr", "strategies.partial.block", "compare.metric"):
        assert f"  {path}: " in text


def test_a_circle_of_hops_is_named_once(raw):
    hop = raw["intermediate"]["mono"]
    raw["intermediate"] = {"a": hop | {"init": "b"}, "b": hop | {"init": "a"}, "mono": hop}
    assert mistakes(raw).count("circle") == 1


def test_a_source_and_a_hop_of_one_name_are_refused(raw):
    raw["intermediate"]["imagenet"] = copy.deepcopy(raw["intermediate"]["mono"]) | {"init": "mono"}
    assert "a source has this name too" in mistakes(raw)


def test_the_control_must_be_the_same_network(raw):
    raw["source"]["other"] = copy.deepcopy(raw["source"]["imagenet"])
    raw["scratch"]["like"] = "other"
    assert "scratch.like: must be 'imagenet', which 'mono' starts from" in mistakes(raw)


def test_the_same_images_in_two_datasets_must_be_split_the_same_way(raw):
    raw["datasets"]["again"] = copy.deepcopy(raw["datasets"]["poly"])
    params.validate(raw)
    raw["datasets"]["again"]["split"]["seed"] = 1
    assert "datasets.again: reads the same images as datasets.poly" in mistakes(raw)


def test_no_hop_at_all_is_valid(raw):
    raw["intermediate"] = {}
    raw["inits"] = ["imagenet"]
    assert params.validate(raw).intermediate == {}


def test_numbers_are_read_as_dvc_reads_them(tmp_path, raw):
    text = (params.Path(__file__).parents[2] / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("lr: 0.001 ", "lr: 1e-3 "))  # PyYAML would give the string "1e-3"
    assert params.load("strategies", path=path).strategies["full"].lr == YAML(typ="safe").load("1e-3") == 0.001


def test_a_stage_gets_only_the_sections_it_asks_for():
    p = params.load("seed", "target")
    assert vars(p).keys() == {"seed", "target"}


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "- 1\n", ""])
def test_a_file_that_is_no_params_file_is_said_to_be_none(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml"):
        params.load("seed", path=path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="root of the repository"):
        params.load(path=tmp_path / "params.yaml")
