"""params.yaml: every mistake found at once, each with its path and what is allowed."""

import copy
import math
import os
import re
import subprocess
import sys

import pytest

from stages.lib import params, plugins, schema
from stages.lib.errors import UserError
from tests import reduced
from tests.closure import ROOT
from tests.helpers import leaves, put

# For every option of `training` another value than the one in params.yaml; together they make sense.
OTHER = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01, "schedule": "step", "warmup_epochs": 0.5, "warmup": "head",
         "batch_size": 7, "label_smoothing": 0.2, "balance": "weights", "augment": "light", "mixup": 0.3, "cutmix": 0.4,
         "clip_norm": 1.5, "ema": 0.9, "patience": 2, "head": {"hidden": 5, "dropout": 0.1, "zero": True}}  # fmt: skip


@pytest.fixture
def raw():
    return copy.deepcopy(params.read(ROOT / "params.yaml"))


def mistakes(raw) -> str:
    with pytest.raises(UserError) as error:
        params.validate(raw)
    return str(error.value)


def test_default_params_are_valid(raw):
    p = params.validate(raw)
    assert p.strategies[p.strategy].epochs >= 1
    assert set(p.strategies) == set(plugins.names("strategies")) - {"scratch"}, "each strategy has its block"


def test_reduced_params_are_valid_too(raw):
    reduced.reduce(raw)
    p = params.validate(raw)
    assert (p.datasets["poly"].px, p.strategies["wise_ft"].probe_epochs, p.scratch.epochs) == (64, 2, 2)


def may_be_left_out(path):
    """An option that a block holds for itself, and the block of a strategy that is not chosen."""
    return (path[0] in ("strategies", "intermediate", "scratch") and path[-1] in OTHER) or path == ("strategies", "auto")


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
        if may_be_left_out(path):
            params.validate(missing)
        else:  # of the four ways to say what is trained it is the block that is wrong
            told = path[:-1] if path[-2:-1] == ("trainable",) else path
            assert f"  {'.'.join(told)}: " in mistakes(missing), "a hidden default"


def test_every_block_is_closed(raw):
    def blocks(value, path=()):
        yield path
        for key, inner in value.items():
            if isinstance(inner, dict) and path + (key,) != ("strategies", "discriminative", "rates"):  # any pattern is allowed
                yield from blocks(inner, (*path, key))

    for path in blocks(raw):
        wrong = copy.deepcopy(raw)
        put(wrong, (*path, "not_this"), 1)
        assert f"  {'.'.join((*path, 'not_this'))}: " in mistakes(wrong)


# Options of `training` in the blocks of strategies, hops and the control.


def places(raw):
    """The path of every block that may override options of `training`, and the options that its strategy has no use for."""
    for name in raw["strategies"]:
        yield ("strategies", name), getattr(plugins.load("strategies", name), "UNUSED", ())
    yield from ((("intermediate", name), ()) for name in raw["intermediate"])
    yield ("scratch",), ()


def at(checked, path):
    section = getattr(checked, path[0])
    return section[path[1]] if len(path) > 1 else section


def test_the_list_of_other_values_is_whole(raw):
    assert set(OTHER) == set(schema.Training.model_fields) == set(raw["training"])
    assert not [name for name, value in OTHER.items() if value == raw["training"][name]]


def test_a_block_without_options_of_its_own_has_those_of_training(raw):
    raw["training"] = OTHER
    p = params.validate(raw)
    for path, _ in places(raw):
        own = raw[path[0]][path[1]] if len(path) > 1 else raw[path[0]]
        assert plugins.training(p.training, at(p, path)) == OTHER | {name: own[name] for name in OTHER if name in own}, path


def test_every_option_in_a_block_wins_over_training_there_alone(raw):
    for path, unused in places(raw):
        changed = copy.deepcopy(raw)
        taken = {name: value for name, value in OTHER.items() if name not in unused}
        for name, value in taken.items():
            put(changed, (*path, name), value)
        p = params.validate(changed)
        before = params.validate(raw)
        assert plugins.training(p.training, at(p, path)) == raw["training"] | taken
        for other, _ in places(raw):
            if other != path:
                assert plugins.training(p.training, at(p, other)) == plugins.training(before.training, at(before, other))


