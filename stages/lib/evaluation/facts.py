"""What a person needs to know of one model's test: a sentence, and a few figures with what they have to be compared with.

A task may say it in its own words (`facts` in stages/lib/tasks/<task>/facts.py); of the others, their metrics are told.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stages.lib.core import plugins
from stages.lib.core.contracts import Scale, scale_of


class Fact(NamedTuple):
    """One figure of a test."""

    key: str  # in compare.json and MLflow
    title: str
    value: float
    lower: float | None  # of its interval; None if it has none
    upper: float | None
    text: str  # the value for readers
    beside: str  # what to compare it with: the interval, counts, the figure of a model that learned nothing
    alarming: bool = False  # whether it is clearly worse than the first fact makes one believe

    @property
    def words(self) -> str:
        """All of it in one line."""
        return f"{self.title}: {self.text}" + (f" ({self.beside})" if self.beside else "")


class Facts(NamedTuple):
    """What is said of a test."""

    sentence: str  # without a full stop
    facts: list[Fact]
    more: Sequence[str] = ()  # further sentences


def of(report: Mapping[str, Any], noun: str) -> Facts:
    """What a report.json says to a person.

    Args:
        report: as evaluate writes it.
        noun: what is measured, in the singular: "text".
    """
    if plugins.has("tasks", report["task"], "facts"):
        own: Facts = plugins.load("tasks", report["task"], "facts").facts(report, noun)
        return own
    primary, scale = scale_of(dict(report))
    told = [_metric(name, figure, scale, report["chance"] if name == primary else None)
            for name, figure in report["metrics"].items() if figure["value"] is not None]  # fmt: skip
    told.sort(key=lambda fact: fact.key != primary)
    if not told:
        return Facts(f"Test {primary.replace('_', ' ')} is undefined on {report['num_examples']:,} {noun}s", [])
    return Facts(f"Test {primary.replace('_', ' ')} is {told[0].text} on {report['num_examples']:,} {noun}s", told[:4])


def ends(figure: Mapping[str, Any], scale: Scale) -> str:
    """The interval of a figure, with its unit once: "81.2 to 86.1 %"."""
    lower = scale.text(figure["lower"]).removesuffix(" %")
    return f"{lower} to {scale.text(figure['upper'])}"


def _metric(name: str, figure: Mapping[str, Any], scale: Scale, chance: float | None) -> Fact:
    known = figure["lower"] is not None and figure["upper"] is not None
    beside = [ends(figure, scale)] if known else []
    beside += [] if chance is None else [f"always the most frequent answer: {scale.text(chance)}"]
    title = name.replace("_", " ")
    return Fact(name, title[:1].upper() + title[1:], figure["value"], figure["lower"], figure["upper"],
                scale.text(figure["value"]), " · ".join(beside))  # fmt: skip
