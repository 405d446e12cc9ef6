"""Limits that new values of the same kind pass with a stated probability, from the ranks of those at hand (split conformal)."""

import math

import numpy as np

ROUNDING = 1e-9  # so that 20 * 0.95 is 19, and not the next whole number


def upper(values: np.ndarray, share: float) -> float:
    """The limit that a new value stays at or below with a probability of at least `share`; infinity if these are too few.

    It holds for any distribution, as long as the new value is drawn as these were, on average over such draws.

    Args:
        values: (n,), of examples that were not trained on.
        share: above 0, below 1.

    Reference:
        Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos and Bates, A Gentle Introduction to Conformal
        Prediction (section 1), arXiv 2107.07511, 2021.
    """
    rank = math.ceil((len(values) + 1) * share - ROUNDING)
    return float(np.sort(values)[rank - 1]) if rank <= len(values) else math.inf


def most(num: int) -> float:
    """The largest share that `num` values can promise: 19 are needed for 0.95."""
    return num / (num + 1)


def needed(share: float) -> int:
    """How many values a share needs."""
    return math.ceil(share / (1 - share) - ROUNDING)


def expected(num: int, share: float, num_new: int, confidence: float) -> tuple[float, float]:
    """Between which fractions of `num_new` new values should be at or below a limit of `upper`, with this confidence.

    The limit varies with the `num` values that it was taken from, and the fraction with the new ones: it is beta-binomial.

    Reference:
        Angelopoulos and Bates 2021, section 3.2 and appendix C.
    """
    from scipy.special import betaln  # here, because serving needs none; scipy.stats takes long to import

    above = num + 1 - math.ceil((num + 1) * share - ROUNDING)
    if above < 1:  # no limit: all are below
        return 1.0, 1.0
    tail = (1 - confidence) / 2
    below = np.arange(num_new + 1)
    ways = -betaln(below + 1, num_new - below + 1) - math.log(num_new + 1)  # log of the binomial coefficients
    log_pmf = ways + betaln(below + num + 1 - above, num_new - below + above) - betaln(num + 1 - above, above)
    lower, upper = np.searchsorted(np.exp(log_pmf).cumsum(), [tail, 1 - tail])
    return float(lower / num_new), float(upper / num_new)
