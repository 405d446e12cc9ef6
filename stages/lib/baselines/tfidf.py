"""The control without a network for classes of texts: TF-IDF of words and pairs of words, with logistic regression."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import numpy as np

    from stages.lib.core.datasets import PackedSplit

TITLE = "TF-IDF with logistic regression"
TASKS, MODALITIES = ("classify",), ("text",)


class Params(Strict):
    ngrams: int = Field(ge=1, le=5)
    strengths: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]


def predictions(
    train: "PackedSplit", val: "PackedSplit", test: "PackedSplit", classes: list[str], *, ngrams: int, strengths: list[float]
) -> "np.ndarray":
    """Probabilities (N, C) of the test texts.

    Args:
        ngrams: up to so many words in a row are one feature.
        strengths: values of C (the inverse of the regularisation) that are tried; the one with the lowest loss on validation is
            taken.

    Reference:
        Joachims, A Probabilistic Analysis of the Rocchio Algorithm with TFIDF for Text Categorization, ICML 1997.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    from stages.lib.modalities.text.inputs import texts

    words = [texts(split.rows(np.arange(len(split.keys)))) for split in (train, val, test)]
    vectors = TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True)
    try:
        learned = vectors.fit_transform(words[0])
    except ValueError:
        raise UserError(
            "baselines.tfidf: no training text has a word of two letters or more, which is what TF-IDF counts; leave it out."
        ) from None
    others = [vectors.transform(each) for each in words[1:]]
    fitted = [LogisticRegression(C=strength, max_iter=1000).fit(learned, train.labels) for strength in strengths]
    losses = [log_loss(val.labels, each.predict_proba(others[0]), labels=classes) for each in fitted]
    best = fitted[int(np.argmin(losses))]
    found: np.ndarray = best.predict_proba(others[1]).astype(np.float32)
    return found
