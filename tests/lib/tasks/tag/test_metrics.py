"""The metrics against nervaluate and seqeval, on the resampled texts themselves."""

import numpy as np
import pytest
from nervaluate import Evaluator
from seqeval import metrics as seqeval

from stages.lib.core.plugins import load
from stages.lib.evaluation import statistics
from stages.lib.tasks.tag import entities, metrics
from stages.lib.tasks.tag.measures import METRICS
from tests.lib.tasks.tag.cases import case

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:.*seems not to be NE tag")
SCORES = {"entity_f1": "f1", "entity_precision": "precision", "entity_recall": "recall"}


def strict(actual, predicted, names):
    """nervaluate's strict scores, of all entities and of each type."""
    found = Evaluator(actual, predicted, [name[2:] for name in names[1::2]], loader="list").evaluate()
    return found["overall"]["strict"], {name: each["strict"] for name, each in found["entities"].items()}


def values(name, each, weights):
    return METRICS[name].values(each.predictions.astype(np.float64), each.targets, weights)


def resampled(each, seed):
    """Weights of the texts themselves and of 2 resamples, and the texts of each as often as they were drawn."""
    weights = np.concatenate([np.ones((1, len(each.targets))), *statistics.resample(len(each.targets), None, 2, seed)])
    actual, predicted = each.actual, each.predicted
    rows = [np.repeat(np.arange(len(actual)), row.astype(int)) for row in weights]
    return weights, [([actual[i] for i in row], [predicted[i] for i in row]) for row in rows]


def test_every_metric_that_params_may_name_is_there():
    assert load("tasks", "tag").METRICS == tuple(METRICS) == (*SCORES, "token_accuracy")


def test_entity_scores_are_those_of_nervaluate_and_of_seqeval():
    between = 0
    for seed in range(220):
        each = case(seed)
        weights, copies = resampled(each, seed)
        for name, score in SCORES.items():
            ours = values(name, each, weights)
            np.testing.assert_allclose(ours, [getattr(strict(*copy, each.names)[0], score) for copy in copies], atol=1e-12)
            theirs = [getattr(seqeval, f"{score}_score")(*copy, zero_division=0) for copy in copies]
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
            between += ((ours > 0.05) & (ours < 0.95)).sum()
    assert between > 400


def test_token_accuracy_counts_words():
    for seed in range(50):
        each = case(seed)
        weights, copies = resampled(each, seed)
        flat = [([tag for text in texts for tag in text] for texts in copy) for copy in copies]
        expected = [np.mean([a == b for a, b in zip(*pair, strict=True)]) for pair in flat]
        np.testing.assert_allclose(values("token_accuracy", each, weights), expected, atol=1e-12)


def test_scores_of_each_type_are_those_of_nervaluate():
    compared = 0
    for seed in range(60):
        each = case(seed, num=30)
        num_types = len(each.names) // 2
        counts = entities.counts(metrics.tags(each.predictions, each.targets), each.targets, num_types).sum(0)
        ours, theirs = metrics.scores(counts), strict(each.actual, each.predicted, each.names)[1]
        for index, name in enumerate(each.names[1::2]):
            if name[2:] in theirs:
                expected = theirs[name[2:]]
                assert counts[index].tolist() == [expected.correct, expected.actual, expected.possible]
                for score in SCORES.values():
                    assert ours[score][index] == pytest.approx(getattr(expected, score), abs=1e-12)
                    compared += 1
            else:
                assert all(np.isnan(ours[score][index]) for score in SCORES.values())
    assert compared > 300


def test_without_entities_scores_are_0_and_those_of_a_type_are_unknown():
    nothing, words = np.zeros((2, 3, 2)), np.zeros((2, 3), dtype=np.int64)
    for name in SCORES:
        assert METRICS[name].values(nothing, words, np.ones((1, 2))) == [0]
    assert METRICS["token_accuracy"].values(nothing, words, np.ones((1, 2))) == [1]
    scores = metrics.scores(np.array([[0, 0, 0], [0, 2, 0], [0, 0, 2]]))
    np.testing.assert_array_equal(scores["precision"], [np.nan, 0, 0])
    np.testing.assert_array_equal(scores["recall"], [np.nan, 0, 0])
    np.testing.assert_array_equal(scores["f1"], [np.nan, 0, 0])


def test_words_beyond_a_text_and_probabilities_change_nothing_and_words_cut_off_are_o():
    each = case(3)
    alone = np.ones((1, len(each.targets)))
    wider = np.pad(each.predictions, ((0, 0), (0, 4), (0, 0)), constant_values=1)
    wider[..., 1] = 0.5
    as_o = np.where(each.predictions < 0, 0, each.predictions)
    for metric in METRICS.values():
        value = metric.values(each.predictions, each.targets, alone)
        assert metric.values(wider, each.targets, alone) == value == metric.values(as_o, each.targets, alone)
        differ = metric.differ(each.predictions[None], np.stack([wider[:, :-4], as_o]))
        assert not differ.any()


def test_a_metric_sees_the_texts_whose_tags_differ():
    first = np.zeros((3, 2, 2))
    second = first.copy()
    second[1, 0, 0], second[2, 1, 1] = 2, 0.7
    for metric in METRICS.values():
        assert metric.differ(first[None], second[None]).tolist() == [[False, True, False]]
