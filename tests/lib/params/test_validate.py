"""params.yaml: every mistake found at once, each with its path and what is allowed; and no value changed by the check."""

import copy
import json
import math
import re

import pytest
from pydantic import BaseModel

from stages.lib.core import plugins
from stages.lib.core.plugins import overridden
from stages.lib.params import schema
from stages.lib.params.fields import Trainable
from stages.lib.params.schema import TrainingOptions
from stages.lib.params.validate import validate
from tests import reduced
from tests.helpers import leaves, mistakes, places, put

# For every option of `training` another value than the one in params.yaml; together they make sense.
OTHER = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01, "schedule": "step", "warmup_epochs": 0.5, "warmup": "head",
         "batch_size": 7, "label_smoothing": 0.2, "balance": "weights", "augment": "light", "mixup": 0.3, "cutmix": 0.4,
         "clip_norm": 1.5, "ema": 0.9, "patience": 2,
         "head": {"hidden": 5, "dropout": 0.1, "zero": True, "keep": True},
         "metric_learning": {"loss": "triplet", "margin": 0.2, "pictures": 2, "dim": 8}}  # fmt: skip
SENSIBLE = OTHER | {"metric_learning": None}  # for the tasks here


def test_default_params_are_valid(raw):
    p = validate(raw)
    assert p.strategies[p.strategy].epochs >= 1
    assert set(p.strategies) == set(plugins.names("strategies")) - {"scratch"}, "each strategy has its block"


def test_reduced_params_are_valid_too(raw):
    reduced.reduce(raw)
    p = validate(raw)
    assert (p.datasets["poly"].px, p.strategies["wise_ft"].probe_epochs, p.scratch.epochs) == (64, 2, 2)


OPTIONAL = (("strategies", "auto"), ("strategies", "frozen"))


def may_be_left_out(path):
    """An option that a block holds for itself, and the block of a strategy that is not chosen."""
    return (path[0] in ("strategies", "intermediate", "scratch") and path[-1] in OTHER) or path in OPTIONAL


def test_no_value_is_changed_and_none_is_added(raw):
    """So that the check is an observer: what a stage is given stands in the file, which DVC compares."""
    checked = {}
    for section, value in vars(validate(raw)).items():
        blocks = value if isinstance(value, dict) else {None: value}
        given = {name: block.model_dump(exclude_unset=True) if isinstance(block, BaseModel) else block
                 for name, block in blocks.items()}  # fmt: skip
        checked[section] = given if isinstance(value, dict) else given[None]
    assert json.loads(json.dumps(checked)) == raw


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
            validate(missing)
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


def at(checked, path):
    section = getattr(checked, path[0])
    return section[path[1]] if len(path) > 1 else section


def test_the_list_of_other_values_is_whole(raw):
    assert set(OTHER) == set(TrainingOptions.model_fields) == set(raw["training"])
    assert not [name for name, value in OTHER.items() if value == raw["training"][name]]


def test_a_block_without_options_of_its_own_has_those_of_training(raw):
    raw["training"] = SENSIBLE
    p = validate(raw)
    for path, _ in places(raw):
        own = raw[path[0]][path[1]] if len(path) > 1 else raw[path[0]]
        own = {name: value for name, value in own.items() if name in OTHER}
        assert overridden(p.training, at(p, path)).model_dump() == SENSIBLE | own, path


def test_every_option_in_a_block_wins_over_training_there_alone(raw):
    for path, unused in places(raw):
        changed = copy.deepcopy(raw)
        taken = {name: value for name, value in SENSIBLE.items() if name not in unused}
        for name, value in taken.items():
            put(changed, (*path, name), value)
        p = validate(changed)
        before = validate(raw)
        assert overridden(p.training, at(p, path)).model_dump() == raw["training"] | taken
        for other, _ in places(raw):
            if other != path:
                assert overridden(p.training, at(p, other)) == overridden(before.training, at(before, other))


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
            assert f"  {'.'.join(path)}.{name}: this strategy does not use it; leave it out" in text
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