def test_an_option_that_a_strategy_has_no_use_for_is_refused_with_the_reason(raw):
    assert set(plugins.load("strategies", "feature_extraction").UNUSED) == {"augment", "mixup", "cutmix"}
    checked = 0
    for path, unused in places(raw):
        for name in unused:
            put(raw, (*path, name), OTHER[name])
            checked += 1
    text = mistakes(raw)
    for path, unused in places(raw):
        for name in unused:
            assert f"  {'.'.join(path)}.{name}: this strategy has no use for it; leave it out" in text
    assert checked > 40 and f"{checked} mistakes" in text


def test_an_option_in_a_block_is_checked_as_in_training(raw):
    put(raw, ("strategies", "full", "mixup"), -1)
    put(raw, ("strategies", "partial", "patience"), None)
    put(raw, ("intermediate", "mono", "head"), {"hidden": 5})
    put(raw, ("scratch", "optimizer"), "adma")
    text = mistakes(raw)
    assert "strategies.full.mixup: must be greater than or equal to 0; given: -1" in text
    assert "strategies.partial.patience: must be a valid integer; given: None" in text
    assert "intermediate.mono.head.dropout: this key is missing" in text
    assert "scratch.optimizer: must be 'sgd', 'adam' or 'adamw'; given: 'adma'" in text


def test_no_knob_of_a_plugin_hides_an_option_or_another_key():
    for name in plugins.names("strategies"):
        module = plugins.load("strategies", name)
        assert not module.Knobs.model_fields.keys() & schema.Training.model_fields.keys(), name
        assert not module.Knobs.model_fields.keys() & (schema.Hop.model_fields | schema.Scratch.model_fields).keys(), name
        assert set(getattr(module, "UNUSED", ())) <= schema.Training.model_fields.keys(), name


# Options that make no sense together.


def test_mixing_in_batches_of_one_is_refused(raw):
    raw["training"] |= {"batch_size": 1, "cutmix": 0.5}
    assert "training: cutmix mixes the images of a batch; set batch_size to 2 or more" in mistakes(raw)
    raw["training"]["batch_size"] = 2
    params.validate(raw)


def test_steps_that_begin_before_the_warm_up_is_over_are_refused(raw):
    epochs = raw["strategies"]["full"]["epochs"]
    raw["strategies"]["full"] |= {"schedule": "step", "warmup_epochs": epochs / 2}
    assert f"strategies.full: schedule step lowers the rate at half of the epochs (strategies.full.epochs: {epochs})" in mistakes(
        raw
    )
    raw["strategies"]["full"]["warmup_epochs"] = epochs / 2 - 0.1
    params.validate(raw)


@pytest.mark.parametrize(("section", "key"), [("training", "warmup_epochs"), ("training", "clip_norm"), ("checks", "loss_jump")])
def test_what_is_infinite_is_refused(raw, section, key):
    raw[section][key] = math.inf
    assert f"{section}.{key}: " in mistakes(raw)


def test_one_cycle_with_a_warm_up_is_refused_with_the_reason(raw):
    raw["strategies"]["full"]["schedule"] = "one_cycle"
    assert "strategies.full: schedule one_cycle has a warm-up of its own; set warmup_epochs to 0" in mistakes(raw)
    raw["strategies"]["full"]["warmup_epochs"] = 0
    params.validate(raw)
    raw["training"]["schedule"] = "one_cycle"
    raw["intermediate"]["mono"]["warmup_epochs"] = 2.5
    text = mistakes(raw)
    assert text.count("one_cycle") == 2, "what many blocks inherit is told once"
    assert "  training: schedule one_cycle" in text
    assert "  intermediate.mono: schedule one_cycle" in text
    raw["training"]["warmup_epochs"] = raw["intermediate"]["mono"]["warmup_epochs"] = 0
    params.validate(raw)


