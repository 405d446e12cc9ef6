"""TF-IDF with logistic regression: the control without a network for classes of texts."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from stages.lib.baselines import tfidf
from stages.lib.errors import UserError
from tests import texts

CLASSES = ["NA", "bad", "good"]
STRENGTHS = [0.1, 1.0, 10.0]


def split(num, seed, labels=CLASSES):
    """Sentences in which one of ten words tells the class, mostly."""
    random = np.random.default_rng(seed)
    names, sentences = [], []
    for row in range(num):
        names.append(labels[row % len(labels)])
        word = names[-1] if random.random() < 0.8 else random.choice(labels)
        sentences.append(
            " ".join([*random.choice(["film", "plot", "actor", "the", "was"], 6), f"w{word}", str(random.integers(9))])
        )
    order = random.permutation(num)
    return texts.packed([sentences[row] for row in order], [names[row] for row in order])


TRAIN, VAL, TEST = split(90, 0), split(30, 1), split(45, 2)


def hidden(test):
    """As the stage gives the test to a control."""
    return test._replace(labels=[""] * len(test.labels))


def predicted(train=TRAIN, val=VAL, test=TEST, classes=CLASSES, ngrams=1, strengths=STRENGTHS):
    return tfidf.predictions(train, val, hidden(test), classes, ngrams=ngrams, strengths=strengths)


def accuracy(found, test=TEST, classes=CLASSES):
    return np.mean([classes[row.argmax()] == label for row, label in zip(found, test.labels, strict=True)])


def test_it_learns_from_the_training_texts():
    found = predicted()
    assert found.dtype == np.float32 and found.shape == (45, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert accuracy(found) > 0.7
    shuffled = TRAIN._replace(labels=np.random.default_rng(0).permutation(TRAIN.labels).tolist())
    assert accuracy(predicted(train=shuffled)) < 0.55


def test_columns_follow_the_classes_and_not_the_order_of_texts():
    """The names of real classes sort otherwise than they come: NA before bad, Z before a."""
    for names in (["a", "Z", "10"], ["é", "e", "z"], ["NA", "", "nan"]):
        classes = sorted(names)
        splits = [split(num, seed, names) for num, seed in ((90, 0), (30, 1), (45, 2))]
        found = predicted(*splits, classes=classes)
        assert accuracy(found, splits[2], classes) > 0.7


def test_the_same_bits_twice():
    assert np.array_equal(predicted(), predicted())


def test_the_strength_is_that_of_the_lowest_loss_on_validation():
    words = [[bytes(row).decode() for row in each.rows(np.arange(len(each.keys)))] for each in (TRAIN, VAL, TEST)]
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(words[0])
    strengths = [0.001, 0.3, 3.0, 1e5]
    models = [LogisticRegression(C=each, max_iter=1000).fit(vectors.transform(words[0]), TRAIN.labels) for each in strengths]
    losses = [log_loss(VAL.labels, each.predict_proba(vectors.transform(words[1])), labels=CLASSES) for each in models]
    best = int(np.argmin(losses))
    assert best in (1, 2), "neither end"
    for order in (strengths, strengths[::-1]):
        found = predicted(ngrams=2, strengths=order)
        np.testing.assert_allclose(found, models[best].predict_proba(vectors.transform(words[2])), atol=1e-6)
    other = VAL._replace(labels=np.random.default_rng(0).permutation(VAL.labels).tolist())
    assert not np.allclose(predicted(val=other, ngrams=2, strengths=strengths), found), "it is tuned on validation"


def test_words_in_a_row_count_only_if_asked_for():
    rows = ["not good", "good not", "good", "not"] * 8
    labels = ["bad", "good", "good", "bad"] * 8
    ordered = texts.packed(["very not good", "very good not"] * 16, ["bad", "good"] * 16)
    test = texts.packed(["not good", "good not"], ["bad", "good"])
    found = predicted(ordered, texts.packed(rows, labels), test, ["bad", "good"], ngrams=2)
    assert accuracy(found, test, ["bad", "good"]) == 1 and abs(found[0, 0] - 0.5) > 0.1
    np.testing.assert_allclose(predicted(ordered, texts.packed(rows, labels), test, ["bad", "good"]), 0.5, atol=1e-3)


def test_the_test_texts_have_no_part_in_what_is_learned():
    alone = predicted(test=texts.packed(["film wgood unseen"], ["good"]))
    more = predicted(test=texts.packed(["film wgood unseen", *["unseen unseen other"] * 50], ["good"] * 51))
    np.testing.assert_array_equal(alone[0], more[0])


def test_texts_without_words_are_told():
    letters = texts.packed(["a b", "🙂 !"], ["bad", "good"])
    with pytest.raises(UserError, match=r"baselines\.tfidf: no training text has a word of two letters or more"):
        predicted(letters, letters, letters, ["bad", "good"])


def test_it_says_what_it_is_for():
    assert tfidf.TASKS == ("classify",) and tfidf.MODALITIES == ("text",) and "TF-IDF" in tfidf.TITLE
