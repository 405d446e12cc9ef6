"""Each comparison in a sentence, and controls that put it into proportion: chance, and a probe on frozen features."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from stages.lib.core.cards import ModelCard
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import shown
from stages.lib.evaluation import verdicts
from stages.lib.evaluation.comparison import Pair
from stages.lib.evaluation.verdicts import Comparison, Shipped, Verdict
from stages.lib.reporting.verdict.covered import percent


def sentence(p: SimpleNamespace, metric: Metric, pair: Pair, found: Verdict, num_pairs: int) -> str:
    """One comparison: the verdict, the difference and its interval, and what the correction changed."""
    between = f"{percent(p.compare.confidence)} interval {metric.change(found.lower)} to {metric.change(found.upper)}"
    between += ", one seed only" if len(p.seeds) == 1 else ""
    word = found.verdict + (f", within {margin(p, metric)}" if found.verdict.endswith("as good") else "")
    amount = f"{metric.change(found.difference)} {metric.unit(p.compare.metric)}"
    line = f"- **{pair.question}: {word}**, {amount} ({between})."
    if verdicts.smaller_than_margin(found, p.compare.confidence):
        line += f" The difference is shown to be smaller than {margin(p, metric)}."
    if verdicts.alone(found, p.compare.confidence):
        line += f" By itself it would be a difference; together with the other {num_pairs - 1} comparisons it is none."
    return line


def worth(p: SimpleNamespace, metric: Metric, shipped: Shipped) -> str:
    """What transfer was worth to the model to ship."""
    gain = {name: float("nan") if value is None else value for name, value in shipped.transfer.items()}
    ends = f"{metric.change(gain['lower'])} to {metric.change(gain['upper'])}"
    mean = f", the mean over {len(p.seeds)} seeds" if len(p.seeds) > 1 else ", one seed only"
    return (f"- What transfer was worth to it: {metric.change(gain['difference'])} {metric.unit(p.compare.metric)} over "
            f"random weights ({percent(p.compare.confidence)} interval {ends}; the targets from "
            f"{shipped.trained_from}{mean})")  # fmt: skip


def margin(p: SimpleNamespace, metric: Metric) -> str:
    """The margin within which models count as equally good, in words."""
    name = p.compare.metric.replace("_", " ")
    return f"{100 * p.compare.margin:g} points" if metric.fraction else f"{p.compare.margin:g} {name}"


def reaches(metric: Metric, interval: Mapping[str, float], chance: float) -> bool:
    """Whether the interval of a figure reaches that of always giving the most frequent answer."""
    return interval["lower"] <= chance if metric.higher_is_better else interval["upper"] >= chance


def at_chance(metric: Metric, pairs: Sequence[Pair], results: Mapping[str, Any], chance: float | None) -> list[str]:
    """A line for each control that is not shown to be better than always giving the most frequent answer."""
    lines: list[str] = []
    for pair in pairs:
        r = results[pair.control]
        if chance is not None and reaches(metric, r, chance):
            figure = f"{metric.text(r['value'])} ({metric.text(r['lower'])} to {metric.text(r['upper'])})"
            lines.append(f"- **{shown(pair.control)}: not shown to be better than always the most frequent answer**, {figure} "
                         f"against {metric.text(chance)}. A gain over such a control means little.")  # fmt: skip
    return lines


def below_probe(advice: Mapping[str, Any], models: Mapping[str, ModelCard], proposal: str, data: str, noun: str) -> list[str]:
    """A line that names the targets from the proposal's starting point that are right less often on validation than a linear
    probe on the features that they started from; none if there are none.

    Args:
        advice: what the stage advise found.
        models: cards of the targets by name.
        data: of the target.
    """
    probe = advice.get("probe")
    if not probe:
        return []
    num, right = probe["num_val"], round(probe["accuracy"] * probe["num_val"])
    mine = {name: round(card.best["val_accuracy"] * num) for name, card in models.items()
            if name.rpartition("-")[0] == proposal and "val_accuracy" in card.best}  # fmt: skip
    below = ", ".join(f"{name} ({100 * found / num:.1f} %)" for name, found in mine.items() if found < right)
    if not below:
        return []
    return [
        f"- **A linear probe did better than {below}** on the {num} validation {noun}s of {data}: it is right for "
        f"{100 * right / num:.1f} % of them. It was fitted to frozen features of {proposal} on {probe['num_train']} training "
        f"{noun}s. Compare with strategy: linear_probe."
    ]


def headline(p: SimpleNamespace, metric: Metric, pairs: Sequence[Pair], found: Comparison) -> list[str]:
    """All comparisons, and with a single seed what they are about."""
    lines = [sentence(p, metric, pair, found.verdicts[pair.key], len(pairs)) for pair in pairs]
    if len(p.seeds) == 1:
        lines.append("- **One seed: all of this is about these models, not about the method.** Training them again with another "
                     "seed may reverse it; only several `seeds` can show that something helps.")  # fmt: skip
    return lines
