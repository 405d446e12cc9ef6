"""Logistic regression of which the validation split chooses the strength: the last step of several controls."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    import numpy as np

Strengths = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]  # the inverse of the regularisation


def probabilities(
    learned: Any, chosen: Any, asked: Any, labels: Sequence[str], chosen_labels: Sequence[str], classes: list[str],
    strengths: list[float],
) -> "np.ndarray":  # fmt: skip
    """Probabilities (M, C) float32 of `asked`, by the fit whose loss on the validation examples is lowest.

    Args:
        learned, chosen, asked: features (N, F), (V, F) and (M, F) of training, validation and test, dense or sparse.
        labels, chosen_labels: of training and validation.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    fitted = [LogisticRegression(C=strength, max_iter=1000).fit(learned, labels) for strength in strengths]
    losses = [log_loss(chosen_labels, each.predict_proba(chosen), labels=classes) for each in fitted]
    found: np.ndarray = fitted[int(np.argmin(losses))].predict_proba(asked).astype(np.float32)
    return found
