"""What the intervals and verdicts cover, and what they do not."""

from types import SimpleNamespace

from stages.lib.errors import listed
from stages.lib.evaluation.comparison import Test


def percent(confidence: float) -> str:
    """A confidence for readers: "95 %"."""
    return f"{100 * confidence:g} %"


def covered(p: SimpleNamespace, test: Test, noun: str, num_pairs: int, within: str, *, drawn: bool, repeats: bool) -> list[str]:
    """What the intervals cover and what they do not, in one or two sentences each.

    Args:
        noun: what is measured and resampled.
        num_pairs: how many comparisons there are.
        within: the margin in words.
        drawn: whether these are drawn from the test examples, such as episodes.
        repeats: whether the same trainings on the same machine would give the same bits.
    """
    num_seeds = len(p.seeds)
    lines = [f"Covered: the choice of test {noun}s ({p.compare.num_resamples:,} bootstrap resamples, the same for all models)."]
    if drawn:
        lines += [f"Not covered: the choice of the test's classes. All {noun}s are drawn from the same examples of them, so the "
                  "intervals say how sure the mean of these is, and not how far other classes would be from it."]  # fmt: skip
    elif test.groups is not None:
        lines += [f"The {noun}s belong to {len(set(test.groups))} groups, which are resampled whole, because {noun}s of a group "
                  "are alike."]  # fmt: skip
    elif test.only_group:
        lines += [f"Each {noun} is resampled by itself: all test {noun}s are of one group, {test.only_group}, and the intervals "
                  "say nothing about others."]  # fmt: skip
    else:
        lines += [f"Each {noun} is resampled by itself, because the data names no groups. If several {noun}s come from one "
                  "object or person, the true intervals are wider."]  # fmt: skip
    if num_seeds == 1:
        lines += [f"Not covered: variation between trainings, because there is only one seed ({p.seeds[0]}); with another the "
                  "ranking may change. Add more under `seeds` in params.yaml."]  # fmt: skip
    else:
        few = ", which are few, so that the intervals are wide" if num_seeds < 5 else ""
        lines += [f"Covered: variation between trainings, by Student's t from the spread of the {num_seeds} seeds{few}."]
    if not repeats:
        lines += ["Not covered: the same trainings again, which on a GPU give other weights and figures, as other seeds do "
                  "(device.deterministic: false)."]  # fmt: skip
    if test.split_given:
        lines += [f"Unknown: how the test {noun}s were chosen; the split came with the data."]
    elif not test.split_by_group:
        lines += [f"Not covered: data from a new source. Similar {noun}s may be in training and test, so all scores may be "
                  "optimistic."]  # fmt: skip
    sure = percent(p.compare.confidence)
    together = [f"Each interval holds with {sure} confidence."]
    if num_pairs > 1:
        together = [f"The {num_pairs} verdicts hold together with {sure} confidence (corrected by Holm's procedure). Each "
                    "interval holds with that confidence by itself; all of them together with less."]  # fmt: skip
    if p.compare.looks:
        together += [f"Seeds are added until the verdicts decide: looks are planned at {listed(p.compare.looks)} seeds, and this "
                     f"is the one at {num_seeds}. Intervals and verdicts hold over all looks together with {sure} confidence; "
                     "each has a share of the error."]  # fmt: skip
    return [
        *lines,
        "Not covered: the hyperparameters. The control from random weights has its own (section scratch); all other targets "
        "share theirs. `python -m stages verdict` says how many settings were tried for each.",
        *together,
        f"As good, within {within}: the difference is shown to be smaller than that, either way (compare.margin). No difference "
        "shown is no proof of no difference: any value in the interval is possible.",
    ]