def test_options_that_a_strategy_has_no_use_for_do_not_count(raw):
    """knn trains nothing and may not hold a warm-up of its own, so the one that it inherits must not matter."""
    raw["training"]["schedule"] = "one_cycle"
    for path, unused in places(raw):
        if "warmup_epochs" not in unused:
            put(raw, (*path, "warmup_epochs"), 0)
    assert raw["training"]["warmup_epochs"] > 0
    params.validate(raw)


@pytest.mark.parametrize(
    ("path", "key"),
    [(("strategies", "full"), "epochs"), (("strategies", "lp_ft"), "probe_epochs"), (("strategies", "gradual"), "epochs"),
     (("intermediate", "mono"), "epochs"), (("scratch",), "epochs")],
)  # fmt: skip
@pytest.mark.parametrize("inherited", [True, False])
def test_epochs_must_go_beyond_the_warm_up_also_beyond_an_inherited_one(raw, path, key, inherited):
    warmup = (*(("training",) if inherited else path), "warmup_epochs")
    put(raw, (*path, key), 2)
    put(raw, warmup, 1.9)
    params.validate(raw)
    put(raw, warmup, 2)
    text = mistakes(raw)
    assert f"  {'.'.join(path)}.{key}: must be more than warmup_epochs (2.0), or the learning rate never reaches" in text
    assert "1 mistake:" in text


def test_a_warm_up_of_the_head_needs_epochs_to_warm_up_in(raw):
    raw["training"]["warmup"] = "head"
    params.validate(raw)
    raw["strategies"]["full"]["warmup_epochs"] = 0
    assert "  strategies.full: warmup: head has nothing to warm up over" in mistakes(raw)


# What is trained.


@pytest.mark.parametrize(
    ("trainable", "words"),
    [
        ({}, "must hold exactly one of last_blocks, freeze_fraction, freeze_layers, patterns, but holds 0"),
        ({"last_blocks": 2, "patterns": ["a"]}, "but holds 2"),
        ({"last_blocks": 0}, "trainable.last_blocks: must be greater than or equal to 1"),
        ({"freeze_fraction": 1}, "trainable.freeze_fraction: must be less than 1"),
        ({"freeze_fraction": "80 %"}, "trainable.freeze_fraction: must be a valid number"),
        ({"freeze_layers": 2.5}, "trainable.freeze_layers: must be a valid integer"),
        ({"patterns": []}, "trainable.patterns: "),
        ({"patterns": "blocks.6.*"}, "trainable.patterns: must be a valid list"),
        ({"patterns": [6]}, "trainable.patterns.0: must be a valid string"),
        ({"blocks": 2}, "trainable.blocks: unknown key"),
        ({"last_blocks": None}, "but holds 0"),
        (3, "trainable: must be a block with the keys last_blocks, freeze_fraction, freeze_layers, patterns, not 3"),
        ("everything", "trainable: must be "),
    ],
)
def test_what_is_trained_is_said_in_exactly_one_way(raw, trainable, words):
    for name in ("partial", "l2_sp"):
        changed = copy.deepcopy(raw)
        changed["strategies"][name]["trainable"] = trainable
        text = mistakes(changed)
        assert f"  strategies.{name}.trainable" in text and words in text


@pytest.mark.parametrize(
    "trainable", [{"last_blocks": 1}, {"freeze_fraction": 0.8}, {"freeze_layers": 50}, {"patterns": ["a.*"]}]
)
def test_each_of_the_four_ways_is_valid(raw, trainable):
    raw["strategies"]["partial"]["trainable"] = trainable
    block = params.validate(raw).strategies["partial"]
    assert block.trainable.model_dump(exclude_none=True) == trainable


def test_all_is_for_penalties_and_not_for_partial(raw):
    raw["strategies"]["l2_sp"]["trainable"] = "all"
    assert params.validate(raw).strategies["l2_sp"].trainable == "all"
    raw["strategies"]["partial"]["trainable"] = "all"
    assert "strategies.partial.trainable: must be a block" in mistakes(raw)


