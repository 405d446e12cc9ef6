"""Several ways to train the target, compared on planted answers: validation ranks, the test tells, corrected for their number."""

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.lib.core import cards
from stages.lib.core.contracts import primary
from stages.lib.errors import UserError
from stages.lib.evaluation import comparison, pairing, verdicts
from stages.lib.params.schema import Compare
from stages.lib.shell import epochs
from stages.lib.states import page, plot, words
from stages.lib.states.collect import State
from stages.lib.states.compared import compared
from tests.outcomes import evaluated
from tests.tiny import PARAMS, model_card

SETTINGS = Compare.model_validate(PARAMS["compare"] | {"num_resamples": 2000})


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state whose target is right at `rate` of the test, and at `val` of validation."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def state(name, rate, val, *, strategy="", seeds=(0, 1), val_loss=0.5, seconds=None, params=None, weights="", **settings):
        folders = []
        for seed in seeds:
            folder = tmp_path / name / str(seed)
            shutil.copytree(evaluated(rate, seed, 0), folder)
            model = weights or f"{name}{seed}"
            report = json.loads((folder / "report.json").read_text()) | {"model": model, "test": "t"}
            run = {"key": f"{name:_<15}{seed}", "name": "target tiny", "model": model,
                   "best": {"epoch": 3, "val_loss": val_loss, "val_accuracy": val},
                   "settings": {"strategy": strategy or name, "seed": seed, **settings}}  # fmt: skip
            cards.write_json(folder / "report.json", report)
            cards.write_json(folder / "run.json", run)
            cards.write_json(folder / "card.json", model_card(f"tiny-{seed}").model_dump())
            if seconds is not None:
                epochs.note_seconds(run["key"], seconds + seed, resumed=False)
            folders.append(folder)
        return State(name, PARAMS | {"seeds": list(seeds)} | (params or {}), folders)

    return state


def test_validation_ranks_and_the_test_only_tells(state):
    """The best by the test is the last here, and is said to be better."""
    found = compared([state("knn", 0.95, 0.6), state("full", 0.8, 0.9), state("partial", 0.81, 0.8)], SETTINGS)
    assert [way.label for way in found.ways] == ["full", "partial", "knn"]
    assert found.ways[0].against is None and [way.val for way in found.ways] == [0.9, 0.8, 0.6]
    told = "\n".join(words.answer(found))
    assert told.startswith("Best on validation: full, 90.0 %. On the test it reaches 73.5 % (")
    assert "Better than it on the test, although validation did not say so: knn (+2" in told
    tied = compared([state("a", 0.9, 0.8, val_loss=0.4), state("b", 0.7, 0.8, val_loss=0.3)], SETTINGS)
    assert [way.label for way in tied.ways] == ["b", "a"], "of equals, the one with the lower validation loss"


def test_each_is_held_against_the_best_as_compare_does_it_and_corrected_for_their_number(state):
    rates = {"full": 0.9, "partial": 0.89, "bitfit": 0.87, "knn": 0.7}
    states = [state(name, rate, rate) for name, rate in rates.items()]
    found = compared(states, SETTINGS)
    arms, targets = {}, None
    for each in states:
        tables = [comparison.read_predictions(folder / "predictions.csv") for folder in each.folders]
        parts = [comparison.parsed(Path(), table, model_card("tiny-0")) for table in tables]
        arms[each.name], targets = np.stack([part[0] for part in parts]).astype(float), parts[0][1]
    metric = primary("classify")[1]
    how = comparison.bootstrap(SETTINGS)
    differences = {name: pairing.paired(metric, arms[name], arms["full"], targets, None, **how) for name in list(rates)[1:]}
    expected = verdicts.judged(differences, metric, SETTINGS.model_copy(update={"looks": []}), 2)
    assert {way.label: way.against for way in found.ways[1:]} == expected
    assert expected["knn"].p_holm > expected["knn"].p or expected["knn"].p_holm == 3 * expected["knn"].p
    alone = compared([states[0], states[2]], SETTINGS).ways[1].against
    assert alone.p == expected["bitfit"].p and alone.p_holm < expected["bitfit"].p_holm
    assert words.word(found.ways[3].against) == "worse"


def test_the_fastest_that_is_not_worse_is_named(state):
    found = compared([state("full", 0.9, 0.9, seconds=300), state("bitfit", 0.9, 0.85, seconds=30, weights=""),
                      state("knn", 0.6, 0.6, seconds=1)], SETTINGS)  # fmt: skip
    assert [way.seconds for way in found.ways] == [300.5, 30.5, 1.5]
    told = "\n".join(words.answer(found))
    assert "Worse: knn (-" in told and "not shown to be worse: bitfit, 30 s" in told
    rows = words.table(found)
    assert rows[1][-3:] == ["5 min", "3", "full"] and rows[3][4] == "worse"
    whole, narrow = (words.aligned(rows, most) for most in (None, 90))
    assert "5 min" in whole and max(map(len, narrow.splitlines())) <= 90 and narrow.count("\n") == 3 and "against" in narrow
    elsewhere = compared([state("a", 0.9, 0.9), state("b", 0.9, 0.8, seconds=3)], SETTINGS)
    assert elsewhere.ways[0].seconds is None and "fastest" not in "\n".join(words.answer(elsewhere))