def test_no_param_of_a_plugin_hides_an_option_or_another_key():
    for name in plugins.names("strategies"):
        module = plugins.load("strategies", name)
        assert not module.Params.model_fields.keys() & TrainingOptions.model_fields.keys(), name
        assert not module.Params.model_fields.keys() & (schema.Hop.model_fields | schema.Scratch.model_fields).keys(), name
        assert set(getattr(module, "UNUSED", ())) <= TrainingOptions.model_fields.keys(), name
    packing = set().union(*(plugins.load("modalities", name).Packing.model_fields for name in plugins.names("modalities")))
    others = {"downloads": schema.Download.model_fields.keys(), "weights": schema.Source.model_fields.keys() | {"preprocessing"},
              "readers": schema.Dataset.model_fields.keys() | packing}  # fmt: skip
    for folder, keys in others.items():
        for name in plugins.names(folder):
            assert not plugins.load(folder, name).Params.model_fields.keys() & keys, (folder, name)


def test_what_chooses_the_examples_of_a_reader_is_among_its_params():
    for name in plugins.names("readers"):
        module = plugins.load("readers", name)
        assert set(getattr(module, "SELECTS", ())) <= module.Params.model_fields.keys(), name


@pytest.mark.parametrize(("section", "key"), [("training", "warmup_epochs"), ("training", "clip_norm"), ("checks", "loss_jump")])
def test_what_is_infinite_is_refused(raw, section, key):
    raw[section][key] = math.inf
    assert f"{section}.{key}: " in mistakes(raw)


# What is trained.


