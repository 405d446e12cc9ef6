"""What the verdict says of figures, whichever way a metric is better."""

from types import SimpleNamespace

import pandas as pd
import pytest

from stages.lib.core.contracts import Metric
from stages.lib.evaluation import comparison
from stages.lib.params.schema import Compare
from stages.lib.reporting import verdict
from stages.lib.tasks.classify import measures
from tests.tiny import PARAMS, model_card

ERRORS = Metric(values=lambda *given: None, differ=lambda *given: None, higher_is_better=False, fraction=False)


def lines(before, after, half, most=0.1, scale=ERRORS):
    """What is said of a model that went from `before` to `after`, with the half width of its interval."""
    change = after - before
    row = {"model": "target dots-0", "before": before, "after": after, "change": change, "lower": change - half,
           "upper": change + half}  # fmt: skip
    return verdict.catastrophic("dots", "accuracy", scale, pd.DataFrame([row]), most)


@pytest.mark.parametrize(
    ("after", "half", "named"),
    [(0.6, 0.1, True), (0.6, 0.4, False), (0.81, 0.01, False), (0.79, 0.01, True), (0.95, 0.01, False)],
    ids=["far less", "maybe chance", "not enough", "just enough", "more"],
)
def test_forgetting_is_named_where_it_is_more_than_allowed_and_no_chance(after, half, named):
    found = lines(0.9, after, half, scale=measures.METRICS["accuracy"])
    assert len(found) == named
    if named:
        low, high = (f"{100 * (after - 0.9 + end):+.1f}" for end in (-half, half))
        assert found[0].startswith(
            "- Catastrophic forgetting: after target dots-0, accuracy on dots (with its original head) went "
        )
        assert f"went from 90.0 % to {100 * after:.1f} % ({100 * (after - 0.9):+.1f}, {low} to {high})." in found[0]
        assert "keep models/dots beside the new model, or choose wise_ft" in found[0]


@pytest.mark.parametrize(
    ("after", "half", "named"),
    [(4.0, 0.5, True), (4.0, 2.5, False), (2.1, 0.01, False), (2.3, 0.01, True), (1.0, 0.1, False)],
    ids=["far more", "maybe chance", "not enough", "just enough", "less"],
)
def test_where_lower_is_better_more_is_forgetting_as_a_fraction_of_what_it_was(after, half, named):
    found = lines(2.0, after, half)
    assert len(found) == named
    if named:
        assert f"went from 2 to {after:g} ({after - 2:+g}, " in found[0]


def test_figures_that_are_no_fractions_keep_their_unit():
    p = SimpleNamespace(compare=Compare.model_validate(PARAMS["compare"] | {"metric": "mean_error"}), inits=["dots"], seeds=[0])
    test = comparison.Test("lines", ["a", "b"], None, None, "", False, False)
    d = {"difference": -0.25, "lower": -0.5, "upper": -0.125, "verdict": "helps"}
    results = {name: {"value": 1.5, "lower": 1.25, "upper": 2} for name in ("dots", "scratch")}
    models = {"dots-0": model_card("dots-0", best={"val_loss": 0.5})}
    pairs = [comparison.Pair("transfer", "Transfer as a whole", "scratch")]
    text = verdict.write(p, ERRORS, test, ["tiny", "dots"], pairs, results, {"transfer": d}, models, "dots-0")
    assert "**Transfer as a whole: helps**, -0.25 mean error (95% interval -0.5 to -0.125, one seed only)." in text
    assert "| random weights (control) | 1.5 | 1.25 to 2 |" in text
    assert "%" not in text.replace("95% ", "")