# One mistake, several, and what must hold between sections.


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("strategy", "ful", ["strategy: 'ful'", "Did you mean 'full'"]),
        ("strategies.full.learning_rate", 0.1, ["strategies.full.learning_rate: unknown key", "lr"]),
        ("strategies.full.lr", "0.1", ["strategies.full.lr", "number", "'0.1'"]),
        ("strategies.full.lr", -1, ["strategies.full.lr", "greater than 0", "-1"]),
        ("strategies.full.epochs", True, ["strategies.full.epochs", "integer", "True"]),
        ("strategies.full.warmup_epochs", 99, ["strategies.full.epochs: must be more than warmup_epochs (99.0)"]),
        ("strategies.scratch", {"epochs": 2, "lr": 0.1}, ["strategies.scratch: random weights are the control"]),
        ("strategies.discriminative.rates", {"blocks.6.*": 0}, ["strategies.discriminative.rates.blocks.6.*", "greater than 0"]),
        ("strategies.discriminative.rates", 3, ["strategies.discriminative.rates", "dictionary"]),
        ("strategy", "scratch", ["strategy: 'scratch' is no block of strategies"]),
        ("intermediate.mono", {"init": "imagenet", "data": "mono", "strategy": "auto"}, ["mono.strategy: auto is not for hops"]),
        (
            "intermediate.mono",
            {"init": "imagenet", "data": "mono", "strategy": "scratch", "epochs": 2, "lr": 0.1},
            ["mono.strategy: scratch is not for hops", "a source of random weights"],
        ),
        ("training.patient", 3, ["training.patient: unknown key", "Did you mean 'patience'"]),
        (
            "training.head.hiden",
            3,
            ["training.head.hiden: unknown key. Did you mean 'hidden'? Allowed here: hidden, dropout, zero"],
        ),
        ("training.augment", "heavy", ["training.augment: must be 'none', 'light', 'strong' or 'inspection'; given: 'heavy'"]),
        ("checks.loss_jump", 1, ["checks.loss_jump: must be greater than 1"]),
        ("checks.forgetting", 10, ["checks.forgetting: must be less than or equal to 1"]),
        ("advise.num_images", 5, ["advise.num_images: must be greater than or equal to 20"]),
        ("advise.preprocessing", "stop", ["advise.preprocessing: must be 'warn' or 'error'"]),
        ("strategies.magic", {}, ["strategies.magic: 'magic' does not exist", "feature_extraction"]),
        ("datasets.mono.reader", "elvp", ["datasets.mono.reader", "Did you mean 'elpv'"]),
        ("datasets.mono.raw", "data/raw/elvp", ["datasets.mono.raw", "Did you mean 'elpv'"]),
        ("datasets.mono.split.test", 0.95, ["datasets.mono.split", "leave images to train"]),
        ("datasets.mono.split.size", 1, ["datasets.mono.split.size: unknown key"]),
        ("datasets.size", {}, ["datasets.size: not a usable name", "DVC ignores"]),
        ("datasets.my data", {}, ["datasets.my data: not a usable name"]),
        ("intermediate", [], ["intermediate: must hold blocks by name (or {} for none), not []"]),
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


def test_what_is_wrong_between_sections_is_told_with_what_is_wrong_within_them(raw):
    del raw["advise"]
    raw["seed"] = "none"
    raw["strategies"]["full"]["lr"] = 100
    raw["strategies"]["scratch"] = {"epochs": 2, "lr": 0.1}
    raw["strategies"]["bss"]["schedule"] = "one_cycle"
    raw["datasets"]["mono"]["px"] = 3
    raw["datasets"]["poly"]["preprocessing"] = "imagnet"
    raw["source"]["other"] = {"weights": "timn"}
    raw["intermediate"]["mono"]["data"] = "mno"
    raw["inits"] = ["mnoo"]
    raw["seeds"] = [1, 1]
    raw["scratch"]["like"] = "imagnet"
    text = mistakes(raw)
    for words in ("advise: this section is missing", "seed: ", "strategies.full.lr: ", "strategies.scratch: random weights",
                  "strategies.bss: schedule one_cycle", "datasets.mono.px: ", "datasets.poly.preprocessing: 'imagnet'",
                  "source.other.weights: 'timn' does not exist", "intermediate.mono.data: 'mno'", "inits: 'mnoo'",
                  "seeds: must name at least one", "scratch.like: 'imagnet'"):  # fmt: skip
        assert f"\n  {words}" in text
    assert "12 mistakes" in text


