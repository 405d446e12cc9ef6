"""The verdict in words: the questions, what the intervals say, and what they do not cover."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import cards, plugins
from stages.lib.core.cards import ModelCard
from stages.lib.core.contracts import Metric, Scale, scale_of
from stages.lib.core.runs import ADVICE, Training, shown
from stages.lib.evaluation.adaptation import Adapted
from stages.lib.evaluation.comparison import Pair, Test


def write(
    p: SimpleNamespace, metric: Metric, test: Test, chain: list[str], pairs: Sequence[Pair], results: Mapping[str, Any],
    differences: Mapping[str, Any], models: Mapping[str, ModelCard], ship: str,
) -> str:  # fmt: skip
    """The verdict, as Markdown.

    Args:
        p: the sections `compare`, `inits` and `seeds` of params.yaml.
        chain: from the source to the proposal.
        results: value, lower and upper of each arm.
        differences: of each pair.
        models: cards of the targets by name.
        ship: name of the shipped model.
    """
    name, interval, num_seeds = p.compare.metric.replace("_", " "), f"{p.compare.confidence:.0%} interval", len(p.seeds)
    unit = getattr(plugins.load("tasks", models[ship].trained_for), "UNIT", None)
    noun = unit or plugins.load("modalities", models[ship].modality).NOUN
    lines = [f"# Verdict: {' -> '.join([*chain, test.data])}", ""]
    for pair in pairs:
        d = differences[pair.key]
        between = (
            f"{interval} {metric.change(d['lower'])} to {metric.change(d['upper'])}{', one seed only' if num_seeds == 1 else ''}"
        )
        amount = f"{metric.change(d['difference'])} {metric.unit(p.compare.metric)}"
        lines.append(f"- **{pair.question}: {d['verdict']}**, {amount} ({between}).")
    lines += [f"- **Ship models/target/{ship}**, the target with the lowest validation loss."]
    if differences["transfer"]["verdict"] == "hurts":
        lines += [f"- **Random weights did better here**: consider models/scratch/{p.seeds[0]} instead."]
    lines += [""]

    lines += ["## Measured", "", f"| target trained from | {name} | {interval} |", "| --- | --- | --- |"]
    for row, (arm, r) in enumerate(results.items()):
        start = shown(arm) + (" (control)" if row else " (proposal)")
        lines.append(f"| {start} | {metric.text(r['value'])} | {metric.text(r['lower'])} to {metric.text(r['upper'])} |")
    averaged = f", each figure the mean over {num_seeds} seeds" if num_seeds > 1 else ""
    lines += [
        "",
        f"On {len(test.keys)} test {noun}s of {test.data}{averaged}. "
        "Intervals of single models may overlap even if one is better:",
        f"the paired differences decide, because all models are measured on the same {noun}s.",
        "",
        "## What the intervals cover, and what they do not",
        "",
        *(f"- {line}" for line in covered(p, test, noun, drawn=unit is not None)),
    ]
    lines += ["", "## Which model to ship", "", "| model | validation loss |", "| --- | --- |"]
    lines += [f"| models/target/{each} | {card.best['val_loss']:.4f} |" for each, card in models.items()]
    lines += [
        "",
        f"The one with the lowest loss is shipped: models/target/{ship}. The test plays no part in the choice; otherwise its",
        "figures would be too good.",
    ]
    return "\n".join(lines) + "\n"


def leaks(found: Mapping[str, Any], metric: Metric, name: str, without: float | None, value: float) -> list[str]:
    """A line for each dataset whose training data hold test examples.

    Args:
        found: leaks.json.
        metric, name: of the verdict.
        without: the proposal's value on the other test examples of the target; None if it could not be measured.
        value: the proposal's value on all of them.
    """
    if found["action"] == "drop":
        left = "; these were left out of training"
    else:
        left = ". metrics/leaks/pairs.csv lists them; leaks.action: drop leaves them out of training"
    lines = [f"- Leak: {each['words']}{left}." for each in found["compared"] if each["words"]]
    if without is not None and np.isfinite(without):
        lines.append(f"- Without these test examples, the {name.replace('_', ' ')} of the proposal is {metric.text(without)}; "
                     f"with them {metric.text(value)}.")  # fmt: skip
    return lines


def warnings(
    p: SimpleNamespace, trainings: Sequence[Training], forgotten: Mapping[str, pd.DataFrame], shared: Sequence[str]
) -> str:
    """A section with the warnings from leaks, advise and the trainings, and the earlier tasks that were forgotten.

    Args:
        p: the section `checks` of params.yaml.
        trainings: all trainings of the pipeline.
        forgotten: for each hop, the table of the stage forgetting.
        shared: lines about test examples in training data.
    """
    runs = [cards.read_json(training.metrics / "run.json") for training in trainings]
    advice = cards.read_json(ADVICE)
    lines = [*shared, *(f"- Preprocessing: {warning}" for warning in advice["warnings"])]
    lines += [f"- {run['name']}: {warning}" for run in runs for warning in run["warnings"]]
    for hop, table in forgotten.items():
        name, scale = scale_of(cards.read_json(Training("intermediate", hop, "").evaluation / "report.json"))
        lines += catastrophic(hop, name.replace("_", " "), scale, table, p.checks.forgetting)
    tried = "no wrong preprocessing, " if advice["decided"] else "no preprocessing with clearly better neighbours, "
    checked = tried if advice["preprocessing"] else ""
    kept = f", no earlier task forgotten (checks.forgetting: {p.checks.forgetting:g})" if forgotten else ""
    found = lines or [f"None: no test example in training data, {checked}no learning rate too high, no missing freezing{kept}."]
    if not advice["preprocessing"]:
        found.append("\nThe preprocessing was not checked.")
    elif not advice["decided"]:
        found.append(
            "\nThe network remembers no statistics that are near these inputs, so a wrong preprocessing may go unnoticed."
        )
    return "\n".join(["## Warnings", "", *found]) + "\n"


def domains(adapted: Sequence[Adapted], test: str) -> str:
    """A section on the trainings that adapted to unlabelled inputs, as Markdown: how far apart the domains are, and what choosing
    the epoch without labels costs.

    Args:
        test: the dataset that they adapted to.
    """
    lines = ["## Domains", "", "| model | domain accuracy | A-distance | accuracy: kept | by loss | by information | by labels |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for each in adapted:
        accuracy = " | ".join(f"{100 * each.right[way]:.1f} %" for way in ("kept", "loss", "information", "labels"))
        apart = " to ".join(f"{100 * value:.0f} %" for value in each.told_apart)
        lines.append(f"| {each.name} | {apart} | {each.a_distance[0]:.2f} to {each.a_distance[1]:.2f} | {accuracy} |")
    lines += [
        "",
        "Domain accuracy: how often a linear classifier on the features tells the domain, before and after training (50 %: it",
        "guesses); the A-distance is 4 * accuracy - 2. Domains that are closer need not be classified better: the test decides.",
        f"Accuracy on the validation split of {test}, whose labels these trainings did not see: of the epoch that was kept, of",
        f"those that the validation loss on labelled data and the information on {test} choose, and of the best one, which only",
        "labels can choose. Nothing is chosen by these figures.",
    ]
    return "\n".join(lines) + "\n"


def catastrophic(hop: str, name: str, scale: Scale, table: pd.DataFrame, most: float) -> list[str]:
    """A line for each later model that lost more than `most` of a hop's metric, beyond chance.

    Args:
        name: of the metric, and its `scale`.
        table: of the stage forgetting.
        most: of a fraction its difference; of another metric the fraction of what it was.
    """
    lines = []
    for row in table.itertuples():
        upper = row.upper if scale.higher_is_better else -row.lower
        loss = -row.change if scale.higher_is_better else row.change
        loss = loss if scale.fraction else loss / (abs(row.before) or 1)
        if loss > most and upper < 0:
            lines.append(
                f"- Catastrophic forgetting: after {row.model}, {name} on {hop} (with its original head) went from "
                f"{scale.text(row.before)} to {scale.text(row.after)} ({scale.change(row.change)}, {scale.change(row.lower)} to "
                f"{scale.change(row.upper)}). If {hop} still matters, keep models/{hop} beside the new model, or choose wise_ft, "
                "l2_sp or feature_extraction, or a lower lr."
            )
    return lines


def covered(p: SimpleNamespace, test: Test, noun: str, *, drawn: bool) -> list[str]:
    """What the intervals cover and what they do not, in one or two sentences each.

    Args:
        noun: what is measured and resampled.
        drawn: whether these are drawn from the test examples, such as episodes.
    """
    num_seeds = len(p.seeds)
    lines = [f"Covered: the choice of test {noun}s ({p.compare.num_resamples} bootstrap resamples, the same for all models)."]
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
        few = " So few seeds show only roughly how much a seed changes." if num_seeds < 5 else ""
        lines += [f"Covered: variation between trainings; the {num_seeds} seeds are resampled too, as pairs.{few}"]
    if test.split_given:
        lines += [f"Unknown: how the test {noun}s were chosen; the split came with the data."]
    elif not test.split_by_group:
        lines += [f"Not covered: data from a new source. Similar {noun}s may be in training and test, so all scores may be "
                  "optimistic."]  # fmt: skip
    return [
        *lines,
        "Not covered: the hyperparameters. The control from random weights has its own (section scratch); all other targets "
        "share theirs.",
        f"Each interval has {p.compare.confidence:.0%} confidence by itself; there is no correction for multiple comparisons.",
        "No difference shown does not mean that there is none: any value in the interval is possible.",
    ]
