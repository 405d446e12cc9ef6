"""The verdict in words: the questions, what the intervals say, and what they do not cover."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from stages.lib.core import cards, licences, plugins
from stages.lib.core.cards import ModelCard
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import ADVICE, shown
from stages.lib.evaluation.comparison import Pair, Test
from stages.lib.evaluation.facts import Facts
from stages.lib.evaluation.verdicts import Comparison
from stages.lib.reporting.verdict import comparisons
from stages.lib.reporting.verdict import spent as spending
from stages.lib.reporting.verdict.covered import covered, percent
from stages.lib.reporting.verdict.spent import Spent

MOST_NAMES = 3  # of models that are named in a sentence


def write(
    p: SimpleNamespace, metric: Metric, test: Test, chain: list[str], pairs: Sequence[Pair], results: Mapping[str, Any],
    found: Comparison, models: Mapping[str, ModelCard], told: Facts, spent: Mapping[str, Sequence[Spent]],
) -> str:  # fmt: skip
    """The verdict, as Markdown.

    Args:
        p: the sections `compare`, `checks`, `target`, `inits` and `seeds` of params.yaml.
        chain: from the source to the proposal.
        results: value, lower and upper of each arm.
        found: what is written to compare.json.
        models: cards of the targets by name.
        told: what the test of the model to ship says.
        spent: what each training of the arms saw.
    """
    name, interval, num_seeds = p.compare.metric.replace("_", " "), f"{percent(p.compare.confidence)} interval", len(p.seeds)
    unit, noun = unit_of(models[found.ship]), noun_of(models[found.ship])
    lines = [f"# Verdict: {' -> '.join([*chain, test.data])}", "",
             f"**Ship models/target/{found.ship}**, the target with the lowest validation loss{the_same(models, found.ship)}. "
             f"{told.sentence}.",
             ""]  # fmt: skip
    lines += [f"- {line}" for line in (*(fact.words for fact in told.facts), *told.more)]
    lines += [comparisons.worth(p, metric, found.shipped)]
    lines += [f"- **Licences: {licences.use(models[found.ship].licences)}.**" + asked_for(p.checks.use)]
    lines += ["", "## Did it help?", "", *comparisons.headline(p, metric, pairs, found)]
    lines += comparisons.at_chance(metric, pairs, results, found.chance)
    lines += spending.in_words(spending.starved(p.inits[0], spent), p.inits[0])
    lines += comparisons.below_probe(cards.read_json(ADVICE), models, p.inits[0], p.target.data, noun)
    if found.verdicts["transfer"].verdict in ("hurts", "this model is worse"):
        lines += [f"- **Random weights did better here**: consider models/scratch/{p.seeds[0]} instead."]
    lines += [""]

    lines += ["## Measured", "", f"| target trained from | {name} | {interval} | epochs | {noun}s seen |",
              "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for row, (arm, r) in enumerate(results.items()):
        start = shown(arm) + (" (control)" if row else " (proposal)")
        epochs, seen = spending.told(spent.get(arm, []))
        between = f"{metric.text(r['lower'])} to {metric.text(r['upper'])}"
        lines.append(f"| {start} | {metric.text(r['value'])} | {between} | {epochs} | {seen} |")
    if found.chance is not None:
        lines.append(f"| always the most frequent answer | {metric.text(found.chance)} | | | |")
    averaged = f", each figure the mean over {num_seeds} seeds" if num_seeds > 1 else ""
    lines += [
        "",
        f"On {len(test.keys):,} test {noun}s of {test.data}{averaged}. "
        "Intervals of single models may overlap even if one is better:",
        f"the paired differences decide, because all models are measured on the same {noun}s.",
        "",
        "## What the intervals cover, and what they do not",
        "",
    ]
    within = comparisons.margin(p, metric)
    repeats = all(card.deterministic for card in models.values())
    lines += [f"- {line}" for line in covered(p, test, noun, len(pairs), within, drawn=unit is not None, repeats=repeats)]
    lines += ["", "## Which model to ship", "", "| model | validation loss |", "| --- | --- |"]
    lines += [f"| models/target/{each} | {card.best['val_loss']:.4f} |" for each, card in models.items()]
    lines += [
        "",
        f"The one with the lowest loss is shipped: models/target/{found.ship}. The test plays no part in the choice; otherwise",
        "its figures would be too good.",
    ]
    return "\n".join(lines) + "\n"


def the_same(models: Mapping[str, ModelCard], ship: str) -> str:
    """Which other targets are the model to ship bit for bit, in brackets: more seeds of them say nothing about luck."""
    others = [name for name, card in models.items() if card.sha256 == models[ship].sha256 and name != ship]
    if not others:
        return ""
    names = ", ".join(others) if len(others) <= MOST_NAMES else f"{len(others)} others"
    return f" ({names} {'is' if len(others) == 1 else 'are'} the same model: nothing in its training depends on the seed)"


def unit_of(card: ModelCard) -> str | None:
    """What a model's task measures, if it is not each example: "episode"."""
    unit: str | None = getattr(plugins.load("tasks", card.trained_for), "UNIT", None)
    return unit


def noun_of(card: ModelCard) -> str:
    """What a model's test consists of: "image"."""
    return unit_of(card) or str(plugins.load("modalities", card.modality).NOUN)


def asked_for(use: str) -> str:
    """What the params ask of the licences, in words."""
    return "" if use == "any" else f" The params ask for {use} use (checks.use)."