@pytest.mark.parametrize(
    ("trainable", "words"),
    [
        ({}, f"must hold exactly one of {', '.join(Trainable.model_fields)}, but holds 0"),
        ({"last_blocks": 2, "patterns": ["a"]}, "but holds 2"),
        ({"last_blocks": 0}, "trainable.last_blocks: must be greater than or equal to 1"),
        ({"freeze_fraction": 1}, "trainable.freeze_fraction: must be less than 1"),
        ({"freeze_fraction": "80 %"}, "trainable.freeze_fraction: must be a valid number"),
        ({"freeze_layers": 2.5}, "trainable.freeze_layers: must be a valid integer"),
        ({"patterns": []}, "trainable.patterns: "),
        ({"patterns": "blocks.6.*"}, "trainable.patterns: must be a list in brackets ([a] or [a, b, c]), not 'blocks.6.*'."),
        ({"patterns": [6]}, "trainable.patterns.0: must be a valid string"),
        ({"blocks": 2}, "trainable.blocks: unknown key"),
        ({"last_blocks": None}, "but holds 0"),
        (3, f"trainable: must be a block with the keys {', '.join(Trainable.model_fields)}, not 3"),
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
    block = validate(raw).strategies["partial"]
    assert block.trainable.model_dump(exclude_none=True) == trainable


def test_all_is_for_penalties_and_not_for_partial(raw):
    raw["strategies"]["l2_sp"]["trainable"] = "all"
    assert validate(raw).strategies["l2_sp"].trainable == "all"
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
        ("strategies.scratch", {"epochs": 2, "lr": 0.1}, ["strategies.scratch: scratch is not a strategy", "always trained"]),
        ("strategies.discriminative.rates", {"blocks.6.*": 0}, ["strategies.discriminative.rates.blocks.6.*", "greater than 0"]),
        ("strategies.discriminative.rates", 3, ["strategies.discriminative.rates", "dictionary"]),
        ("strategy", "scratch", ["strategy: 'scratch' is not a block of strategies"]),
        ("modality", "imag", ["modality: 'imag' does not exist", "Did you mean 'image'"]),
        ("target.task", "clasify", ["target.task: 'clasify' does not exist", "Did you mean 'classify'"]),
        ("intermediate.mono.task", "clasify", ["intermediate.mono.task: 'clasify' does not exist"]),
        ("compare.metric", "acuracy", ["compare.metric: the task classify has no 'acuracy'", "Did you mean 'accuracy'", "auroc"]),
        ("source.imagenet.architecture.library", "tim", ["architecture.library: 'tim' does not exist", "Did you mean 'timm'"]),
        (
            "intermediate.mono",
            {"init": "imagenet", "data": "mono", "task": "classify", "strategy": "auto"},
            ["mono.strategy: auto is not for hops"],
        ),
        (
            "intermediate.mono",
            {"init": "imagenet", "data": "mono", "task": "classify", "strategy": "scratch", "epochs": 2, "lr": 0.1},
            ["mono.strategy: scratch is not for hops", "a source of random weights"],
        ),
        ("training.patient", 3, ["training.patient: unknown key", "Did you mean 'patience'"]),
        (
            "training.head.hiden",
            3,
            ["training.head.hiden: unknown key. Did you mean 'hidden'? Allowed here: hidden, dropout, zero"],
        ),
        (
            "training.augment",
            "heavy",
            ["training.augment: the modality image has no 'heavy'", "Allowed: none, light, strong, inspection"],
        ),
        ("checks.loss_jump", 1, ["checks.loss_jump: must be greater than 1"]),
        ("checks.forgetting", 10, ["checks.forgetting: must be less than or equal to 1"]),
        ("advise.num_examples", 5, ["advise.num_examples: must be greater than or equal to 20"]),
        ("advise.preprocessing", "stop", ["advise.preprocessing: must be 'warn' or 'error'"]),
        ("strategies.magic", {}, ["strategies.magic: 'magic' does not exist", "feature_extraction"]),
        ("datasets.mono.reader", "elvp", ["datasets.mono.reader", "Did you mean 'elpv'"]),
        ("datasets.mono.raw", "data/raw/elvp", ["datasets.mono.raw", "Did you mean 'elpv'"]),
        ("datasets.mono.split.test", 0.95, ["datasets.mono.split", "leave examples to train"]),
        ("datasets.mono.split.size", 1, ["datasets.mono.split.size: unknown key"]),
        ("datasets.size", {}, ["datasets.size: not a usable name", "DVC ignores"]),
        ("datasets.my data", {}, ["datasets.my data: not a usable name"]),
        ("intermediate", [], ["intermediate: must hold blocks by name (or {} for none), not []"]),
        ("intermediate.mono.init", "imagnet", ["intermediate.mono.init", "Did you mean 'imagenet'"]),
        ("intermediate.mono.init", "mono", ["form a cycle: mono -> mono"]),
        ("intermediate.mono.data", "mno", ["intermediate.mono.data", "Did you mean 'mono'"]),
        ("target.data", "polly", ["target.data", "Did you mean 'poly'"]),
        ("inits", [], ["inits", "at least one"]),
        ("inits", ["mono", "mono"], ["inits", "none twice"]),
        ("seeds", [-1], ["seeds", "0 or more"]),
        ("scratch.like", "mono", ["scratch.like", "source"]),
        ("sed", 1, ["sed: unknown section", "Did you mean 'seed'"]),
        ("source.imagenet.preprocessing.std", [0.5, 0, 0.5], ["source.imagenet.preprocessing.std.1", "greater than 0"]),
        (
            "datasets.mono.split",
            None,
            ["datasets.mono.split: must be a block with the keys train, val, test, seed, by_group"],
        ),
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
    for words in ("advise: this section is missing", "seed: ", "strategies.full.lr: ", "strategies.scratch: scratch is",
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
        ("download", None, "download: must hold blocks by name (or {} for none), but it is empty."),
        ("strategies", None, "strategies: must hold blocks"),
        ("modality", "imag", "modality: 'imag' does not exist"),  # which says what datasets and sources hold
        ("target", None, "target: must be a block"),
        ("scratch", None, "scratch: must be a block"),
        ("training", None, "training: must be a block"),
        ("strategy", 3, "strategy: must be a valid string"),
        ("inits", "mono", "inits: must be a list in brackets ([a] or [a, b, c]), not 'mono'."),
        ("seeds", 3, "seeds: must be a list in brackets ([a] or [a, b, c]), not 3."),
        ("seeds", None, "seeds: must be a list in brackets ([a] or [a, b, c]), but it is empty."),
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
    assert "datasets.3: not a usable name" in text and "target.data: 'polly' is not a dataset. Did you mean 'poly'?" in text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("decision", {"label": "defective"}, "either a threshold or a recall"),
        ("decision", {"label": "defective", "threshold": 0.3, "recall": 0.9}, "either a threshold or a recall"),
        ("decision", {"label": "defective", "recall": 1}, "calibrate.decision.recall"),
        ("decision", {"threshold": 0.3}, "calibrate.decision.label"),
        ("sets", [0.9, 0.9], "must hold no number twice"),
        ("sets", [90], "calibrate.sets.0"),
        ("false_alarms", 0, "calibrate.false_alarms"),
    ],
)
def test_mistakes_of_a_calibration_are_named(raw, key, value, said):
    raw["calibrate"][key] = value
    assert said in mistakes(raw)


@pytest.mark.parametrize("decision", [None, {"label": "defective", "threshold": 0}, {"label": "defective", "recall": 0.95}])
def test_a_decision_is_a_threshold_or_a_recall_or_none(raw, decision):
    raw["calibrate"] |= {"decision": decision, "sets": []}
    validate(raw)
