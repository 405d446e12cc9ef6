"""MAP@R and Recall@1 equal pytorch-metric-learning's, and resamples are of those who ask."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from stages.lib.tasks.embed import retrieval

FUNCTIONS = (retrieval.map_at_r, retrieval.recall_at_1)
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
    whole = [figure(embeddings, who, weights) for figure in FUNCTIONS]
    monkeypatch.setattr(retrieval, "MOST", 500)
    parts = [figure(embeddings, who, weights) for figure in FUNCTIONS]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    np.testing.assert_allclose(whole, [[figure(embeddings, who, row[None])[0] for row in weights] for figure in FUNCTIONS])


@pytest.mark.parametrize(("figure", "index"), [(retrieval.map_at_r, 0), (retrieval.recall_at_1, 1)])
def test_a_picture_asks_as_often_as_it_was_drawn_and_all_others_are_there(figure, index):
    embeddings, who = case(1, strength=0.5)
    drawn = np.array([0, 2, 1, 3, 0, 1, 1, 0, 1])[who]
    asked = np.repeat(retrieval.each(embeddings, who)[index], drawn)
    assert figure(embeddings, who, drawn[None].astype(float)) == pytest.approx([asked.mean()])
    assert figure(embeddings, who, np.zeros((1, len(who)))) == pytest.approx([np.nan], nan_ok=True)


def test_the_only_picture_of_a_person_asks_for_nobody_and_stands_in_the_way():
    embeddings, who = np.array([[1, 0], [1, 0.2], [1, 0.1], [0, 1], [0.1, 1]]), np.array([0, 0, 1, 2, 2])
    for figure in (retrieval.map_at_r, retrieval.recall_at_1):
        assert figure(embeddings, who, np.ones((1, 5))) == pytest.approx([0.5])
        assert np.isnan(figure(embeddings, who, np.array([[0, 0, 1.0, 0, 0]])))


def test_equal_embeddings_are_worth_nothing():
    who = np.arange(12) // 3
    for embeddings in (np.ones((12, 4)), np.zeros((12, 4))):
        assert retrieval.map_at_r(embeddings, who, np.ones((1, 12))) == [0]
        assert retrieval.recall_at_1(embeddings, who, np.ones((1, 12))) == [0]
