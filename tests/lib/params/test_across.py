"""What must hold between the sections of params.yaml."""

import copy

import pytest

from stages.lib.core import plugins
from stages.lib.params.validate import validate
from tests.helpers import mistakes, places, put

# Options that make no sense together.


def test_mixing_in_batches_of_one_is_refused(raw):
    raw["training"] |= {"batch_size": 1, "cutmix": 0.5}
    assert "training: cutmix mixes the examples of a batch; set batch_size to 2 or more" in mistakes(raw)
    raw["training"]["batch_size"] = 2
    validate(raw)


def test_steps_that_begin_before_the_warm_up_is_over_are_refused(raw):
    epochs = raw["strategies"]["full"]["epochs"]
    raw["strategies"]["full"] |= {"schedule": "step", "warmup_epochs": epochs / 2}
    where = f"at half of the epochs (strategies.full.epochs: {epochs})"
    assert f"strategies.full: schedule step lowers the learning rate {where}" in mistakes(raw)
    raw["strategies"]["full"]["warmup_epochs"] = epochs / 2 - 0.1
    validate(raw)


def test_one_cycle_with_a_warm_up_is_refused_with_the_reason(raw):
    raw["strategies"]["full"]["schedule"] = "one_cycle"
    assert "strategies.full: schedule one_cycle has a warm-up of its own; set warmup_epochs to 0" in mistakes(raw)
    raw["strategies"]["full"]["warmup_epochs"] = 0
    validate(raw)
    raw["training"]["schedule"] = "one_cycle"
    raw["intermediate"]["mono"]["warmup_epochs"] = 2.5
    text = mistakes(raw)
    assert text.count("one_cycle") == 2, "what many blocks inherit is told once"
    assert "  training: schedule one_cycle" in text
    assert "  intermediate.mono: schedule one_cycle" in text
    raw["training"]["warmup_epochs"] = raw["intermediate"]["mono"]["warmup_epochs"] = 0
    validate(raw)


def test_options_that_a_strategy_has_no_use_for_do_not_count(raw):
    """knn trains nothing and may not hold a warm-up of its own, so the one that it inherits must not matter."""
    raw["training"]["schedule"] = "one_cycle"
    for path, unused in places(raw):
        if "warmup_epochs" not in unused:
            put(raw, (*path, "warmup_epochs"), 0)
    assert raw["training"]["warmup_epochs"] > 0
    validate(raw)


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
    validate(raw)
    put(raw, warmup, 2)
    text = mistakes(raw)
    assert f"  {'.'.join(path)}.{key}: must be more than warmup_epochs (2.0), or the learning rate never reaches" in text
    assert "1 mistake:" in text


def test_a_warm_up_of_the_head_needs_epochs_to_warm_up_in(raw):
    raw["training"]["warmup"] = "head"
    validate(raw)
    raw["strategies"]["full"]["warmup_epochs"] = 0
    assert "  strategies.full: warmup: head has nothing to warm up over" in mistakes(raw)


def test_a_cycle_of_hops_is_named_once(raw):
    hop = raw["intermediate"]["mono"]
    raw["intermediate"] = {"a": hop | {"init": "b"}, "b": hop | {"init": "a"}, "mono": hop}
    assert mistakes(raw).count("cycle") == 1


def test_a_source_and_a_hop_of_one_name_are_refused(raw):
    raw["intermediate"]["imagenet"] = copy.deepcopy(raw["intermediate"]["mono"]) | {"init": "mono"}
    assert "a source has the same name" in mistakes(raw)


def test_the_control_must_be_the_same_network(raw):
    raw["source"]["other"] = copy.deepcopy(raw["source"]["imagenet"])
    raw["scratch"]["like"] = "other"
    assert "scratch.like: must be 'imagenet', which 'mono' starts from" in mistakes(raw)


def test_the_same_images_in_two_datasets_must_be_split_the_same_way(raw):
    raw["datasets"]["again"] = copy.deepcopy(raw["datasets"]["poly"])
    validate(raw)
    raw["datasets"]["again"]["split"]["seed"] = 1
    assert "datasets.again: reads the same examples as datasets.poly, so split must be the same too" in mistakes(raw)


@pytest.mark.parametrize(("knob", "value"), [("threshold", 0.3), ("block", 24), ("limit", 100), ("duplicates", "drop")])
def test_other_labels_or_groups_of_the_same_images_split_otherwise_too(raw, knob, value):
    raw["datasets"]["again"] = copy.deepcopy(raw["datasets"]["poly"]) | {"raw": "data/./raw/elpv", knob: value}
    assert f"datasets.again: reads the same examples as datasets.poly, so {knob} must be the same too" in mistakes(raw)


def test_other_images_of_the_same_file_are_split_as_one_likes(raw):
    raw["datasets"]["mono"] |= {"threshold": 0.3, "limit": 100}
    validate(raw)


def test_no_hop_at_all_is_valid(raw):
    raw["intermediate"] = {}
    raw["inits"] = ["imagenet"]
    assert validate(raw).intermediate == {}


