"""The figures of verification equal scikit-learn's, and resamples weigh pairs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from stages.lib.tasks.embed import retrieval, verification
from tests.lib.tasks.embed.test_retrieval import case


def scored(embeddings, who):
    """Each pair's similarity, whether it is of one person, and its pictures."""
    first, second = np.triu_indices(len(who), 1)
    vectors = retrieval.unit(embeddings)
    return (vectors[first] * vectors[second]).sum(1), who[first] == who[second], first, second


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strength", [0, 0.7, 2])
def test_they_are_those_of_scikit_learn(seed, strength):
    embeddings, who = case(seed, strength=strength)
    embeddings[5] = embeddings[3]  # ties
    similarity, same, first, second = scored(embeddings, who)
    weights = np.random.default_rng(seed).integers(0, 4, (6, who.max() + 1)).astype(float)[:, who]
    weights[0] = 1
    for row in weights:
        each = np.where(same, row[first], row[first] * row[second])
        found = [figure(embeddings, who, row[None])[0] for figure in (verification.auroc, verification.tar_at_far)]
        false, true, _ = roc_curve(same, similarity.round(12), sample_weight=each, drop_intermediate=False)
        accepted = true[false <= 0.01 + 1e-12].max()
        assert found == pytest.approx([roc_auc_score(same, similarity, sample_weight=each), accepted], abs=1e-9)


def test_the_threshold_lets_one_percent_of_strangers_in():
    embeddings, who = case(0, num=200, people=20)
    similarity, same, *_ = scored(embeddings, who)
    limit = verification.threshold(embeddings, who)
    assert 0.0095 < (similarity[~same] > limit).mean() <= 0.01
    accepted = (similarity[same] > limit).mean()
    assert verification.tar_at_far(embeddings, who, np.ones((1, len(who)))) == pytest.approx([accepted])


def test_of_many_pairs_some_stand_for_all(monkeypatch):
    embeddings, who = case(0, num=300, people=20)
    weights = np.random.default_rng(0).integers(0, 3, (5, 20)).astype(float)[:, who]
    whole = [figure(embeddings, who, weights) for figure in (verification.auroc, verification.tar_at_far)]
    monkeypatch.setattr(verification, "MOST_PAIRS", 5_000)
    monkeypatch.setattr(verification, "MOST", 9_000)
    some = [figure(embeddings, who, weights) for figure in (verification.auroc, verification.tar_at_far)]
    np.testing.assert_allclose(some, whole, atol=0.03)
    assert not np.array_equal(some, whole)


def test_what_cannot_be_told_is_no_number():
    embeddings, who = np.eye(4), np.zeros(4, dtype=int)
    for figure in (verification.auroc, verification.tar_at_far):
        assert np.isnan(figure(embeddings, who, np.ones((2, 4)))).all()
    assert np.isnan(verification.threshold(embeddings, who))
