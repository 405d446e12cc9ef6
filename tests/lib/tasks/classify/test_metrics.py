"""The metrics against scikit-learn on the resampled examples themselves, and against plain loops."""

import numpy as np
import pytest
from sklearn import metrics as sk

from stages.lib.core.plugins import load
from stages.lib.evaluation import statistics
from stages.lib.tasks.classify import metrics
from stages.lib.tasks.classify.measures import METRICS

pytestmark = pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")


def case(seed):
    """A random small test: 2 to 6 classes, sometimes few distinct scores (ties), sometimes a class that is not there."""
    random = np.random.default_rng(seed)
    num, num_classes = int(random.integers(4, 60)), int(random.integers(2, 7))
    probabilities = random.dirichlet(np.ones(num_classes), num)
    if seed % 3 == 0:
        probabilities = np.round(probabilities * 4) / 4  # they need not add up to 1 here
    labels = random.integers(num_classes - (seed % 5 == 0 and num_classes > 2), size=num)
    weights = np.concatenate(list(statistics.resample(num, None, 6, seed)))
    return probabilities, labels, np.concatenate([np.ones((1, num)), weights])


def repeated(probabilities, labels, row):
    """The examples of one resample, each as often as it was drawn."""
    index = np.repeat(np.arange(len(labels)), row.astype(int))
    return probabilities[index], labels[index]


def areas(probabilities, labels):
    return [sk.roc_auc_score(labels == index, probabilities[:, index]) if 0 < (labels == index).sum() < len(labels) else np.nan
            for index in range(probabilities.shape[1])]  # fmt: skip


REFERENCE = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda p, y: sk.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda p, y: sk.f1_score(y, p.argmax(1), average="macro"),
    "auroc": lambda p, y: areas(p, y)[1] if p.shape[1] == 2 else np.nanmean(areas(p, y)) if len(set(y)) > 1 else np.nan,
}


def test_every_metric_that_params_may_name_has_a_reference():
    assert list(load("tasks", "classify").METRICS) == list(METRICS) == list(REFERENCE)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_agree_with_sklearn_on_every_resample(name):
    for seed in range(50):
        probabilities, labels, weights = case(seed)
        given = METRICS[name].values(probabilities, labels, weights)
        expected = [REFERENCE[name](*repeated(probabilities, labels, row)) for row in weights]
        np.testing.assert_allclose(given, expected, atol=1e-12, err_msg=f"case {seed}")


def test_figures_of_each_class_agree_with_sklearn():
    missing = 0
    for seed in range(30):
        probabilities, labels, weights = case(seed)
        given = metrics.per_class(probabilities, labels, weights)
        given_areas = metrics.auroc_per_class(probabilities, labels, weights)
        for index, row in enumerate(weights):
            p, y = repeated(probabilities, labels, row)
            classes = np.arange(p.shape[1])
            expected = sk.precision_recall_fscore_support(y, p.argmax(1), labels=classes, zero_division=np.nan)
            for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
                np.testing.assert_allclose(given[name][index], values, atol=1e-12, err_msg=f"{name} in case {seed}")
            np.testing.assert_allclose(given_areas[index], areas(p, y), atol=1e-12)
            missing += np.isnan(expected[1]).sum()
        confusion = metrics.confusion(probabilities.argmax(1), labels, probabilities.shape[1])
        np.testing.assert_array_equal(confusion, sk.confusion_matrix(labels, probabilities.argmax(1), labels=classes))
    assert missing > 10, "absent classes were among the cases"


def ece_by_loops(probabilities, labels, num_bins):
    """As in the papers: bins (lower, upper], one after the other."""
    total, confidence = 0.0, probabilities.max(1)
    for index in range(num_bins):
        inside = (confidence > index / num_bins) & (confidence <= (index + 1) / num_bins)
        if inside.any():
            accuracy = (probabilities.argmax(1) == labels)[inside].mean()
            total += inside.mean() * abs(accuracy - confidence[inside].mean())
    return total


@pytest.mark.parametrize("num_bins", [2, 5, 15])
def test_ece_agrees_with_plain_loops(num_bins):
    for seed in range(40):
        probabilities, labels, weights = case(3 * seed + 1)  # confidences above 0, as softmax gives them
        expected = [ece_by_loops(*repeated(probabilities, labels, row), num_bins) for row in weights]
        np.testing.assert_allclose(metrics.ece(probabilities, labels, weights, num_bins), expected, atol=1e-12)
        bins = metrics.reliability(probabilities, labels, num_bins)
        gaps = np.nansum(bins["count"] * np.abs(bins["accuracy"] - bins["confidence"])) / len(labels)
        assert gaps == pytest.approx(expected[0])


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    of_one = np.array([0.5, 0.6, 0.75, 0.75, 0.8, 1.0])
    probabilities, labels = np.stack([1 - of_one, of_one], 1), np.array([0, 1, 0, 0, 1, 1])
    given = metrics.ece(probabilities, labels, np.ones((1, 6)), 4)
    assert given == pytest.approx(ece_by_loops(probabilities, labels, 4))
    assert metrics.reliability(probabilities, labels, 4)["count"].tolist() == [0, 1, 3, 2]


def test_ece_knows_its_ends():
    certain = np.array([[1.0, 0.0]] * 10)
    ones = np.ones((1, 10))
    assert metrics.ece(certain, np.zeros(10, int), ones, 15) == [0]
    assert metrics.ece(certain, np.ones(10, int), ones, 15) == [1]


def test_a_metric_sees_what_can_change_it():
    """Answers that differ in their probabilities alone are the same to all metrics but the area under the curve."""
    first = np.array([[[0.6, 0.4], [0.3, 0.7], [0.8, 0.2]]])
    second = np.array([[[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]])
    for name, metric in METRICS.items():
        assert metric.differ(first, second).tolist() == [[name == "auroc", False, True]], name


def test_readers_see_percent_and_points():
    metric = METRICS["balanced_accuracy"]
    assert (metric.text(0.8125), metric.change(-0.031)) == ("81.2 %", "-3.1")
    assert metric.unit("balanced_accuracy") == "points of balanced accuracy"
