"""The comparison of several ways to train the target in words: an answer, a table, and what to keep in mind."""

from collections.abc import Sequence

from stages.lib.core.contracts import Metric
from stages.lib.evaluation.pairing import UNDECIDED
from stages.lib.evaluation.verdicts import ONE_SEED, Verdict, Word
from stages.lib.reporting.verdict.covered import percent
from stages.lib.shell.epochs import duration
from stages.lib.states.compared import Compared, Way
from stages.lib.tracking import ledger

MANY = {one: many for many, one in ONE_SEED.items()}
BETTER, WORSE, SAME = "better", "worse", "as good"
LEAST = 4  # columns that every table has: strategy, validation, test, against the best
IN_WORDS: dict[Word, str] = {"helps": BETTER, "hurts": WORSE}


def word(found: Verdict) -> str:
    """A verdict about one way against the best."""
    verdict = MANY.get(found.verdict, found.verdict)
    return IN_WORDS.get(verdict, verdict)


def answer(found: Compared) -> list[str]:
    """Which way suits the data, a sentence each."""
    best, *others = found.ways
    lines = [f"Best on validation: {best.label}, {found.of_validation.text(best.val)}. On the test it reaches "
             f"{found.metric.interval(dict(best.test))}."]  # fmt: skip
    for which, said in [(BETTER, "Better than it on the test, although validation did not say so"), (SAME, "As good"),
                        (UNDECIDED, "No difference shown between it and"), (WORSE, "Worse")]:  # fmt: skip
        these = [_with_change(each, found.metric) for each in others if each.against and word(each.against) == which]
        lines += [f"{said}: {', '.join(these)}."] if these else []
    rest = [each for each in found.ways if each.against is None or word(each.against) != WORSE]
    timed = [each for each in rest if each.seconds is not None]
    if len(timed) > 1 and len(timed) == len(rest):
        cheapest = min(timed, key=lambda each: each.seconds or 0.0)
        lines.append(f"The fastest to train of those that are not shown to be worse: {cheapest.label}, "
                     f"{duration(cheapest.seconds or 0.0)}.")  # fmt: skip
    return lines


def notes(found: Compared, confidence: float) -> list[str]:
    """What to keep in mind, a sentence each."""
    num, unit = len(found.ways), found.metric.unit(found.name)
    lines = [f"{found.num_examples:,} test examples of {found.data}, the same for all; "
             f"{percent(confidence)} intervals, each by itself; the verdicts hold together (Holm)."]  # fmt: skip
    if found.num_seeds == 1:
        lines.append("One training each, so the verdicts are about these models: another seed may turn out otherwise. "
                     "Several seeds say more: -S 'seeds=[0,1,2]'.")  # fmt: skip
    else:
        lines.append(f"Each figure is the mean over {found.num_seeds} seeds; their spread is in the intervals, by Student's t.")
    flattery = ledger.flattery(num, found.luck["standard_error"] or 0.0, found.luck["correlation"] or 0.0)
    lines.append(f"Validation chose. Whoever takes the best of {num} by the test instead is flattered by about "
                 f"{found.metric.change(flattery)} {unit}, if all are equally good.")  # fmt: skip
    if opened := ledger.count(found.test):
        lines.append(f"{opened} models have been measured on this test so far ({ledger.path().name}).")
    return lines


def table(found: Compared) -> list[list[str]]:
    """The rows of the table, its head first."""
    head = ["strategy", f"validation {_plain(found.primary)}", f"test {_plain(found.name)}", "against the best", "verdict",
            "training", "best epoch", "experiment or run"]  # fmt: skip
    rows = [head]
    for each in found.ways:
        against, verdict = "", "the best on validation"
        if each.against:
            low, high = (found.metric.change(end) for end in (each.against.lower, each.against.upper))
            against, verdict = f"{found.metric.change(each.against.difference)} ({low} to {high})", word(each.against)
        seconds = "" if each.seconds is None else duration(each.seconds)
        rows.append([each.label, found.of_validation.text(each.val), found.metric.interval(dict(each.test)), against, verdict,
                     seconds, f"{each.epochs:.3g}", each.name])  # fmt: skip
    return rows


def aligned(rows: Sequence[Sequence[str]], most: int | None) -> str:
    """A table for the terminal, without its last columns where it would be wider than `most` (None: as wide as it is)."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    while most is not None and len(widths) > LEAST and sum(widths) + 2 * (len(widths) - 1) > most:
        widths.pop()
    rows = [row[: len(widths)] for row in rows]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown(found: Compared, confidence: float) -> str:
    """All of it, as Markdown."""
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in table(found))
    lines = [f"# Which strategy suits {found.data}?", "", *(f"- **{line}**" for line in answer(found)), ""]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join([*lines, *(f"- {line}" for line in notes(found, confidence))]) + "\n"


def _with_change(each: Way, metric: Metric) -> str:
    assert each.against
    return f"{each.label} ({metric.change(each.against.difference)})"


def _plain(name: str) -> str:
    return name.replace("_", " ")