def test_ways_of_the_same_strategy_are_told_apart_by_what_differs(state):
    found = compared([state("one", 0.9, 0.9, strategy="full", lr=0.1), state("two", 0.8, 0.8, strategy="full", lr=0.2),
                      state("three", 0.7, 0.7, strategy="full", lr=0.2, params={"inits": ["tiny"]}),
                      state("knn", 0.6, 0.6, neighbours=3)], SETTINGS)  # fmt: skip
    assert [way.label for way in found.ways] == [
        "full (from dots, lr 0.1)", "full (from dots, lr 0.2)", "full (from tiny, lr 0.2)", "knn",
    ]  # fmt: skip


def test_one_seed_is_about_these_models_and_says_so(state):
    found = compared([state("full", 0.9, 0.9, seeds=(0,)), state("knn", 0.6, 0.6, seeds=(0,))], SETTINGS)
    assert found.ways[1].against.verdict == "this model is worse" and words.word(found.ways[1].against) == "worse"
    assert "One training each" in "\n".join(words.notes(found, 0.95))


def test_what_cannot_be_compared_is_refused_or_left_out(state):
    first = state("full", 0.9, 0.9)
    with pytest.raises(UserError, match=r"other has seeds \[0\], full \[0, 1\]"):
        compared([first, state("other", 0.8, 0.8, seeds=(0,))], SETTINGS)
    moved = state("moved", 0.8, 0.8)
    path = moved.folders[1] / "predictions.csv"
    path.write_text(path.read_text().replace("\n000,", "\nanother,"))
    with pytest.raises(UserError, match="moved was measured on 300 test examples of lines, full on 300 of lines, and they"):
        compared([first, moved], SETTINGS)
    retrained = state("retrained", 0.8, 0.8)
    cards.write_json(retrained.folders[0] / "report.json", {"model": "other"})
    with pytest.raises(UserError, match="retrained: target tiny was trained again since it was tested"):
        compared([first, retrained], SETTINGS)
    twice = [state("a", 0.8, 0.8, weights="w"), state("b", 0.8, 0.8, weights="w")]
    assert compared([first, *twice], SETTINGS).same == ["b: the same weights as a"]
    with pytest.raises(
        UserError, match=r"^One way to train this target is recorded.*strategies --run.*\nb: the same weights as a"
    ):
        compared(twice, SETTINGS)


def test_what_choosing_by_the_test_would_flatter_is_said(state):
    found = compared([state(name, 0.8, 0.8) for name in ("a", "b", "c")], SETTINGS)
    assert found.luck["standard_error"] > 0
    assert any(line.startswith("Validation chose. Whoever takes the best of 3 by the test") for line in words.notes(found, 0.95))


def test_the_table_and_the_picture_hold_every_way_and_are_the_same_again(state, tmp_path):
    found = compared([state("full", 0.9, 0.9, seconds=200), state("a|b", 0.8, 0.8), state("knn", 0.6, 0.6)], SETTINGS)
    page = words.markdown(found, 0.95)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 3 and "a\\|b" in page and len({row.replace("\\|", "").count("|") for row in rows}) == 1
    for name in ("one.png", "two.png"):
        plot.draw(tmp_path / name, found, 0.95)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_page_has_every_way_its_difference_and_only_text_from_names(state):
    found = compared([state("full", 0.9, 0.9, seconds=200), state("<b>&", 0.88, 0.8), state("knn", 0.6, 0.6)], SETTINGS)
    text = page.write(found, 0.95)
    assert text == page.write(found, 0.95), "equal comparisons give equal pages"
    assert "<b>&" not in text and text.count("&lt;b&gt;&amp;") >= 3
    assert text.count('class="zero"') == 2, "a row for each but the best, with its mark"
    for way in found.ways:
        assert found.metric.text(way.test["value"]) in text
        assert way.against is None or f"{found.metric.change(way.against.difference)} (" in text
    assert all(line in html.unescape(text) for line in words.notes(found, 0.95))
    assert "src=" not in text and "href=" not in text, "nothing is loaded"


def test_the_same_states_are_one_comparison_and_others_are_another(state):
    one, two, three = state("full", 0.9, 0.9), state("knn", 0.8, 0.8), state("partial", 0.7, 0.7)
    key = compared([one, two], SETTINGS).key
    assert compared([two, one._replace(name="another name")], SETTINGS).key == key
    others = SETTINGS.model_copy(update={"metric": "auroc"})
    assert len({key, compared([one, two, three], SETTINGS).key, compared([one, two], others).key}) == 3
