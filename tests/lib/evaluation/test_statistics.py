"""The intervals against simulated truths."""

import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from stages.lib.errors import UserError
from stages.lib.evaluation import pairing, statistics
from stages.lib.tasks.classify import metrics
from stages.lib.tasks.classify.measures import METRICS

ACCURACY = METRICS["accuracy"]


def test_resamples_draw_as_many_examples_and_all_equally_often():
    weights = np.concatenate(list(statistics.resample(50, None, 4000, 0)))
    assert weights.shape == (4000, 50)
    assert (weights.sum(1) == 50).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.08)
    assert weights.var() == pytest.approx(1 - 1 / 50, abs=0.03)
    np.testing.assert_array_equal(weights, np.concatenate(list(statistics.resample(50, None, 4000, 0))))
    assert (weights != np.concatenate(list(statistics.resample(50, None, 4000, 1)))).any()


def test_groups_are_drawn_whole():
    groups = np.array(["b", "a", "b", "c", "c", "c"])
    weights = np.concatenate(list(statistics.resample(6, groups, 500, 0)))
    for name in "abc":
        inside = weights[:, groups == name]
        assert (inside == inside[:, :1]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all(), "three groups are drawn"


def test_one_group_gives_no_interval():
    with pytest.raises(UserError, match="one group only"):
        next(statistics.resample(4, np.array(["a"] * 4), 10, 0))


def test_memory_stays_small_whatever_the_test(monkeypatch):
    monkeypatch.setattr(statistics, "CHUNK", 50_000)  # a small test in many chunks, as a large one is with the real value
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(20), 2000), random.integers(20, size=2000)
    tracemalloc.start()
    _, samples = statistics.bootstrap(
        lambda weights: {"": metrics.auroc(probabilities, labels, weights)}, None, num_examples=2000, num_resamples=500, seed=0
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples[""].shape == (500,)
    assert peak < 10 * 8 * 50_000  # all resamples at once would be 20 times a chunk


@pytest.mark.parametrize(("num_examples", "num_resamples"), [(30, 20_000), (10_000, 450), (statistics.CHUNK + 1, 2)])
def test_resamples_come_in_chunks_of_bounded_size(num_examples, num_resamples):
    sizes = [chunk.shape for chunk in statistics.resample(num_examples, None, num_resamples, 0)]
    assert sum(rows for rows, _ in sizes) == num_resamples
    assert all(rows == 1 or rows * num <= statistics.CHUNK for rows, num in sizes)
    assert len(sizes) <= 1 + 2 * num_examples * num_resamples // statistics.CHUNK, "no smaller than they need be"


def test_chunks_do_not_change_what_is_measured(monkeypatch):
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(3), 100), random.integers(3, size=100)

    def run():
        return statistics.bootstrap(
            lambda weights: {"": metrics.macro_f1(probabilities, labels, weights)},
            None,
            num_examples=100,
            num_resamples=50,
            seed=0,
        )[1][""]

    whole = run()
    monkeypatch.setattr(statistics, "CHUNK", 700)
    np.testing.assert_allclose(run(), whole, atol=1e-12)


def two_class(correct, random):
    """Probabilities and labels of a model that is right where `correct` says, with some confidence."""
    labels = random.integers(2, size=correct.shape[-1])
    confidence = random.uniform(0.55, 0.95, correct.shape)
    predicted = np.where(correct, labels, 1 - labels)
    of_one = np.where(predicted == 1, confidence, 1 - confidence)
    return np.stack([1 - of_one, of_one], axis=-1), labels


def bounds(metric, probabilities, labels, groups=None, seed=0, num_resamples=400):
    _, samples = statistics.bootstrap(
        lambda weights: {"": metric(probabilities, labels, weights)}, groups,
        num_examples=len(labels), num_resamples=num_resamples, seed=seed,
    )  # fmt: skip
    return statistics.interval(samples[""], 0.95)


@pytest.mark.parametrize("name", METRICS)
def test_intervals_hold_the_truth_about_as_often_as_they_say(name):
    """Scores of class 1 and class 0 are normal, 1.5 apart, so that every truth is known from one huge test."""
    random = np.random.default_rng(1)

    def test(num):
        labels = (random.random(num) < 0.3).astype(int)
        of_one = 1 / (1 + np.exp(-(random.normal(size=num) + 1.5 * labels - 0.75)))
        return np.stack([1 - of_one, of_one], 1), labels

    metric = METRICS[name].values
    truth = metric(*(huge := test(400_000)), np.ones((1, len(huge[1]))))[0]
    held = 0
    for seed in range(300):
        lower, upper = bounds(metric, *test(200), seed=seed, num_resamples=300)
        held += lower <= truth <= upper
    assert 0.90 <= held / 300 <= 0.985