def test_what_the_modality_cannot_do_is_refused(raw, monkeypatch):
    raw["training"]["mixup"] = 0.2
    raw["strategies"]["full"]["augment"] = "stron"
    text = mistakes(raw)
    assert "  strategies.full.augment: the modality image has no 'stron'. Did you mean 'strong'?" in text and "1 mistake:" in text
    monkeypatch.setattr(plugins.load("modalities", "image"), "MIXES", False)
    assert "  training: mixup: the modality image cannot mix its inputs; set it to 0." in mistakes(raw)


def test_a_head_that_the_task_does_not_take_is_refused(raw, monkeypatch):
    raw["strategy"] = "knn"
    raw["intermediate"]["mono"] |= {"strategy": "knn", "neighbours": 3, "temperature": 0.1}
    for name in ("trainable", "epochs", "lr", "head_lr"):
        del raw["intermediate"]["mono"][name]
    validate(raw)
    monkeypatch.setattr(plugins.load("tasks", "classify"), "HEADS", ("linear",))
    for path in ("strategy", "intermediate.mono.strategy"):
        assert f"  {path}: knn needs the head knn, which the task classify does not take (linear)." in mistakes(raw)


def test_a_strategy_that_solves_the_loss_of_one_task_is_refused_for_others(raw):
    raw["strategy"] = "linear_probe"
    validate(raw)
    people(raw)
    told = "strategy: linear_probe solves the loss of the task classify, and the task embed has another one. feature_extraction"
    assert told in mistakes(raw)


# Another domain to be tested on, and other ways to train.


def test_the_data_to_be_tested_on_exist_and_are_packed_as_the_target_is(raw):
    raw["target"]["test"] = "polly"
    assert "target.test: 'polly' is not a dataset. Did you mean 'poly'?" in mistakes(raw)
    raw["target"]["test"] = "mono"
    validate(raw)
    raw["datasets"]["mono"]["px"] = 96
    assert "datasets.mono.px: must be 160, as in datasets.poly, which the target is trained on" in mistakes(raw)


def test_data_to_be_tested_on_may_be_framed_in_another_way(raw):
    raw["target"]["test"] = "mono"
    raw["datasets"]["mono"]["fit"] = "crop"
    validate(raw)


def test_adapting_needs_another_domain_of_one_task_and_is_not_for_hops(raw):
    raw["strategy"] = "dann"
    text = "adapts to the unlabelled inputs of target.test, which must be another dataset than the labelled one; both are"
    assert f"strategy: dann {text} 'poly'." in mistakes(raw)
    raw["target"]["test"] = "mono"
    validate(raw)
    block = {"data": "poly", "strategy": "mcc", **raw["strategies"]["mcc"]}
    raw["alternatives"] = {"mcc": block}
    validate(raw)
    raw["alternatives"] = {"mcc": block | {"data": "mono"}}
    assert f"alternatives.mcc.strategy: mcc {text} 'mono'." in mistakes(raw)
    raw["alternatives"] = {}
    raw["intermediate"]["mono"] = {"init": "imagenet", "data": "mono", "task": "classify", "strategy": "coral",
                                   **raw["strategies"]["coral"]}  # fmt: skip
    assert (
        "intermediate.mono.strategy: coral adapts to the unlabelled inputs of target.test, so it is for the target"
        in mistakes(raw)
    )


def test_adapting_is_refused_where_inputs_differ_in_length_or_answers_are_no_classes(raw, monkeypatch):
    raw["strategy"], raw["target"]["test"] = "mcc", "mono"
    validate(raw)
    text = "strategy: mcc adapts to unlabelled inputs, which only works for the task classify on inputs of one shape (image)."
    monkeypatch.setattr(plugins.load("modalities", "image"), "RAGGED", True)
    assert text in mistakes(raw)
    monkeypatch.undo()
    monkeypatch.delattr(plugins.load("tasks", "classify"), "ADAPTS")
    assert text in mistakes(raw)


def test_an_alternative_has_a_strategy_and_data_of_the_target(raw):
    full = {"data": "poly", "strategy": "full", "epochs": 2, "lr": 0.01, "head_lr": 0.01}
    raw["alternatives"] = {"whole": full}
    validate(raw)
    raw["alternatives"] = {"whole": full | {"data": "mono"}}
    assert "alternatives.whole.data: must be the target's data or test (poly); given: 'mono'." in mistakes(raw)
    raw["target"]["test"] = "mono"
    validate(raw)
    raw["alternatives"] = {"mono": full, "scratch": full, "target": full}
    assert "alternatives.mono: another arm has the same name" in mistakes(raw)
    assert "alternatives.target: another arm has the same name" in mistakes(raw)
    assert "alternatives.scratch: another arm has the same name" in mistakes(raw)
    raw["alternatives"] = {"whole": {"data": "poly", "strategy": "auto"}}
    assert "alternatives.whole.strategy: auto is not for alternatives" in mistakes(raw)
    raw["alternatives"] = {"whole": full | {"warmup_epochs": 5}}
    assert "alternatives.whole.epochs: must be more than warmup_epochs (5.0)" in mistakes(raw)


