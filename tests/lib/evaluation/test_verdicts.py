"""Several comparisons in one report, against simulated truths and computations by hand."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from stages.lib.evaluation import pairing, statistics, verdicts
from stages.lib.evaluation.verdicts import Comparison, Shipped
from stages.lib.params.schema import Compare
from stages.lib.tasks.classify.measures import METRICS

ACCURACY = METRICS["accuracy"]
HOW = {"num_resamples": 600, "seed": 0}


def arms(random, num, first, second, shared=0.5):
    """Predictions (1, N, 2) of two models that are right for these shares of the examples, of which `shared` are as hard for
    both, and the labels."""
    labels = random.integers(2, size=num)
    luck = np.where(random.random(num) < shared, random.random((1, num)), random.random((2, num)))
    right = luck < np.array([[first], [second]])
    sure = np.where(right == labels, 0.9, 0.1)
    return [np.stack([1 - each, each], axis=1)[None] for each in sure], labels


def paired(random, num, first, second, **more):
    (one, other), labels = arms(random, num, first, second, **more)
    return pairing.paired(ACCURACY, one, other, labels, None, **HOW)


def judged(found, num_seeds=2, margin=0.02, metric=ACCURACY, looks=()):
    settings = Compare(metric="accuracy", num_resamples=600, confidence=0.95, margin=margin, looks=list(looks))
    return verdicts.judged(found, metric, settings, num_seeds)


def test_holm_is_what_the_paper_says():
    """Holm 1979: the smallest times 4, the next times 3, ..., and none below one before it."""
    found = verdicts.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert verdicts.holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert verdicts.holm({"a": 0.04}) == {"a": 0.04}


@pytest.mark.parametrize("first", [0.7, 0.74, 0.8, 0.6])
def test_a_p_value_is_below_the_level_where_the_interval_leaves_out_0(first):
    random = np.random.default_rng(3)
    for _ in range(5):
        found = paired(random, 300, first, 0.7)
        p = verdicts.p_difference(found)
        for confidence in (0.8, 0.9, 0.95, 0.99):
            lower, upper = statistics.interval(found.samples, confidence)
            if abs(p - (1 - confidence)) > 0.004:  # the two round differently between two resamples
                assert (lower > 0 or upper < 0) == (p < 1 - confidence)


def test_of_many_true_nulls_together_few_reports_claim_any():
    """Five comparisons of equally good models in each of 150 reports."""
    random = np.random.default_rng(0)
    together, single = 0, 0
    for _ in range(150):
        report = {str(key): paired(random, 200, 0.8, 0.8) for key in range(5)}
        together += any(each.verdict in ("helps", "hurts") for each in judged(report).values())
        single += any(each.p <= 0.05 for each in judged(report).values())
    assert together / 150 <= 0.09 and single / 150 > 0.13


def test_as_good_is_rarely_said_of_models_that_are_the_margin_apart():
    random = np.random.default_rng(1)
    said = [judged({"x": paired(random, 500, 0.85, 0.80)}, margin=0.05)["x"].verdict for _ in range(200)]
    assert sum(each == "as good" for each in said) / 200 <= 0.09
    same = [judged({"x": paired(random, 3000, 0.9, 0.9)}, margin=0.05)["x"] for _ in range(20)]
    assert all(each.p_margin_holm < 0.05 for each in same) and sum(each.verdict == "as good" for each in same) >= 15


@pytest.mark.parametrize(("num", "verdict"), [(100, "no difference shown"), (200, "as good")])
def test_identical_answers_are_as_good_only_on_enough_examples(num, verdict):
    """Of 100 examples none differs with probability 0.98^100 = 0.13 if 2 % of all do, of 200 with 0.018."""
    (one, _), labels = arms(np.random.default_rng(0), num, 0.8, 0.8)
    found = judged({"x": pairing.paired(ACCURACY, one, one, labels, None, **HOW)})["x"]
    assert found.verdict == verdict and found.p_margin == pytest.approx(0.98**num) and found.p == 1


def test_a_clear_difference_is_a_verdict_in_the_right_direction():
    random = np.random.default_rng(2)
    report = {"up": paired(random, 400, 0.9, 0.7), "down": paired(random, 400, 0.6, 0.8)}
    found = judged(report)
    assert (found["up"].verdict, found["down"].verdict) == ("helps", "hurts")
    lower_is_better = judged(report, metric=type(ACCURACY)(ACCURACY.values, ACCURACY.differ, higher_is_better=False))
    assert (lower_is_better["up"].verdict, lower_is_better["down"].verdict) == ("hurts", "helps")


def test_one_seed_never_helps_or_hurts():
    random = np.random.default_rng(2)
    report = {
        "up": paired(random, 400, 0.9, 0.7),
        "down": paired(random, 400, 0.6, 0.8),
        "same": paired(random, 4000, 0.99, 0.99),
    }
    words = {key: each.verdict for key, each in judged(report, num_seeds=1).items()}
    assert words == {"up": "this model is better", "down": "this model is worse", "same": "this model is as good"}


def test_a_difference_that_the_correction_takes_away_is_marked():
    random = np.random.default_rng(6)
    found = next(each for each in iter(lambda: paired(random, 300, 0.76, 0.7), None) if 0.02 < verdicts.p_difference(each) < 0.05)
    others = {str(key): paired(random, 300, 0.7, 0.7) for key in range(4)}
    together = judged({"x": found} | others)["x"]
    assert together.verdict == "no difference shown" and verdicts.alone(together, 0.95)
    assert judged({"x": found})["x"].verdict == "helps"


def test_the_file_has_a_schema_that_refuses_what_is_not_in_it():
    report = judged({"transfer": paired(np.random.default_rng(2), 400, 0.9, 0.7)})
    written = Comparison(
        ship="a-0",
        shipped=Shipped(trained_from="a", facts={"accuracy": {"value": 0.9, "lower": None, "upper": None}}, transfer={}),
        intervals={"a": {"lower": 0.8, "upper": 1.0}},
        measured={"target-a-0": "ab"},
        use="may be sold",
        luck={},
        chance=None,
        without_leaks=None,
        warnings=[],
        accuracy={"a": 0.9, "b": None},
        **report,
    )
    values = json.loads(json.dumps(written.model_dump()))
    assert Comparison.model_validate(values) == written and set(written.verdicts) == {"transfer"}
    for wrong in ({"verdict": "nice"}, {"p": 2}, {"seeds": 1}):
        with pytest.raises(ValidationError):
            Comparison.model_validate(values | {"transfer": values["transfer"] | wrong})
    schema = Comparison.model_json_schema()
    assert (
        set(schema["required"])
        == {"ship", "shipped", "intervals", "measured", "use", "luck", "chance", "without_leaks", "warnings"}
        and schema["$defs"]["Verdict"]["required"]
    )


def test_the_looks_of_a_plan_share_the_error():
    assert verdicts.share([], 4) == 1 == verdicts.share([4], 4)
    parts = [verdicts.share([3, 5, 8, 12], num) for num in (3, 5, 8, 12)]
    assert parts == [3 / 12, 2 / 12, 3 / 12, 4 / 12]


def test_a_look_of_a_plan_is_stricter_and_its_interval_agrees_with_it():
    """What is shown at once is not shown at the second of four looks, which has a sixth of the error."""
    random = np.random.default_rng(6)
    found = next(each for each in iter(lambda: paired(random, 300, 0.76, 0.7), None) if 0.01 < verdicts.p_difference(each) < 0.05)
    (once,) = judged({"": found}, num_seeds=5).values()
    (look,) = judged({"": found}, num_seeds=5, looks=[3, 5, 8, 12]).values()
    assert (once.verdict, look.verdict) == ("helps", "no difference shown")
    assert look.lower < 0 < once.lower and look.p == pytest.approx(min(1, 6 * once.p))
    last = judged({"": found}, num_seeds=12, looks=[3, 5, 8, 12])[""]
    assert last.p == pytest.approx(3 * once.p) and last.lower > look.lower


def test_equal_arms_are_seldom_told_apart_however_often_one_looks():
    """Seeds are all that differs, which is where looking again errs most: each look by itself claims far too much."""
    random, plan, wrong = np.random.default_rng(0), [3, 5, 8, 12], {"planned": 0, "alone": 0}
    for _ in range(200):
        labels = random.integers(2, size=1000)
        rates = 0.8 + 0.03 * random.normal(size=(2, 12, 1))
        sure = np.where((random.random((2, 12, 1000)) < rates) == labels, 0.9, 0.1)
        one, other = np.stack([1 - sure, sure], axis=-1)
        looks = {num: pairing.paired(ACCURACY, one[:num], other[:num], labels, None, **HOW) for num in plan}
        for name, planned in (("planned", plan), ("alone", [])):
            words = [judged({"": each}, num_seeds=num, looks=planned)[""].verdict for num, each in looks.items()]
            wrong[name] += bool({"helps", "hurts"} & set(words))
    assert wrong["planned"] / 200 <= 0.08 and wrong["alone"] / 200 > 0.08


def test_luck_is_of_single_models_over_the_same_tests():
    """Two models of accuracy 0.8 that are right for the same examples or not, and a constant one, which has no luck."""
    random = np.random.default_rng(0)
    (one, other), labels = arms(random, 400, 0.8, 0.8, shared=0.7)
    _, samples = pairing.resampled(ACCURACY, np.concatenate([one, other, one]), labels, None, **HOW)
    right = [(each[0].argmax(1) == labels).astype(float) for each in (one, other)]
    found = verdicts.luck(list(samples.T))
    assert found["standard_error"] == pytest.approx(np.sqrt(0.8 * 0.2 / 400), rel=0.12)
    assert found["correlation"] == pytest.approx((1 + 2 * np.corrcoef(right)[0, 1]) / 3, abs=0.05)
