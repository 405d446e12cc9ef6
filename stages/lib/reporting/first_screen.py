"""What stands at the top of the report: which model to ship and why, what speaks against relying on it, and one picture."""

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from stages.lib.core import cards, runs
from stages.lib.core.cards import DataCard, ModelCard
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import Training
from stages.lib.evaluation import facts
from stages.lib.plots import svg
from stages.lib.reporting.verdict import comparisons, spent, the_same
from stages.lib.reporting.verdict.covered import percent
from stages.lib.reporting.verdict.spent import Spent

MOST_NAMES = 5  # classes that are named at the top
MOST_CHARACTERS = 110  # of a warning at the top


def eyebrow(card: ModelCard, data: DataCard, report: Mapping[str, Any], noun: str) -> list[str]:
    """What was asked, of what: data, task, classes, number of test examples, and the version of the test."""
    parts = [data.name, card.trained_for]
    if data.labels and report.get("classes"):
        names = ", ".join(data.labels[:MOST_NAMES]) + (", …" if len(data.labels) > MOST_NAMES else "")
        parts.append(f"{len(data.labels)} classes: {names}")
    return [*parts, f"{report['num_examples']:,} test {noun}s", f"test {report['test'][:8]}"]


def reasons(
    p: SimpleNamespace, found: Mapping[str, Any], metric: Metric, card: ModelCard, models: Mapping[str, ModelCard]
) -> list[Markup]:
    """Which model to ship, why, and what transfer and the hops were worth.

    Args:
        p: the sections `compare`, `inits` and `seeds`.
        found: compare.json.
        card: of the model to ship.
        models: cards of all targets by name.
    """
    name, gain = p.compare.metric.replace("_", " "), found["shipped"]["transfer"]
    chain = " → ".join(card.ancestors)
    why = (f"because its validation loss is the lowest of {len(models)} targets{the_same(models, found['ship'])}. "
           "The test played no part in the choice.")  # fmt: skip
    why = why if len(models) > 1 else "the only target."
    lines = [Markup("<b>Ship models/target/{}</b>, trained from {}, {}").format(found["ship"], chain, why)]
    trained = "in the one training that was made" if len(p.seeds) == 1 else f"the mean over {len(p.seeds)} seeds"
    said = "Transfer was worth <b>{} {}</b> to it over random weights ({} interval {} to {}, {})."
    unit = (metric.unit(p.compare.metric) if metric.fraction else name) + ("" if metric.higher_is_better else " (less is better)")
    sure = percent(p.compare.confidence)
    if None not in gain.values():  # undefined, as the F1 of a control that never answers
        ends = metric.change(gain["lower"]), metric.change(gain["upper"])
        lines.append(Markup(said).format(metric.change(gain["difference"]), unit, sure, *ends, trained))  # noqa: S704 (our own)
    for key, each in found.items():
        if key == "intermediate" or key.startswith("intermediate_after_"):
            skipped = "" if key == "intermediate" else f" after {key.removeprefix('intermediate_after_')}"
            text = "The intermediate step{} over {}: <b>{}</b>, {} ({} to {})."
            values = (metric.change(each[end]) for end in ("difference", "lower", "upper"))
            lines.append(Markup(text).format(skipped, p.inits[0], each["verdict"], *values))  # noqa: S704 (our own)
    return lines


def chips(
    p: SimpleNamespace, metric: Metric, found: Mapping[str, Any], saw: Mapping[str, Sequence[Spent]], report: Mapping[str, Any],
    card: ModelCard, leaks: Mapping[str, Any], noun: str,
) -> list[tuple[str, str]]:  # fmt: skip
    """What speaks against relying on the figures: a short text, and the section that says more.

    Args:
        p: the sections `inits`, `seeds` and `target`.
        found: compare.json.
        saw: what each training of the arms saw.
        report: of the model to ship.
        leaks: leaks.json.
    """
    against = []
    if len(p.seeds) == 1:
        against.append(("one training each: too few for a verdict on the method", "intervals"))
    if not report["split_by_group"] and not report["split_given"]:
        against.append((f"split {noun} by {noun}: similar ones may be in training and test", "intervals"))
    if card.use != "may be sold":
        against.append((f"licences: {card.use}", "origin"))
    for each in leaks["compared"]:
        if each["keys"] and each["tested_on"] == p.target.test:
            what = "nearly the same as" if each["num_nearly"] else "the same as"
            against.append((f"{len(each['keys']):,} of {each['num_test']:,} test {noun}s are {what} training {noun}s of "
                          f"{each['trained_on']}", "warnings"))  # fmt: skip
    against += [(short(warning), "warnings") for warning in found["warnings"]]
    scratch, chance = found["intervals"][runs.SCRATCH], found["chance"]
    if None not in (chance, *scratch.values()) and comparisons.reaches(metric, scratch, chance):
        against.append(("the control from random weights is not shown to have learned anything", "help"))
    against += [(f"{runs.shown(name)}: stopped while still getting better", "help") for name in spent.starved(p.inits[0], saw)]
    return against or [("nothing was found that speaks against it; what the intervals do not cover is below", "intervals")]


def short(text: str) -> str:
    """The first sentence of a warning without what stands in brackets; where it is still long, cut after a clause, or a word."""
    first = re.split(r"\. ", re.sub(r" \([^)]*\)", "", text))[0].rstrip(".")
    if len(first) <= MOST_CHARACTERS:
        return first
    cut = first[:MOST_CHARACTERS]
    clause = max(cut.rfind(", "), cut.rfind("; "))
    return cut[:clause] if clause > MOST_CHARACTERS / 2 else f"{cut.rsplit(' ', 1)[0]} …"


def arms(
    found: Mapping[str, Any], name: str, metric: Metric, arms: Mapping[str, Sequence[Training]],
    saw: Mapping[str, Sequence[Spent]], noun: str,
) -> Markup:  # fmt: skip
    """Each arm's figure with its interval, the best first, and what always giving one answer would reach.

    Args:
        found: compare.json.
        name: of the metric.
        arms: the trainings of each.
        saw: what each of them saw.
    """
    rows = []
    known = [(arm, value) for arm, value in found[name].items() if None not in (value, *found["intervals"][arm].values())]
    for arm, value in sorted(known, key=lambda item: -item[1] if metric.higher_is_better else item[1]):
        interval = found["intervals"][arm]
        text = f"{metric.text(value)} ({facts.ends(interval, metric)})"
        epochs, examples = spent.told(saw[arm]) if arm in saw else ("", "")
        note = [f"{epochs} epoch{'' if epochs == '1' else 's'}, {examples} {noun}s seen"] if examples else []
        note = ["computed from features, in no epochs"] if epochs == spent.NO_EPOCHS else note
        if arm in arms and arm != runs.SCRATCH:
            title = f"from {' → '.join(cards.read_model_card(arms[arm][0].model).ancestors)}"
        else:
            title = runs.shown(arm)
        shipped = arm == found["shipped"]["trained_from"]
        colour = "c0" if shipped else "dark" if arm == runs.SCRATCH else "c1"
        if shipped and len(arms[arm]) > 1:
            note.insert(0, f"{len(arms[arm])} seeds, one of them shipped")
        title += " (shipped)" if shipped and len(arms[arm]) == 1 else ""
        rows.append(svg.Row(title, text, value, interval["lower"], interval["upper"], colour, "; ".join(note)))
    if found["chance"] is not None:
        rows.append(svg.Row("always the most frequent answer", metric.text(found["chance"]), found["chance"], colour="dim"))
    return svg.intervals(rows)
