"""MAP@R and Recall@1 equal pytorch-metric-learning's, and resamples are people."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from stages.lib.tasks.embed import retrieval

FIGURES = ("mean_average_precision_at_r", "precision_at_1")


def case(seed, num=60, people=9, dim=6, strength=1.0):
    """Random embeddings around a direction for each person, of whom some have two pictures and others many."""
    random = np.random.default_rng(seed)
    who = np.concatenate([np.arange(people).repeat(2), random.integers(people, size=num - 2 * people)])
    return strength * random.normal(size=(people, dim))[who] + random.normal(size=(num, dim)), who


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strength", [0, 0.7, 2])
def test_they_are_those_of_the_field(seed, strength):
    embeddings, who = case(seed, strength=strength)
    calculator = AccuracyCalculator(include=FIGURES, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))
    expected = calculator.get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(who))
    once = np.ones((1, len(who)))
    found = retrieval.map_at_r(embeddings, who, once), retrieval.recall_at_1(embeddings, who, once)
    assert found == pytest.approx([expected[name] for name in FIGURES], abs=1e-9)
    assert retrieval.each(embeddings, who).mean(1) == pytest.approx([expected[name] for name in FIGURES], abs=1e-9)


def test_a_large_test_is_measured_in_parts(monkeypatch):
    embeddings, who = case(0)
    weights = np.random.default_rng(0).integers(0, 3, (7, len(who))).astype(float)
    whole = [figure(embeddings, who, weights) for figure in (retrieval.map_at_r, retrieval.recall_at_1)]
    monkeypatch.setattr(retrieval, "MOST", 2_000)
    parts = [figure(embeddings, who, weights) for figure in (retrieval.map_at_r, retrieval.recall_at_1)]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize("figure", [retrieval.map_at_r, retrieval.recall_at_1])
def test_who_was_not_drawn_is_not_there(figure):
    embeddings, who = case(1, strength=0.5)
    there = np.isin(who, [0, 2, 3, 7])
    (found,) = figure(embeddings, who, there[None].astype(float))
    people = np.unique(who[there], return_inverse=True)[1]
    assert found == pytest.approx(figure(embeddings[there], people, np.ones((1, there.sum())))[0])
    assert figure(embeddings, who, np.zeros((1, len(who)))) == pytest.approx([np.nan], nan_ok=True)


def test_who_was_drawn_twice_asks_twice_and_stands_in_the_way_twice():
    """Each person drawn twice becomes two people, whose copies of a picture never meet."""
    embeddings, who = case(2, num=24, people=4, strength=0.5)
    drawn = np.array([2, 1, 0, 2])
    copies = [(row, copy) for row in range(len(who)) for copy in range(drawn[who[row]])]
    precision, hits = [], []
    for row, copy in copies:
        others = [(other, c) for other, c in copies if (who[other] == who[row] and c == copy) or who[other] != who[row]]
        rows = [other for other, _ in others]
        near = retrieval.unit(embeddings)[rows] @ retrieval.unit(embeddings)[row]
        right = who[rows] == who[row]
        ranked = [right[place] for place in np.lexsort((right, -near)) if rows[place] != row]
        num = sum(ranked)
        precision.append(sum(sum(ranked[: k + 1]) / (k + 1) for k in range(num) if ranked[k]) / num)
        hits.append(ranked[0])
    weights = drawn[who][None].astype(float)
    assert retrieval.map_at_r(embeddings, who, weights) == pytest.approx([np.mean(precision)])
    assert retrieval.recall_at_1(embeddings, who, weights) == pytest.approx([np.mean(hits)])


def test_equal_embeddings_are_worth_nothing():
    who = np.arange(12) // 3
    for embeddings in (np.ones((12, 4)), np.zeros((12, 4))):
        assert retrieval.map_at_r(embeddings, who, np.ones((1, 12))) == [0]
        assert retrieval.recall_at_1(embeddings, who, np.ones((1, 12))) == [0]