@pytest.mark.parametrize(("library", "model", "mean", "said"), [
    ("timm", "test_resnet", [0.5], "mean and std have 1 channel each, but the network test_resnet takes 3"),
    ("torchvision", "resnet18", [0.5], "mean and std have 1 channel each, but the network resnet18 takes 3"),
    ("small", "lenet5", [0.5] * 3, "mean and std have 3 channels each, but the network lenet5 takes 1"),
])  # fmt: skip
def test_grey_images_for_a_network_of_colours_are_refused_before_anything_runs(raw, library, model, mean, said):
    source = next(iter(raw["source"].values()))
    source["architecture"] = {"library": library, "model": model}
    source["preprocessing"] |= {"mean": mean, "std": mean}
    assert f"source.{next(iter(raw['source']))}.preprocessing: {said}" in mistakes(raw)
    other = [0.5] if len(mean) == 3 else [0.5] * 3
    source["preprocessing"] |= {"mean": other, "std": other}
    validate(raw)


@pytest.mark.parametrize(("mean", "std"), [([0.5, 0.5], [0.5, 0.5]), ([0.5], [0.5, 0.5, 0.5]), ([], [])])
def test_mean_and_std_are_of_one_or_three_channels(raw, mean, std):
    source = next(iter(raw["source"].values()))
    source["preprocessing"] |= {"mean": mean, "std": std}
    assert f"(grey images); mean has {len(mean)} and std {len(std)}" in mistakes(raw)


def test_a_task_that_makes_its_own_questions_is_for_hops_and_has_a_head_of_its_own(raw):
    raw["target"]["task"] = "mlm"
    raw["intermediate"]["mono"] |= {"task": "mlm", "strategy": "knn", "neighbours": 3, "temperature": 0.1}
    for name in ("trainable", "epochs", "lr", "head_lr"):
        del raw["intermediate"]["mono"][name]
    text = mistakes(raw)
    assert "  target.task: mlm makes its questions from the inputs alone" in text
    assert "  intermediate.mono.strategy: knn needs the head knn, which the task mlm does not take (masked_language)." in text
    assert "  training.augment: the task mlm does not use it; set it to none. Given: inspection." in text
    assert "  modality: the task mlm needs one output per word" in text


# The block that one task alone has.

TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 4, "dim": 16}


def people(raw):
    """Params whose target and control are of the task embed, without hops."""
    raw |= {"intermediate": {}, "inits": ["imagenet"], "compare": raw["compare"] | {"metric": "map_at_r"}}
    raw["target"]["task"] = "embed"
    raw["training"] |= {"label_smoothing": 0, "balance": "sampling", "metric_learning": TRIPLET}
    return raw


def test_the_task_embed_has_its_block_and_the_others_do_not(raw):
    other = copy.deepcopy(raw)
    other["training"]["metric_learning"] = TRIPLET
    text = mistakes(other)
    assert (
        "training.metric_learning: the task classify does not use it; set it to null (in training, or in intermediate.mono)"
        in text
    )
    validate(people(raw))
    raw["training"]["metric_learning"] = None
    assert "  training.metric_learning: the task embed needs it: a block with loss, pictures, dim" in mistakes(raw)
    for block in (raw["strategies"]["partial"], raw["scratch"]):
        block["metric_learning"] = TRIPLET
    validate(raw)
    raw["strategies"]["partial"]["metric_learning"] = TRIPLET | {"pictures": 9}
    assert "strategies.partial.metric_learning.pictures: a batch must hold at least two people" in mistakes(raw)


@pytest.mark.parametrize(("option", "value"), [("label_smoothing", 0.1), ("balance", "none"), ("mixup", 0.2), ("cutmix", 0.2)])
def test_what_makes_no_sense_for_people_is_refused(raw, option, value):
    people(raw)["training"][option] = value
    assert f"  training.{option}: the task embed does not use it; set it to" in mistakes(raw)


def test_the_features_alone_are_for_embeddings(raw):
    raw["strategy"] = "frozen"
    assert "strategy: frozen needs the head identity, which the task classify does not take" in mistakes(raw)
    people(raw)["training"]["metric_learning"] = None
    raw["scratch"]["metric_learning"] = TRIPLET
    validate(raw)
    raw["strategy"] = "knn"
    assert "strategy: knn needs the head knn, which the task embed does not take (linear, identity)" in mistakes(raw)


@pytest.mark.parametrize(("looks", "seeds", "said"), [
    ([3, 5], [0, 1, 2, 3], "compare.looks plans to look at 3, 5 of them"), ([5, 3], [0, 1, 2], "compare.looks: must rise"),
    ([3, 3], [0, 1, 2], "compare.looks: must rise"),
])  # fmt: skip
def test_seeds_follow_the_plan_by_which_they_are_added(raw, looks, seeds, said):
    raw |= {"seeds": seeds}
    raw["compare"] |= {"looks": looks}
    assert said in mistakes(raw)
    raw["compare"]["looks"] = [3, 4, 5]
    assert len(seeds) not in (3, 4) or validate(raw)
