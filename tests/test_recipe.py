"""How trainings are done, as the stage recipe writes it and the training stages read it."""

import copy
import json
from pathlib import Path

import pytest

from stages import recipe
from stages.lib.core import cards, closure, plugins, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import recipe as recipes
from tests.helpers import put
from tests.tiny import FULL, PACKING, PARAMS, ROOT, TRAINING, data_card, write_params

OUT, HOPS = Path("metrics/recipe/target.json"), Path("metrics/recipes")


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    advise("knn", "full", "partial")
    leaks({})
    return copy.deepcopy(PARAMS)


def advise(*ranking):
    cards.write_json(runs.ADVICE, {"ranking": [{"strategy": name} for name in ranking]})


def leaks(left_out):
    cards.write_json(runs.LEAKS / "leaks.json", {"action": "drop", "compared": [], "left_out": left_out})


def code_of(strategy):
    """Of what a training with it runs, and of nothing that only evaluation or people look at."""
    files = [
        f"strategies/{strategy}",
        "tasks/classify/learning",
        "modalities/image/inputs",
        "modalities/image/files",
        "modalities/image/__init__",
    ]
    return closure.digest([ROOT / f"stages/lib/{file}.py" for file in files])


def run(values):
    write_params(Path(), values)
    recipe.main("target")
    return json.loads(OUT.read_text())


def run_hops(values):
    write_params(Path(), values)
    recipe.main("hops")
    return {path.stem: json.loads(path.read_text()) for path in HOPS.iterdir()}


def test_the_chosen_strategy_with_its_hyperparameters_and_options(values, capsys):
    values["strategies"]["partial"] |= {"mixup": 0.2, "patience": 4}
    written = run(values)
    assert capsys.readouterr().out == "partial\n"
    assert written == {
        "strategy": "partial",
        "task": "classify",
        "hyperparameters": FULL | {"trainable": {"last_blocks": 2}},
        "options": TRAINING | {"mixup": 0.2, "patience": 4},
        "files": {},
        "unlabelled": None,
        "left_out": {},
        "packing": {},
        "code": code_of("partial"),
    }


def test_the_hops_and_the_control_have_recipes_of_their_own_which_wait_for_no_advice(values):
    runs.ADVICE.unlink()
    values["intermediate"]["dots"]["mixup"] = 0.2
    values["intermediate"]["more"] = FULL | {"init": "dots", "data": "dots", "task": "classify", "strategy": "partial",
                                             "trainable": {"last_blocks": 1}}  # fmt: skip
    values["scratch"]["ema"] = 0.5
    written = run_hops(values)
    chosen = {name: (each["strategy"], each["task"], each["hyperparameters"]) for name, each in written.items()}
    assert chosen == {
        "dots": ("full", "classify", FULL),
        "more": ("partial", "classify", FULL | {"trainable": {"last_blocks": 1}}),
        "scratch": ("scratch", "classify", {"epochs": 2, "lr": 0.01}),
    }
    assert {name: each["options"] for name, each in written.items()} == {
        "dots": TRAINING | {"mixup": 0.2}, "more": TRAINING, "scratch": TRAINING | {"ema": 0.5},
    }  # fmt: skip
    for name, each in written.items():
        strategy = {"dots": "full", "more": "partial"}.get(name, name)
        assert each["code"] == code_of(strategy)


def test_a_word_that_has_no_recipe_is_answered_in_words(values):
    with pytest.raises(UserError, match=r"'targets' has no recipe\. Allowed: hops, target"):
        recipe.main("targets")


@pytest.mark.parametrize("strategy", [name for name in plugins.names("strategies") if name not in ("auto", "scratch", "frozen")])
def test_the_target_reads_the_very_hyperparameters_that_were_checked(values, strategy):
    values["strategies"] = params.read(ROOT / "params.yaml")["strategies"]
    if strategy == "discriminative":
        values["strategies"][strategy]["rates"] = {"blocks.6.*": 1}
    if getattr(plugins.load("strategies", strategy), "UNLABELLED", False):
        values["target"]["data"] = "dots"
        digests = {f"{split}/inputs.npy": "" for split in ("train", "val")}
        cards.write_data_card(runs.prepared("lines"), data_card("lines", sha256=digests))
    written = run(values | {"strategy": strategy})
    plugin, block = plugins.load("strategies", strategy), params.load("strategies").strategies[strategy]
    read = recipes.read(OUT)
    assert read.arguments() == plugins.arguments(block, plugin)
    assert written["hyperparameters"].keys() == plugin.Params.model_fields.keys()
    assert read.options == TrainingOptions.model_validate(TRAINING | block.model_dump(include=set(TRAINING), exclude_none=True))


def test_auto_is_the_first_of_the_ranking_that_has_a_block(values, capsys):
    values["strategies"]["auto"] = {}
    assert run(values | {"strategy": "auto"})["strategy"] == "full"
    assert capsys.readouterr().out == "auto: full\n"
    by_advice = OUT.read_bytes()
    run(values | {"strategy": "full"})
    assert OUT.read_bytes() == by_advice, "the same recipe, so that nothing is trained again"
    advise("partial", "full")
    assert run(values | {"strategy": "auto"})["strategy"] == "partial"


def test_advice_without_any_block_is_answered_in_words(values):
    values["strategies"]["auto"] = {}
    advise("knn", "prototype")
    with pytest.raises(UserError, match=r"none of the advised strategies has a block in strategies \(knn, prototype\)\. Add one"):
        run(values | {"strategy": "auto"})


