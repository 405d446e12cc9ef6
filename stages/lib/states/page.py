"""The comparison of several ways to train the target as one page, in the look of the report, that opens without the internet."""

from pathlib import Path

from stages.lib.evaluation import facts
from stages.lib.evaluation.pairing import UNDECIDED
from stages.lib.plots import svg
from stages.lib.reporting import page
from stages.lib.reporting.verdict.covered import percent
from stages.lib.states import words
from stages.lib.states.compared import Compared, Way

TEMPLATE = Path(__file__).with_suffix(".html")
COLOURS = {words.BETTER: "c2", words.WORSE: "c5", words.SAME: "c0", UNDECIDED: "dim"}
TRAINED = (0, 1, 5, 6, 7)  # columns of the table that the charts do not show


def write(found: Compared, confidence: float) -> str:
    """The page as HTML."""
    head, *rows = ([row[column] for column in TRAINED] for row in words.table(found))
    seeds = f"{found.num_seeds} seeds" if found.num_seeds > 1 else "one seed"
    return page.filled(
        TEMPLATE.read_text(encoding="utf-8"),
        data=found.data,
        eyebrow=[f"{found.num_examples:,} test examples", seeds, f"test {found.test[:8]}"],
        answer=words.answer(found),
        metric=found.name.replace("_", " "),
        figures=svg.intervals([_figure(found, way) for way in found.ways]),
        confidence=percent(confidence),
        best=found.ways[0].label,
        differences=svg.intervals([_difference(found, way) for way in found.ways[1:]], mark=0),
        unit=", in points" if found.metric.fraction else "",
        side="right" if found.metric.higher_is_better else "left",
        table=svg.table(head, rows),
        notes=words.notes(found, confidence),
    )


def _figure(found: Compared, way: Way) -> svg.Row:
    note = f"on validation {found.of_validation.text(way.val)}"
    text = f"{found.metric.text(way.test['value'])} ({facts.ends(way.test, found.metric)})"
    colour = "dark" if way.against else "c0"
    return svg.Row(way.label, text, way.test["value"], way.test["lower"], way.test["upper"], colour, note)


def _difference(found: Compared, way: Way) -> svg.Row:
    assert way.against
    each, verdict = way.against, words.word(way.against)
    change, lower, upper = (found.metric.change(value) for value in (each.difference, each.lower, each.upper))
    text = f"{change} ({lower} to {upper})"
    return svg.Row(way.label, text, each.difference, each.lower, each.upper, COLOURS[verdict], verdict)