@pytest.mark.parametrize(
    ("path", "value", "only"),
    [
        ("source.imagenet.licence", 3, "source.imagenet.licence: "),  # names of wrong blocks are known all the same
        ("source.imagenet.weights", "pypi", "source.imagenet.weights: "),
        ("datasets.poly.px", 0, "datasets.poly.px: "),
        ("intermediate.mono.lr", 0, "intermediate.mono.lr: "),
        ("source", 3, "source: must hold blocks"),  # and of what is not there nothing is said to be missing in it
        ("download", None, "download: must hold blocks"),
        ("strategies", None, "strategies: must hold blocks"),
        ("target", None, "target: must be a block"),
        ("scratch", None, "scratch: must be a block"),
        ("training", None, "training: must be a block"),
        ("strategy", 3, "strategy: must be a valid string"),
        ("inits", "mono", "inits: must be a valid list"),
        ("seeds", 0, "seeds: must be a valid list"),
    ],
)
def test_nothing_follows_from_what_is_wrong_by_itself(raw, path, value, only):
    put(raw, path.split("."), value)
    text = mistakes(raw)
    assert "1 mistake:" in text and f"\n  {only}" in text


@pytest.mark.parametrize("section", schema.SECTIONS)
def test_a_missing_section_is_told_alone(raw, section):
    del raw[section]
    text = mistakes(raw)
    assert re.fullmatch(rf"params.yaml has 1 mistake:\n  {section}: this section is missing\.", text)


def test_names_that_are_no_words_are_answered_in_words(raw):
    raw["datasets"][3] = {}
    raw["target"]["data"] = "polly"
    text = mistakes(raw)
    assert "datasets.3: not a usable name" in text and "target.data: 'polly' is no dataset. Did you mean 'poly'?" in text


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
    assert "datasets.again: reads the same images as datasets.poly; split must be the same too" in mistakes(raw)


@pytest.mark.parametrize(("knob", "value"), [("threshold", 0.3), ("block", 24), ("limit", 100), ("duplicates", "drop")])
def test_other_labels_or_groups_of_the_same_images_split_otherwise_too(raw, knob, value):
    raw["datasets"]["again"] = copy.deepcopy(raw["datasets"]["poly"]) | {"raw": "data/./raw/elpv", knob: value}
    assert f"datasets.again: reads the same images as datasets.poly; {knob} must be the same too" in mistakes(raw)


def test_other_images_of_the_same_file_are_split_as_one_likes(raw):
    raw["datasets"]["mono"] |= {"threshold": 0.3, "limit": 100}
    params.validate(raw)


def test_no_hop_at_all_is_valid(raw):
    raw["intermediate"] = {}
    raw["inits"] = ["imagenet"]
    assert params.validate(raw).intermediate == {}


def test_numbers_are_read_as_dvc_reads_them(tmp_path, raw):
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"(?m)^    lr: .*", "    lr: 3e-3", (ROOT / "params.yaml").read_text()))
    assert params.load("strategies", path=path).strategies["full"].lr == 0.003  # PyYAML would give the string "3e-3"


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


def test_the_check_loads_nothing_slow(tmp_path):
    """Neither does any plug-in that it imports, whether params.yaml names it or not."""
    for name in ("params.yaml", "requirements.in"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "metrics").mkdir()
    program = """
import sys
from stages import check
check.main()
from stages.lib import params, plugins, schema
for folder in ("downloads", "readers", "strategies", "weights"):
    for name in plugins.names(folder):
        plugins.load(folder, name)
print({name.partition(".")[0] for name in sys.modules} & {"torch", "torchvision", "timm", "pandas", "numpy", "sklearn", "mlflow"})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
    assert (tmp_path / "metrics/check.txt").read_text() == "ok\n"
