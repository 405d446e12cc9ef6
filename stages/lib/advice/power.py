"""What a test could show at all, said before any training."""

from math import inf

from scipy.stats import t as student

POWER = 0.8  # how often a true difference of that size is found
SPREAD = 0.01  # of the seeds' differences, for the figure with it


def smallest_difference(accuracy: float, num_test: int, *, num_seeds: int, confidence: float, spread: float) -> float:
    """The difference of two models' accuracies that one paired comparison finds in POWER of all cases:

        (t(1 - alpha / 2) + t(POWER)) * sqrt(2 a (1 - a) / N + spread^2 / S)

    Two models that are right for a share a each and err independently differ in 2 a (1 - a) of the examples. Models that are
    trained alike mostly err on the same ones, so this is an upper bound; it is a lower one if examples of the test resemble each
    other (groups). t are quantiles of Student's t, because the spread will be known from S seeds only: its degrees of freedom are
    S - 1 where seeds are all that differs, and more the more of the variance is the test's.

    Args:
        accuracy: a, as far as it is known before training: of a linear probe, 0 to 1.
        num_test: N.
        num_seeds: S of each arm.
        confidence: 1 - alpha.
        spread: standard deviation of the difference between seeds, 0 to 1; 0: the difference of these models alone, and all that
            one seed can show.

    Returns:
        0 to 1 (0.05: 5 points).

    Reference:
        Connor, Sample Size for Testing Differences in Proportions for the Paired-Sample Design, Biometrics 1987; Satterthwaite,
        An Approximate Distribution of Estimates of Variance Components, Biometrics Bulletin 1946.
    """
    of_seeds = spread**2 / num_seeds
    variance = 2 * accuracy * (1 - accuracy) / num_test + of_seeds
    freedom = (num_seeds - 1) * (variance / of_seeds) ** 2 if spread else inf
    return float((student.ppf((1 + confidence) / 2, freedom) + student.ppf(POWER, freedom)) * variance**0.5)


def sentence(accuracy: float, num_test: int, *, num_seeds: int, confidence: float) -> str:
    """The smallest difference in words, and what the seeds add to it."""

    def points(spread: float) -> str:
        found = smallest_difference(accuracy, num_test, num_seeds=num_seeds, confidence=confidence, spread=spread)
        return f"{100 * found:.1f} points"

    found = f"{num_test} test examples show a difference of {points(0)} of accuracy between two models ({POWER:.0%} of the time)"
    if num_seeds == 1:
        return f"{found}; one seed shows nothing about how these models were trained."
    return f"{found}, and {points(SPREAD)} between two ways to train if {num_seeds} seeds differ by {100 * SPREAD:g} point."