def test_only_what_the_target_needs_is_in_it(values):
    run(values)
    before = OUT.read_bytes()
    advise("full")  # is not asked
    values["strategies"]["full"] |= {"lr": 0.5, "mixup": 0.3}
    values["strategies"]["feature_extraction"]["epochs"] = 9
    run(values)
    assert OUT.read_bytes() == before
    for path, value in [(("strategies", "partial", "lr"), 0.5), (("training", "ema"), 0.9), (("strategy",), "full")]:
        changed = copy.deepcopy(values)
        put(changed, path, value)
        run(changed)
        assert OUT.read_bytes() != before, path


def test_an_option_that_the_block_holds_for_itself_hides_that_of_training(values):
    values["strategies"]["partial"]["mixup"] = 0.2
    run(values)
    before = OUT.read_bytes()
    values["training"]["mixup"] = 0.9
    run(values)
    assert OUT.read_bytes() == before


def test_settings_are_shown_under_dotted_names_without_what_the_strategy_does_not_use(values):
    values["strategies"]["discriminative"] = FULL | {"decay": 0.5, "rates": {"blocks.6.*": 0.1}}
    run(values)
    options = {name: value for name, value in TRAINING.items() if name != "head"}
    head = {"head.hidden": 0, "head.dropout": 0, "head.zero": False, "head.keep": False}
    assert recipes.read(OUT).settings() == {"strategy": "partial"} | FULL | {"trainable.last_blocks": 2} | options | head
    run(values | {"strategy": "feature_extraction"})
    assert recipes.read(OUT).settings().keys() == {"strategy", "epochs", "head_lr", *options, *head} - {
        "augment",
        "mixup",
        "cutmix",
    }
    run(values | {"strategy": "discriminative"})
    assert recipes.read(OUT).settings()["rates"] == {"blocks.6.*": 0.1}, "patterns are no names"


def test_an_alternative_has_a_recipe_and_on_the_tests_data_the_hashes_of_what_it_reads(values):
    """Its stage depends on the target's data alone, so these hashes are how it notices that the other data changed."""
    values["target"]["data"] = "dots"
    values["alternatives"] = {"same": {"data": "dots", "strategy": "full", **FULL},
                              "oracle": {"data": "lines", "strategy": "full", **FULL, "mixup": 0.3}}  # fmt: skip
    digests = {f"{split}/inputs.npy": f"{split}'s" for split in ("train", "val", "test")}
    cards.write_data_card(runs.prepared("lines"), data_card("lines", sha256=digests))
    run(values)
    same, oracle = (recipes.read(runs.RECIPES / f"{name}.json") for name in ("same", "oracle"))
    assert same.files == {}
    assert oracle.files == {"lines/train/inputs.npy": "train's", "lines/val/inputs.npy": "val's"}, "and never the test's"
    assert same.packing == PACKING and oracle.packing == {}, "a model is made for the data that it is tested on"
    assert same.unlabelled is None and oracle.unlabelled is None
    assert oracle.options.mixup == 0.3 and same.options.mixup == TRAINING["mixup"]
    del values["alternatives"]["same"]
    run(values)
    assert {path.name for path in runs.RECIPES.iterdir()} == {"oracle.json", "target.json"}, (
        "no recipe of a removed block is left"
    )


def test_what_adapts_has_the_hashes_of_the_inputs_alone_in_its_recipe(values):
    values["target"]["data"] = "dots"
    mcc = {"epochs": 2, "lr": 0.01, "head_lr": 0.01, "trainable": "all", "strength": 1.0, "temperature": 2.5, "select": "loss"}
    values["strategies"]["mcc"] = mcc
    values["alternatives"] = {"mcc": {"data": "dots", "strategy": "mcc", **mcc}}
    digests = {f"{split}/{file}": f"{split} {file}" for split in ("train", "val", "test") for file in ("inputs.npy", "table.csv")}
    cards.write_data_card(runs.prepared("lines"), data_card("lines", sha256=digests))
    run(values | {"strategy": "mcc"})
    for found in (recipes.read(OUT), recipes.read(runs.RECIPES / "mcc.json")):
        assert found.files == {f"lines/{split}/inputs.npy": f"{split} inputs.npy" for split in ("train", "val")}
        assert found.unlabelled == "lines" == found.settings()["unlabelled"]
    run(values | {"strategy": "full"})
    plain = recipes.read(OUT)
    assert plain.files == {} and plain.unlabelled is None and "unlabelled" not in plain.settings()


def test_a_recipe_leaves_out_the_test_examples_in_all_data_that_its_training_sees_and_no_others(values):
    values["target"]["data"] = "dots"
    mcc = {"epochs": 2, "lr": 0.01, "head_lr": 0.01, "trainable": "all", "strength": 1.0, "temperature": 2.5, "select": "loss"}
    values["alternatives"] = {
        "mcc": {"data": "dots", "strategy": "mcc", **mcc}, "oracle": {"data": "lines", "strategy": "full", **FULL},
    }  # fmt: skip
    inputs = {f"{split}/inputs.npy": split for split in ("train", "val", "test")}
    cards.write_data_card(runs.prepared("lines"), data_card("lines", sha256=inputs))
    dots, lines = {"train": [3, 5]}, {"val": [0]}
    leaks({"dots": dots, "lines": lines, "other": {"train": [1]}})
    run(values)
    assert recipes.read(OUT).left_out == {"dots": dots}
    assert recipes.read(runs.RECIPES / "mcc.json").left_out == {"dots": dots, "lines": lines}
    assert recipes.read(runs.RECIPES / "oracle.json").left_out == {"lines": lines}
    assert {name: each["left_out"] for name, each in run_hops(values).items()} == {
        "dots": {"dots": dots},
        "scratch": {"dots": dots},
    }
