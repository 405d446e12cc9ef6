"""How the target is trained, as the stage recipe writes it and the stage target reads it."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from stages import recipe
from stages.lib import artifacts, params, plugins
from stages.lib.errors import UserError
from tests.closure import ROOT
from tests.conftest import FULL, PARAMS, TRAINING, write_params
from tests.helpers import put

OUT = Path("metrics/recipe.json")


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    advise("knn", "full", "partial")
    return copy.deepcopy(PARAMS)


def advise(*ranking):
    artifacts.write_json(Path("metrics/advise.json"), {"ranking": [{"strategy": name} for name in ranking]})


def run(values):
    write_params(Path(), values)
    recipe.main()
    return json.loads(OUT.read_text())


def test_the_chosen_strategy_with_its_knobs_and_options(values, capsys):
    values["strategies"]["partial"] |= {"mixup": 0.2, "patience": 4}
    written = run(values)
    assert capsys.readouterr().out == "partial\n"
    assert written == {
        "strategy": "partial",
        "knobs": FULL | {"trainable": {"last_blocks": 2}},
        "training": TRAINING | {"mixup": 0.2, "patience": 4},
        "code": hashlib.sha256((ROOT / "stages/lib/strategies/partial.py").read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("strategy", [name for name in plugins.names("strategies") if name not in ("auto", "scratch")])
def test_the_target_reads_the_very_knobs_that_were_checked(values, strategy):
    values["strategies"] = params.read(ROOT / "params.yaml")["strategies"]
    if strategy == "discriminative":
        values["strategies"][strategy]["rates"] = {"blocks.6.*": 1}
    written = run(values | {"strategy": strategy})
    plugin, block = plugins.load("strategies", strategy), params.load("strategies").strategies[strategy]
    assert plugins.knobs(plugin.Knobs.model_validate(written["knobs"]), plugin) == plugins.knobs(block, plugin)
    assert written["knobs"].keys() == plugin.Knobs.model_fields.keys()


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
    with pytest.raises(UserError, match=r"no block in strategies for what can be advised \(knn, prototype\)\. Add one"):
        run(values | {"strategy": "auto"})


def test_only_what_the_target_needs_is_in_it(values):
    run(values)
    before = OUT.read_bytes()
    advise("full")  # is not asked
    values["strategies"]["full"] |= {"lr": 0.5, "mixup": 0.3}
    values["strategies"]["feature_extraction"]["epochs"] = 9
    run(values)
    assert OUT.read_bytes() == before
    for path, value in [(("strategies", "partial", "lr"), 0.5), (("training", "ema"), 0.9)]:
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
