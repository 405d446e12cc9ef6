"""Each classifier against a slow loop or scikit-learn, one query after another."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from stages.lib.data import episodes
from stages.lib.tasks.few_shot import classifiers

LABELS = [f"{index:02}" for index in range(9) for _ in range(8)]


@pytest.fixture(scope="module")
def embeddings():
    random = np.random.default_rng(0)
    centres = random.normal(size=(9, 6))
    return (centres.repeat(8, axis=0) + random.normal(size=(72, 6))).astype(np.float32) * random.uniform(0.5, 2, (72, 1))


@pytest.fixture(scope="module", params=[(5, 1), (4, 3), (2, 5)])
def drawn(request):
    way, shot = request.param
    return episodes.draw(LABELS, (), way=[way], shots=[shot], queries=3, number=20, seed=0).part(way, shot)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def each(embeddings, drawn):
    """For every episode: support vectors and their classes, queries and their classes."""
    for support, queries in zip(*drawn, strict=True):
        known, asked = (np.arange(len(support)).repeat(rows.shape[1]) for rows in (support, queries))
        yield embeddings[support.ravel()], known, embeddings[queries.ravel()], asked


def predicted(name, embeddings, drawn):
    return classifiers.scores(name, embeddings, *drawn).argmax(2)


def test_cosine_prototypes(embeddings, drawn):
    found = classifiers.scores("cosine_prototypes", embeddings, *drawn)
    for scores, (support, known, queries, _) in zip(found, each(embeddings, drawn), strict=True):
        for query, own in zip(queries, scores, strict=True):
            prototypes = [unit(support[known == index]).mean(0) for index in range(len(own))]
            expected = [query @ each / np.linalg.norm(query) / np.linalg.norm(each) for each in prototypes]
            assert own == pytest.approx(expected, abs=1e-5)


def test_euclidean_prototypes_are_the_nearest_centroid(embeddings, drawn):
    found = predicted("euclidean_prototypes", embeddings, drawn)
    for own, (support, known, queries, _) in zip(found, each(embeddings, drawn), strict=True):
        assert own.tolist() == NearestCentroid().fit(support, known).predict(queries).tolist()


def test_matching_sums_the_attention_of_each_class(embeddings, drawn):
    found = classifiers.scores("matching", embeddings, *drawn)
    for scores, (support, known, queries, _) in zip(found, each(embeddings, drawn), strict=True):
        for query, own in zip(unit(queries), scores, strict=True):
            attention = np.exp([query @ one for one in unit(support)])
            expected = [attention[known == index].sum() / attention.sum() for index in range(len(own))]
            assert own == pytest.approx(expected, abs=1e-5)


def test_the_linear_probe_is_a_logistic_regression_on_all_coordinates(embeddings, drawn):
    many = np.concatenate([embeddings, np.random.default_rng(1).normal(size=(72, 40)).astype(np.float32)], axis=1)
    found = predicted("linear_probe", many, drawn)
    for own, (support, known, queries, _) in zip(found, each(many, drawn), strict=True):
        assert own.tolist() == LogisticRegression(C=1, max_iter=1000).fit(unit(support), known).predict(unit(queries)).tolist()


def test_with_one_shot_matching_and_cosine_prototypes_are_the_same(embeddings):
    drawn = episodes.draw(LABELS, (), way=[5], shots=[1], queries=3, number=50, seed=1).part(5, 1)
    assert np.array_equal(predicted("matching", embeddings, drawn), predicted("cosine_prototypes", embeddings, drawn))


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_lengths_do_not_matter_but_to_euclidean_prototypes(name, embeddings, drawn):
    longer = embeddings * np.random.default_rng(2).uniform(0.1, 10, (72, 1)).astype(np.float32)
    same = np.array_equal(predicted(name, longer, drawn), predicted(name, embeddings, drawn))
    assert same == (name != "euclidean_prototypes")


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_how_many_episodes_are_in_memory_changes_nothing(name, embeddings, drawn, monkeypatch):
    whole = classifiers.scores(name, embeddings, *drawn)
    monkeypatch.setattr(classifiers, "NUMBERS", 1)
    np.testing.assert_allclose(classifiers.scores(name, embeddings, *drawn), whole, rtol=1e-6)


def test_a_right_answer_counts_and_a_tie_counts_by_chance():
    scores = np.array([[[3, 1, 1], [1, 3, 1], [2, 2, 1], [2, 2, 1], [0, 0, 0], [1, 0, 1]]], dtype=float)  # two queries a class
    assert classifiers.credit(scores).tolist() == [[1, 0, 0.5, 0.5, 1 / 3, 0.5]]


@pytest.mark.parametrize("name", classifiers.CLASSIFIERS)
def test_embeddings_that_are_all_equal_are_as_good_as_guessing(name, drawn):
    way = drawn[0].shape[1]
    for collapsed in (np.zeros((72, 6), np.float32), np.ones((72, 6), np.float32)):
        credit = classifiers.credit(classifiers.scores(name, collapsed, *drawn))
        assert credit.mean() == pytest.approx(1 / way, abs=1e-6)
