"""What learning curves say in words is what the numbers allow."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages.lib.learning_curve.label_savings import interval_of_labels, reached_with, sentence, summary
from stages.lib.tasks.classify.measures import METRICS

ACCURACY = METRICS["accuracy"]


def test_between_two_points_the_number_is_linear_in_its_logarithm():
    assert reached_with([100, 400], [0.6, 0.8], 0.7) == pytest.approx(200)
    random = np.random.default_rng(0)
    numbers, accuracy = np.array([20, 50, 130, 500]), np.sort(random.random(4))
    for wanted in np.linspace(accuracy[0] + 1e-3, accuracy[-1], 20):
        assert reached_with(numbers, accuracy, wanted) == pytest.approx(np.exp(np.interp(wanted, accuracy, np.log(numbers))))


def test_a_dip_by_chance_is_smoothed_away():
    numbers, accuracy = [10, 20, 40, 80], [0.5, 0.8, 0.6, 0.9]  # the two in the middle count as 0.7
    assert reached_with(numbers, accuracy, 0.7) == pytest.approx(20)
    assert reached_with(numbers, accuracy, 0.8) == pytest.approx(40 * 2**0.5)


def test_what_the_first_point_reaches_and_what_none_does():
    assert reached_with([10, 20], [0.5, 0.8], 0.5) == 10
    assert reached_with([10, 20], [0.5, 0.8], 0.1) == 10
    assert reached_with([10, 20], [0.5, 0.8], 0.81) == np.inf


def test_the_interval_of_labels_is_that_of_the_resamples():
    examples, control = [100, 200, 400, 800], np.tile([0.5, 0.6, 0.7, 0.8], (101, 1))
    reached = np.linspace(0.6, 0.8, 101)
    lower, upper = interval_of_labels(examples, 100, reached, control, 0.9)
    assert (lower, upper) == pytest.approx([reached_with(examples, control[0], wanted) - 100 for wanted in reached[[5, 95]]])
    assert interval_of_labels(examples, 400, np.full(101, 0.6), control, 0.9) == (-200, -200), "the control may be better"


def test_where_some_resamples_never_come_so_far_the_interval_is_open():
    control = np.tile([0.5, 0.6, 0.7, 0.8], (100, 1))
    reached = np.where(np.arange(100) < 4, 0.9, 0.7)
    assert interval_of_labels([100, 200, 400, 800], 100, reached, control, 0.95) == (300, np.inf)
    assert interval_of_labels([100, 200, 400, 800], 100, np.full(100, 0.9), control, 0.95) == (np.inf, np.inf)


def told(arm, control, examples=(100, 200, 400, 800), seeds=3, least=0.02, savings=(31, 987), metric=ACCURACY):
    """The sentence for made-up curves; differences below `least` are chance."""
    rows = [("partial", num, seeds, value, 0, 1) for num, value in zip(examples, arm, strict=True)]
    rows += [("scratch", num, seeds, value, 0, 1) for num, value in zip(examples, control, strict=True)]
    table = pd.DataFrame(rows, columns=["arm", "examples", "seeds", "value", "lower", "upper"])
    arm, control = dict(zip(examples, arm, strict=True)), dict(zip(examples, control, strict=True))

    def against(num, num_control):
        difference = (arm[num] - control[num_control]) * (1 if metric.higher_is_better else -1)
        verdict = "helps" if difference >= least else "hurts" if difference <= -least else "no difference shown"
        return {"verdict": verdict}

    return sentence("partial", table, metric, against, lambda num: savings)


def test_what_the_control_reaches_later_has_a_price_in_labels():
    assert told([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8]) == (
        "Pretraining is worth about 400 labels here (interval 31 to 990): with 400 examples partial reaches 80.0 %, which "
        "random weights reach with about 800."
    )  # with 800 they never come so far, so 400 is the last that has a price
    assert told([0.55, 0.6], [0.5, 0.6], (100, 200)).startswith(
        "Pretraining is worth about 41 labels here (interval 31 to 990): with 100 examples partial reaches 55.0 %, which "
        "random weights reach with about 140."
    )


def test_where_lower_is_better_the_curve_that_falls_first_is_worth_labels():
    errors = replace(ACCURACY, higher_is_better=False, fraction=False)
    assert told([4, 3, 2, 1], [5, 4, 3, 2], least=0.5, metric=errors) == (
        "Pretraining is worth about 400 labels here (interval 31 to 990): with 400 examples partial reaches 2, which "
        "random weights reach with about 800."
    )
    assert "not shown to be worth any label" in told([5, 4, 3, 2], [4, 3, 2, 1], least=0.5, metric=errors)


def test_an_open_interval_names_what_was_tried():
    words = told([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8], savings=(-20, np.inf))
    assert words.startswith("Pretraining is worth about 400 labels here (interval -20 to more than 400): with 400")
    assert "interval more than 400 to more than 400" in told([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8], savings=(np.inf, np.inf))


def test_where_the_curves_meet_it_is_told():
    assert told([0.7, 0.75, 0.8, 0.8], [0.5, 0.6, 0.7, 0.8]) == (
        "Pretraining is worth about 400 labels here (interval 31 to 990): with 400 examples partial reaches 80.0 %, which "
        "random weights reach with about 800. With 800 examples no difference is shown (80.0 % and 80.0 %)."
    )


def test_what_the_control_never_reaches_is_worth_more_than_all_it_had():
    assert told([0.85, 0.9, 0.9, 0.95], [0.5, 0.5, 0.6, 0.7]) == (
        "Pretraining is worth more than 700 labels here: with 100 examples partial reaches 85.0 %, and random weights only "
        "70.0 % with 800."
    )


def test_a_bound_that_chance_may_explain_says_so():
    assert told([0.71, 0.9, 0.9, 0.95], [0.5, 0.5, 0.6, 0.7]) == (
        "Pretraining is worth about 700 labels or more here: with 100 examples partial reaches 71.0 %, and random weights only "
        "70.0 % with 800, a difference that chance may explain."
    )


def test_what_is_better_with_all_examples_alone_has_no_number():
    assert told([0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.5, 0.7]) == (
        "Pretraining helps here, but how many labels it is worth is not known: with 800 examples partial reaches 90.0 %, and "
        "random weights 70.0 % with as many, the most that were tried."
    )


def test_what_the_control_reaches_as_early_is_not_shown_to_be_worth_a_label():
    none = "Pretraining is not shown to be worth any label here: with 800 examples partial reaches "
    assert told([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8]) == f"{none}80.0 %, which random weights reach with as many."
    assert told([0.4, 0.5, 0.6, 0.7], [0.5, 0.6, 0.7, 0.8]) == (
        f"{none}70.0 %, which random weights reach with about 400. They are better here, beyond chance."
    )
    assert told([0.4, 0.4, 0.4, 0.4], [0.5, 0.6, 0.7, 0.8]).startswith(
        f"{none}40.0 %, which random weights reach with 100 or fewer."
    )
    assert told([0.5, 0.6, 0.7, 0.81], [0.5, 0.6, 0.7, 0.8]) == (
        f"{none}81.0 %, and random weights 80.0 %, a difference that chance may explain."
    )


def test_a_gain_that_chance_may_explain_has_no_price():
    words = told([0.51, 0.61, 0.71, 0.8], [0.5, 0.6, 0.7, 0.8])
    assert words.startswith("Pretraining is not shown to be worth any label here: with 800 examples")
    assert told([0.51, 0.61, 0.71, 0.8], [0.5, 0.6, 0.7, 0.8], least=0.005).startswith("Pretraining is worth about 29 labels")


def test_a_control_that_is_better_with_all_examples_is_told():
    words = told([0.6, 0.7, 0.7, 0.7], [0.5, 0.6, 0.7, 0.8])
    assert words.endswith("With 800 examples random weights are better, beyond chance (70.0 % and 80.0 %).")


def test_one_seed_is_told():
    assert "worth about 400 labels here (from a single seed, interval 31 to 990): with" in told(
        [0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8], seeds=1
    )
    assert "not shown to be worth any label here (from a single seed): with" in told([0.5] * 4, [0.5] * 4, seeds=1)


def test_one_label_is_singular_and_thousands_have_a_comma():
    assert told([0.55, 0.6], [0.5, 0.6], (2, 4)).startswith("Pretraining is worth about 1 label here (interval ")
    assert (
        "about 2,000 labels here (interval 31 to 990): with 2,000 examples partial reaches 70.0 %, which random weights reach "
        "with about 4,000." in (told([0.7, 0.8], [0.6, 0.7], (2000, 4000)))
    )


def test_the_summary_shows_every_point_of_every_arm():
    rows = [("partial", 50, 2, 0.7, 0.6, 0.8), ("partial", 1000, 2, 0.9, 0.85, 0.95), ("scratch", 50, 2, 0.5, 0.4, 0.6),
            ("scratch", 1000, 2, 0.8, 0.75, 0.85)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["arm", "examples", "seeds", "value", "lower", "upper"])
    text = summary(table, "macro_f1", METRICS["macro_f1"], ["Worth it."], ["tiny", "dots"], "lines", [0, 7], 1234, 0.9)
    assert text.startswith("# Learning curve: tiny -> dots -> lines\n\n- **Worth it.**\n")
    assert "1,234 test examples of lines, mean over seeds 0, 7 (90% interval)" in text
    assert "| training examples | partial | random weights |" in text
    assert "| 50 | 70.0 % (60.0 % to 80.0 %) | 50.0 % (40.0 % to 60.0 %) |" in text
    assert "| 1,000 | 90.0 % (85.0 % to 95.0 %) | 80.0 % (75.0 % to 85.0 %) |" in text
    assert "One seed" not in text