def test_ece_intervals_are_corrected_for_its_bias():
    """The model is overconfident (true ECE about 0.04); the percentile interval of 400 examples mostly misses that."""
    random = np.random.default_rng(0)

    def test(num):
        score = random.normal(0, 2, num)
        of_one = 1 / (1 + np.exp(-1.3 * score))
        return np.stack([1 - of_one, of_one], 1), (random.random(num) < 1 / (1 + np.exp(-score))).astype(int)

    truth = metrics.ece(*(huge := test(1_000_000)), np.ones((1, len(huge[1]))), 15)[0]
    held, naive = 0, 0
    for seed in range(100):
        probabilities, labels = test(400)
        values, samples = statistics.bootstrap(
            lambda weights, p=probabilities, y=labels: {"": metrics.ece(p, y, weights, 15)}, None,
            num_examples=400, num_resamples=200, seed=seed,
        )  # fmt: skip
        lower, upper = statistics.bias_corrected_interval(values[""], samples[""], 0.95)
        assert 0 <= lower <= values[""] <= upper
        held += lower <= truth <= upper
        low, high = statistics.interval(samples[""], 0.95)
        naive += low <= truth <= high
    assert held >= 80 > 65 >= naive


def test_a_metric_that_no_resample_knows_has_no_interval():
    samples = np.stack([np.arange(100.0), np.full(100, np.nan)], axis=1)
    samples[:50, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower, upper = statistics.interval(samples, 0.9)
    assert (lower[0], upper[0]) == pytest.approx((52.45, 96.55))
    assert np.isnan([lower[1], upper[1]]).all()


def test_where_groups_are_alike_their_intervals_are_wider_and_hold():
    """20 images in each of 40 groups that are mostly right or wrong together: the truth is 0.8."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 20)
    held, held_naive, widths = 0, 0, []
    for seed in range(150):
        rate = random.beta(1.6, 0.4, 40)
        probabilities, labels = two_class(random.random(800) < rate[groups], random)
        both = [bounds(metrics.accuracy, probabilities, labels, g, seed, 200) for g in (groups, None)]
        held += both[0][0] <= 0.8 <= both[0][1]
        held_naive += both[1][0] <= 0.8 <= both[1][1]
        widths.append((both[0][1] - both[0][0]) / (both[1][1] - both[1][0]))
    assert min(widths) > 1.5
    assert held / 150 >= 0.87
    assert held_naive / 150 <= 0.6


# The paired comparison.

SETTINGS = {"num_resamples": 400, "confidence": 0.95, "seed": 0}


def two_arms(first, second, random, num=400, num_seeds=1, seed_sd=0.0):
    """Two arms with given skill on the same images, of which some are hard for both; returns both (S, N, 2) and labels."""
    hard = random.normal(0, 1.5, num)
    skill = np.array([first, second])[:, None, None] + random.normal(0, seed_sd, (2, num_seeds, 1))
    correct = skill - hard + random.normal(0, 0.5, (2, num_seeds, num)) > 0
    probabilities, labels = two_class(correct, random)
    return probabilities[0], probabilities[1], labels


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_planted_effects_are_found_and_named(name, num_seeds):
    metric, random = METRICS[name], np.random.default_rng(0)
    better, worse, labels = two_arms(2.2, 1.4, random, num_seeds=num_seeds)
    won = pairing.paired_difference(metric, better, worse, labels, None, **SETTINGS)
    assert won["verdict"] == "helps" and 0 < won["lower"] < won["difference"] < won["upper"]
    ones = np.ones((1, len(labels)))
    each = [metric.values(a, labels, ones)[0] - metric.values(b, labels, ones)[0] for a, b in zip(better, worse, strict=True)]
    assert won["difference"] == pytest.approx(np.mean(each))

    lost = pairing.paired_difference(metric, worse, better, labels, None, **SETTINGS)
    assert lost["verdict"] == "hurts"
    assert [lost["difference"], lost["lower"], lost["upper"]] == pytest.approx([-won["difference"], -won["upper"], -won["lower"]])

    same = pairing.paired_difference(metric, better, better, labels, None, **SETTINGS)
    assert same == {"difference": 0, "lower": 0, "upper": 0, "verdict": "no difference shown"}


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_where_lower_is_better_less_helps_and_more_hurts(num_seeds):
    errors = replace(ACCURACY, values=lambda *given: 1 - ACCURACY.values(*given), higher_is_better=False)
    better, worse, labels = two_arms(2.2, 1.4, np.random.default_rng(0), num_seeds=num_seeds)
    won = pairing.paired_difference(errors, better, worse, labels, None, **SETTINGS)
    assert won["verdict"] == "helps" and won["lower"] < won["difference"] < won["upper"] < 0
    lost = pairing.paired_difference(errors, worse, better, labels, None, **SETTINGS)
    assert lost["verdict"] == "hurts" and 0 < lost["lower"] < lost["difference"] < lost["upper"]
    assert pairing.paired_difference(errors, better, better, labels, None, **SETTINGS)["verdict"] == "no difference shown"

    of_accuracy = pairing.paired_difference(ACCURACY, better, worse, labels, None, **SETTINGS)
    ends = [of_accuracy[key] for key in ("difference", "upper", "lower")]
    assert [won[key] for key in ("difference", "lower", "upper")] == pytest.approx([-end for end in ends])


@pytest.mark.parametrize(("num", "verdict"), [(1, "no difference shown"), (5, "no difference shown"), (6, "helps")])
def test_a_handful_of_images_decides_nothing(num, verdict):
    """Resampling alone would be sure of 4: none of them is drawn in 2 % of the samples. The sign test has p = 1/8."""
    random = np.random.default_rng(0)
    correct = np.ones((2, 1, 200), dtype=bool)
    correct[1, :, :num] = False
    (better, worse), labels = two_class(correct, random)
    found = pairing.paired_difference(ACCURACY, better, worse, labels, None, **SETTINGS)
    assert found["verdict"] == verdict
    groups = np.arange(200).astype(str)
    groups[:num] = "one"  # whatever they all say is one observation
    assert pairing.paired_difference(ACCURACY, better, worse, labels, groups, **SETTINGS)["verdict"] == "no difference shown"


def test_pairing_narrows_the_interval():
    better, worse, labels = two_arms(1.9, 1.5, np.random.default_rng(0))
    paired = pairing.paired_difference(ACCURACY, better, worse, labels, None, **SETTINGS)
    singles = [pairing.mean_over_seeds(ACCURACY, arm, labels, None, **SETTINGS) for arm in (better, worse)]
    unpaired = np.hypot(*[each["upper"] - each["lower"] for each in singles])
    assert paired["upper"] - paired["lower"] < 0.8 * unpaired


@pytest.mark.parametrize(("num_seeds", "seed_sd", "most"), [(1, 0.0, 0.085), (5, 0.15, 0.085), (3, 0.15, 0.10)])
def test_equal_arms_are_seldom_told_apart(num_seeds, seed_sd, most):
    """About 5 in 100 with one seed and no other chance; with several seeds that differ, hardly more."""
    random = np.random.default_rng(0)
    verdicts = []
    for seed in range(300):
        first, second, labels = two_arms(1.8, 1.8, random, num_seeds=num_seeds, seed_sd=seed_sd)
        settings = SETTINGS | {"seed": seed, "num_resamples": 300}
        verdicts.append(pairing.paired_difference(ACCURACY, first, second, labels, None, **settings)["verdict"])
    wrong = 1 - verdicts.count("no difference shown") / 300
    assert wrong <= most
    if num_seeds == 1:
        assert wrong >= 0.02, "an interval that never excludes 0 would be too wide"


def test_seeds_that_disagree_widen_the_interval():
    random = np.random.default_rng(0)
    first, second, labels = two_arms(1.8, 1.8, random, num_seeds=4, num=2000)
    spread, _, _ = two_arms(1.8, 1.8, np.random.default_rng(0), num_seeds=4, num=2000, seed_sd=1.0)
    calm = pairing.paired_difference(ACCURACY, first, second, labels, None, **SETTINGS)
    wild = pairing.paired_difference(ACCURACY, spread, second, labels, None, **SETTINGS)
    assert wild["upper"] - wild["lower"] > 2 * (calm["upper"] - calm["lower"])


@pytest.mark.parametrize("rates", [(1, 0), (1, 0, 1, 1), (1, 1, 0, 0, 0, 1, 0, 1)])
def test_the_spread_of_seeds_is_not_underestimated(rates):
    """Seeds that are all right or all wrong: the images say nothing, and the mean of S seeds is as uncertain as Student says."""
    right = np.repeat(np.array(rates, bool)[:, None], 50, axis=1)
    arm, labels = two_class(right, np.random.default_rng(0))

    def measure(weights):
        return np.stack([metrics.accuracy(each, labels, weights) for each in arm], axis=1)

    value, samples = np.mean(rates), pairing.with_other_seeds(*pairing._resampled(measure, 50, None, 20_000, 0), 0)
    error = np.std(rates, ddof=1) / len(rates) ** 0.5
    for confidence in (0.5, 0.95):
        expected = value + error * np.array(student.interval(confidence, len(rates) - 1))
        np.testing.assert_allclose(statistics.interval(samples, confidence), expected, atol=0.05 * np.ptp(expected))


def test_what_seeds_and_images_do_to_each_other_counts_once():
    """Models that err anew in each training: the spread of the seeds on one test holds all of the variance of their mean."""
    random = np.random.default_rng(0)
    values, samples = [], []
    for _ in range(200):
        arm, labels = two_class(random.random((40, 400)) < 0.8, random)
        found, drawn = pairing.resampled_mean(ACCURACY, arm, labels, None, num_resamples=300, seed=0)
        values.append(found)
        samples.append(drawn.std())
    assert np.mean(samples) == pytest.approx(np.std(values), rel=0.15)


def test_seeds_that_are_all_that_differs_are_seldom_taken_for_a_difference():
    """Three seeds whose accuracies differ far more than 4,000 images can explain: a bootstrap of the seeds errs in 1 of 4."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        rates = np.clip(random.normal(0.7, 0.08, (2, 3, 1)), 0, 1)
        (first, second), labels = two_class(random.random((2, 3, 4000)) < rates, random)
        found = pairing.paired_difference(ACCURACY, first, second, labels, None, num_resamples=200, confidence=0.95, seed=0)
        wrong += found["verdict"] != "no difference shown"
    assert wrong / 200 <= 0.09


def test_groups_widen_the_paired_interval():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    lucky = random.random(20) < 0.5
    first, second = random.random(400) < np.where(lucky, 0.9, 0.6)[groups], random.random(400) < 0.7
    probabilities, labels = two_class(np.stack([first, second]), random)
    single, whole = (
        pairing.paired_difference(ACCURACY, probabilities[:1], probabilities[1:], labels, each, **SETTINGS)
        for each in (None, groups)
    )
    assert single["difference"] == whole["difference"]
    assert whole["upper"] - whole["lower"] > 1.2 * (single["upper"] - single["lower"])


def test_arms_with_different_seeds_are_refused():
    first, second, labels = two_arms(1.8, 1.8, np.random.default_rng(0), num_seeds=2)
    with pytest.raises(ValueError, match="zip"):
        pairing.paired_difference(ACCURACY, first, second[:1], labels, None, **SETTINGS)


def test_examples_without_a_group_are_drawn_singly():
    groups = np.array(["a"] * 5 + ["b"] * 5 + [""] * 90)
    weights = np.concatenate(list(statistics.resample(100, groups, 400, seed=0)))
    assert (weights[:, :5] == weights[:, :1]).all() and (weights[:, 5:10] == weights[:, 5:6]).all()
    singles = weights[:, 10:]
    assert np.unique(singles[0]).size > 1
    assert abs(np.corrcoef(singles[:, 0], singles[:, 1])[0, 1]) < 0.2


@pytest.mark.parametrize(("num", "of"), [(0, 30), (3, 30), (30, 30), (950, 1000)])
def test_the_interval_of_a_proportion_is_exact(num, of):
    hits = np.arange(of) < num
    found = statistics.proportion(hits, None, num_resamples=100, confidence=0.95, seed=0)
    exact = binomtest(num, of).proportion_ci(0.95, method="exact")
    assert list(found.values()) == pytest.approx([num / of, exact.low, exact.high], abs=1e-6)


def test_the_interval_of_a_proportion_is_wider_where_groups_are_alike():
    groups = np.repeat([f"patient {number}" for number in range(20)], 10)
    hits = np.repeat(np.arange(20) < 12, 10)
    how = {"num_resamples": 2000, "confidence": 0.95, "seed": 0}
    alone, alike = statistics.proportion(hits, None, **how), statistics.proportion(hits, groups, **how)
    assert alone["value"] == alike["value"] == 0.6
    assert alike["upper"] - alike["lower"] > 2.5 * (alone["upper"] - alone["lower"]), "about the root of 10 times"
