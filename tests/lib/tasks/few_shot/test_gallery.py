"""A support set of few shots answers new examples as cosine prototypes do in the test."""

import numpy as np
import pytest

from stages.lib.tasks.few_shot import classifiers
from stages.lib.tasks.few_shot.gallery import identified


def test_new_examples_are_answered_as_in_an_episode():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(4, 8, 5)) + 2 * random.normal(size=(4, 1, 5))
    rows = np.arange(32).reshape(4, 8)
    flat = embeddings.reshape(32, 5)
    scores = classifiers.cosine(flat, rows[None, :, :3], rows[None, :, 3:])[0]
    names = ["wren", "Emu", "owl", "a b"]  # in any order
    order = random.permutation(12)
    labels = [names[index // 3] for index in order]
    found = identified(embeddings[:, :3].reshape(12, 5)[order], labels, embeddings[:, 3:].reshape(20, 5))
    assert found["label"].tolist() == [names[index] for index in scores.argmax(1)]
    assert found["similarity"] == pytest.approx(scores.max(1))
    for index, name in enumerate(names):
        assert found[f"similarity_{name}"] == pytest.approx(scores[:, index])


def test_a_support_set_may_hold_one_class_or_classes_of_different_sizes():
    known, asked = np.eye(3), np.array([[2.0, 0, 0], [0, 0, 3]])
    assert identified(known[:1], ["a"], asked)["label"].tolist() == ["a", "a"]
    assert identified(known, ["a", "b", "b"], asked)["label"].tolist() == ["a", "b"]
