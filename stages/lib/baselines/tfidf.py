"""The control without a network for classes of texts: TF-IDF of words and pairs of words, with logistic regression."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.baselines._logistic import Strengths, probabilities
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import numpy as np

    from stages.lib.core.datasets import PackedSplit

TITLE = "TF-IDF with logistic regression"
TASKS, MODALITIES = ("classify",), ("text",)


class Params(Strict):
    ngrams: int = Field(ge=1, le=5)
    strengths: Strengths


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

    from stages.lib.modalities.text.inputs import texts

    words = [texts(split.rows(np.arange(len(split.keys)))) for split in (train, val, test)]
    vectors = TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True)
    try:
        learned = vectors.fit_transform(words[0])
    except ValueError:
        raise UserError(
            "baselines.tfidf: no training text has a word of two letters or more, which is what TF-IDF counts; leave it out."
        ) from None
    chosen, asked = (vectors.transform(each) for each in words[1:])
    return probabilities(learned, chosen, asked, train.labels, val.labels, classes, strengths)
