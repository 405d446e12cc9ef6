"""Scores of frozen features against scikit-learn, scipy and plain loops."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, ortho_group
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.lib.advice import probe, transferability
from stages.lib.advice.probe import answers, possible_folds, probe_accuracy
from stages.lib.advice.transferability import h_score, imbalance, knn_accuracy, logme


def blobs(num, width, num_classes, separation, seed):
    """Features of classes whose means lie about `separation` apart, in noise of 1, and their labels, all classes in turn."""
    random = np.random.default_rng(seed)
    labels = np.arange(num) % num_classes
    means = random.normal(size=(num_classes, width)) * separation / np.sqrt(2 * width)
    return means[labels] + random.normal(size=(num, width)), labels


# Nearest neighbours.


@pytest.mark.parametrize("k", [1, 4, 15])
def test_neighbours_are_those_of_scikit_learn_left_out_one_by_one(k):
    features, labels = blobs(70, 8, 3, 3.0, seed=0)
    features += 1.5  # so that similarities are positive
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda distance: (1 - distance).clip(0))
    expected = cross_val_predict(model, features, labels, cv=LeaveOneOut()) == labels
    assert 0.4 < expected.mean() < 1
    np.testing.assert_array_equal(knn_accuracy(features, labels, k=k), expected)


def by_hand(features, labels, k, groups):
    """The same rule in words of one example at a time."""
    directions = [row / np.linalg.norm(row) for row in features]
    correct = []
    for one, label in enumerate(labels):
        own = set() if groups is None or groups[one] == "" else {j for j in range(len(labels)) if groups[j] == groups[one]}
        similarity = {j: directions[one] @ directions[j] for j in range(len(labels)) if j not in own | {one}}
        votes = {}
        for j in sorted(similarity, key=lambda j: -similarity[j])[:k]:
            votes[labels[j]] = votes.get(labels[j], 0) + max(0, similarity[j])
        correct.append(bool(votes) and max(votes, key=votes.get) == label)
    return np.array(correct)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_neighbours_of_the_same_group_are_left_out(shift):
    features, labels = blobs(60, 5, 2, 1.0, seed=1)
    features += shift
    groups = np.array([f"patient {index // 6}" for index in range(54)] + [""] * 6)
    features += np.random.default_rng(2).normal(size=(11, 5))[np.arange(60) // 6] * 3  # patients resemble themselves
    labels = np.where(np.arange(60) < 54, (np.arange(60) // 6) % 2, labels)  # and have one diagnosis each
    with_groups = knn_accuracy(features, labels, k=5, groups=groups)
    np.testing.assert_array_equal(with_groups, by_hand(features, labels, 5, groups))
    np.testing.assert_array_equal(knn_accuracy(features, labels, k=5), by_hand(features, labels, 5, None))
    assert with_groups.mean() < knn_accuracy(features, labels, k=5).mean() - 0.2


def test_groups_that_leave_no_neighbour_make_wrong():
    features, labels = blobs(6, 3, 2, 1.0, seed=0)
    assert not knn_accuracy(features, labels, k=3, groups=np.array(["a"] * 6)).any()
    alone = knn_accuracy(features, np.zeros(6, int), k=3, groups=np.array(["a"] * 5 + ["b"]))
    assert alone.all(), "each has a neighbour in the other group, of the only class there is"


def test_ties_go_to_the_nearest_and_then_to_the_first():
    angles = np.radians([0, 10, -20, 60, -60])
    features, labels = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([7, 7, 3, 3, 7])
    assert knn_accuracy(features, labels, k=2)[0], "one vote each; 10 degrees are nearer than 20, and weigh more"
    same = np.ones((4, 3))
    np.testing.assert_array_equal(knn_accuracy(same, np.array([5, 2, 2, 5]), k=2), [False, False, False, True])
    many = np.array([5, 5, *np.random.default_rng(0).integers(6, size=700)])
    np.testing.assert_array_equal(knn_accuracy(np.ones((702, 3)), many, k=1)[1:], many[1:] == 5)


def test_a_vote_weighs_its_similarity():
    angles = np.radians([0, 5, 80, 85])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert knn_accuracy(features, np.array([0, 0, 1, 1]), k=3)[0], "0.996 against 0.17 + 0.09"


def test_a_row_of_zeros_and_more_neighbours_than_there_are_do_no_harm():
    features, labels = blobs(9, 4, 3, 8.0, seed=0)
    features[4] = 0
    correct = knn_accuracy(features, labels, k=100)
    assert correct.dtype == bool and correct.shape == (9,)
    np.testing.assert_array_equal(
        knn_accuracy(features, labels, k=2), knn_accuracy(features * np.arange(1, 10)[:, None], labels, k=2)
    )


def test_a_class_of_one_example_is_wrong_for_its_neighbours():
    features, labels = blobs(20, 4, 2, 10.0, seed=0)
    labels[3] = 9
    assert not knn_accuracy(features, labels, k=1)[3]


def test_pieces_of_rows_make_no_difference(monkeypatch):
    features, labels = blobs(50, 6, 4, 2.0, seed=3)
    groups = np.array([str(index // 4) for index in range(50)])
    whole = knn_accuracy(features, labels, k=5, groups=groups)
    monkeypatch.setattr(transferability, "ROWS", 7)
    np.testing.assert_array_equal(knn_accuracy(features, labels, k=5, groups=groups), whole)


# The linear probe.


@pytest.mark.parametrize(("num", "width"), [(60, 5), (40, 120)])
def test_the_probe_is_that_of_scikit_learn(num, width):
    features, labels = blobs(num, width, 3, 2.0, seed=0)
    features[:, 1] = 3.0  # a constant column
    model = make_pipeline(StandardScaler(), LogisticRegression(C=probe.PROBE_C, solver="newton-cg", tol=1e-8))
    parts = StratifiedKFold(4, shuffle=True, random_state=5)
    expected = cross_val_predict(model, features, labels, cv=parts) == labels
    assert 0.3 < expected.mean() < 1
    np.testing.assert_array_equal(probe_accuracy(features, labels, folds=4, seed=5), expected)


def test_the_probe_answers_for_others_as_scikit_learn_does():
    features, labels = blobs(80, 6, 3, 2.0, seed=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=probe.PROBE_C, solver="newton-cg", tol=1e-8))
    expected = model.fit(features[:50], labels[:50]).predict(features[50:])
    assert 0.3 < (expected == labels[50:]).mean() < 1
    np.testing.assert_array_equal(answers(features[:50], labels[:50], features[50:]), expected)
    assert answers(features[:5], np.full(5, 7), features[50:53]).tolist() == [7, 7, 7], "nothing to tell apart"


def test_small_classes_reduce_the_folds_and_single_examples_are_wrong():
    features, labels = blobs(30, 6, 2, 12.0, seed=0)
    labels[:3], labels[3] = 5, 8
    features[:3] += 20
    assert [possible_folds(labels, folds) for folds in (2, 3, 10)] == [2, 3, 3]
    correct = probe_accuracy(features, labels, folds=10, seed=0)
    assert not correct[3] and correct[:3].all() and correct[4:].mean() > 0.9
    assert not probe_accuracy(features, np.arange(30), folds=5, seed=0).any(), "no class can be learned"
    assert probe_accuracy(features, np.array([0] * 29 + [1]), folds=5, seed=0).sum() == 29, "nothing to tell apart"
    assert possible_folds(np.array([0, 0, 0, 0, 1, 1]), 4) == 2


def test_the_probe_repeats_itself_and_its_seed_decides_the_parts():
    features, labels = blobs(60, 20, 3, 1.5, seed=0)
    runs = [probe_accuracy(features, labels, folds=3, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


# LogME.


def evidence(features, target, alpha, beta):
    """log p(y | F, alpha, beta): y is normal, with the covariance of the noise and of what the prior says of F w."""
    covariance = np.eye(len(target)) / beta + features @ features.T / alpha
    size = np.linalg.slogdet(covariance).logabsdet
    return -0.5 * (target @ np.linalg.solve(covariance, target) + size + len(target) * np.log(2 * np.pi))


def brute_force(features, labels):
    """The highest evidence that a search from many places finds."""
    scale = np.linalg.norm(features) ** 2 / len(labels)
    best = []
    for kind in np.unique(labels):
        target = (labels == kind).astype(float)
        found = [
            minimize(lambda logs, t=target: -evidence(features, t, *np.exp(logs)), [np.log(scale) + shift, start],
                     method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000},
                     bounds=[(np.log(scale) - 25, np.log(scale) + 25), (-5, 20)]).fun
            for shift in (-15, -9, -3, 3, 9) for start in (1.0, 5.0)
        ]  # fmt: skip
        best.append(-min(found) / len(labels))
    return np.mean(best)


@pytest.mark.parametrize(("num", "width", "separation"), [(30, 4, 3.0), (30, 4, 0.5), (15, 40, 4.0), (12, 12, 2.0), (25, 1, 2.0)])
def test_logme_is_the_maximum_of_the_evidence(num, width, separation):
    features, labels = blobs(num, width, 3, separation, seed=0)
    assert logme(features + 0.3, labels) == pytest.approx(brute_force(features + 0.3, labels), abs=2e-5)


def test_logme_finds_the_highest_of_several_maxima():
    """One column in 1000 times smaller units tells the classes apart; the iteration from alpha = beta = 1 ends near -1.07."""
    random = np.random.default_rng(3)
    labels = np.arange(40) % 2
    features = random.normal(size=(40, 4))
    features[:, 0] = (labels + 0.02 * random.normal(size=40)) / 1000
    found = logme(features, labels)
    assert found == pytest.approx(brute_force(features, labels), abs=2e-5)
    assert found > 0.2


def test_logme_knows_constant_columns_and_exact_labels():
    features, labels = blobs(20, 3, 2, 2.0, seed=0)
    assert logme(np.c_[features, np.zeros((20, 5))], labels) == pytest.approx(logme(features, labels), abs=1e-10)
    assert logme(np.zeros((20, 3)), labels) == pytest.approx(0.5 * (np.log(20 / 10) - np.log(2 * np.pi) - 1))
    exact = logme(np.eye(2)[labels], labels)
    assert 5 < exact < 20, "finite, and above all that is not exact"


# H-score.


def test_h_score_is_the_plain_one_for_many_examples():
    features, labels = blobs(100_000, 4, 3, 2.0, seed=0)
    labels = np.where(np.arange(100_000) % 5 == 0, 1, labels)  # unequal classes
    features = features @ np.array([[1, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 0.3, 0], [0, 0, 1, 1]])
    means = np.stack([features[labels == kind].mean(0) for kind in range(3)])[labels]
    plain = np.trace(np.linalg.inv(np.cov(features.T)) @ np.cov(means.T))
    assert h_score(features, labels) == pytest.approx(plain, rel=2e-3)


@pytest.mark.parametrize(("num", "width"), [(40, 6), (20, 90)])
def test_h_score_is_that_of_the_shrunk_covariance(num, width):
    features, labels = blobs(num, width, 4, 4.0, seed=1)
    features[:, 2] = 7.0  # a constant column
    shrunk = LedoitWolf().fit(features)
    means = np.stack([features[labels == kind].mean(0) for kind in range(4)])[labels]
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.solve(shrunk.covariance_, np.cov(means.T, bias=True)))
    assert 0 < shrunk.shrinkage_ < 1
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_h_score_stays_in_its_range():
    features, labels = blobs(30, 200, 3, 1000.0, seed=0)
    assert 1.9 < h_score(features, labels) <= 2
    assert h_score(np.full((30, 4), 0.1), labels) == 0
    assert h_score(features, np.zeros(30, int)) == pytest.approx(0, abs=1e-12)
    noise = blobs(30, 200, 3, 0.0, seed=0)[0]
    assert h_score(noise, labels) < 1, "without shrinkage any features with D > N would have 2"


# What all scores share.

SCORES = {
    "knn": lambda features, labels: knn_accuracy(features, labels, k=5).mean(),
    "probe": lambda features, labels: probe_accuracy(features, labels, folds=3, seed=0).mean(),
    "logme": logme,
    "h_score": h_score,
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("width", [6, 150])
def test_better_separated_features_score_higher(name, width):
    values = [SCORES[name](*blobs(90, width, 3, separation, seed=0)) for separation in (0.0, 3.0, 12.0)]
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("name", ["knn", "logme", "h_score"])
@pytest.mark.parametrize("width", [6, 70])
def test_rotation_scale_and_order_change_nothing(name, width):
    features, labels = blobs(50, width, 3, 2.0, seed=0)
    value = SCORES[name](features, labels)
    turned = features @ ortho_group.rvs(width, random_state=0)
    order = np.random.default_rng(0).permutation(50)
    assert SCORES[name](turned, labels) == pytest.approx(value, abs=1e-7)
    assert SCORES[name](1e-3 * features, labels) == pytest.approx(value, abs=1e-7)
    assert SCORES[name](features[order], labels[order]) == pytest.approx(value, abs=1e-7)
    assert SCORES[name](features, 10 - 3 * labels) == pytest.approx(value, abs=1e-7)


def test_shift_changes_nothing_for_the_h_score():
    features, labels = blobs(50, 20, 3, 2.0, seed=0)
    assert h_score(features + 30, labels) == pytest.approx(h_score(features, labels), abs=1e-8)


@pytest.mark.parametrize("name", ["knn", "probe"])
def test_shuffled_labels_give_chance(name):
    features, labels = blobs(600, 10, 4, 6.0, seed=0)
    assert SCORES[name](features, labels) > 0.9
    shuffled = np.random.default_rng(1).permutation(labels)
    assert binom.ppf(0.001, 600, 0.25) <= 600 * SCORES[name](features, shuffled) <= binom.ppf(0.999, 600, 0.25)


@pytest.mark.parametrize("score", [*SCORES.values()])
def test_what_has_no_meaning_is_refused(score):
    features, labels = blobs(12, 3, 2, 1.0, seed=0)
    with pytest.raises(ValueError, match="not finite"):
        score(np.where(np.arange(36).reshape(12, 3) == 5, np.nan, features), labels)
    with pytest.raises(ValueError, match="as many labels"):
        score(features, labels[:-1])
    with pytest.raises(ValueError, match=r"must be \(N, D\)"):
        score(features[:, :, None], labels)


def test_knobs_out_of_range_are_refused():
    features, labels = blobs(12, 3, 2, 1.0, seed=0)
    with pytest.raises(ValueError, match="k must be"):
        knn_accuracy(features, labels, k=0)
    with pytest.raises(ValueError, match="folds must be"):
        probe_accuracy(features, labels, folds=1, seed=0)


# Labels.


def test_imbalance_counts_what_is_there():
    assert imbalance(np.repeat([4, 7], 10)) == {"num_classes": 2, "min": 10, "max": 10, "ratio": 1, "effective": pytest.approx(2)}
    uneven = imbalance(np.repeat([0, 1, 2], [8, 1, 1]))
    assert (uneven["min"], uneven["max"], uneven["ratio"]) == (1, 8, 8)
    assert uneven["effective"] == pytest.approx(0.8**-0.8 * 0.1**-0.2)
