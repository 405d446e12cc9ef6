"""What went wrong on the way to the verdict: wrong preprocessing, training and forgetting; and how domains were adapted."""

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import cards
from stages.lib.core.contracts import Metric, Scale, scale_of
from stages.lib.core.runs import ADVICE, Training
from stages.lib.evaluation.adaptation import Adapted


def found(
    p: SimpleNamespace,
    trainings: Sequence[Training],
    forgotten: Mapping[str, pd.DataFrame],
    shortcuts: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """The warnings from advise and the trainings, earlier tasks that were forgotten, and shortcuts.

    Args:
        p: the section `checks` of params.yaml.
        trainings: all trainings of the pipeline.
        forgotten: for each hop, the table of the stage forgetting.
        shortcuts: reports of controls that see only what should say nothing, by what they see.
    """
    runs = [cards.read_json(training.metrics / "run.json") for training in trainings]
    lines = [f"Preprocessing: {warning}" for warning in cards.read_json(ADVICE)["warnings"]]
    lines += [f"{run['name']}: {warning}" for run in runs for warning in run["warnings"]]
    for hop, table in forgotten.items():
        _, scale = scale_of(cards.read_json(Training("intermediate", hop, "").evaluation / "report.json"))
        lines += catastrophic(hop, scale, table, p.checks.forgetting)
    for seen, report in shortcuts.items():
        lines += shortcut(seen, report, p.checks.shortcut)
    return lines


def write(p: SimpleNamespace, lines: Sequence[str], forgotten: Collection[str]) -> str:
    """The section of the verdict.

    Args:
        p: the section `checks` of params.yaml.
        lines: what `leaks` and `found` say.
        forgotten: the hops whose forgetting was measured.
    """
    advice = cards.read_json(ADVICE)
    tried = "no wrong preprocessing, " if advice["decided"] else "no preprocessing with clearly better neighbours, "
    checked = tried if advice["preprocessing"] else ""
    kept = f", no earlier task forgotten (checks.forgetting: {p.checks.forgetting:g})" if forgotten else ""
    told = [f"- {line}" for line in lines] or [
        f"None: no test example in training data, {checked}no learning rate too high, no missing freezing{kept}."
    ]
    if not advice["preprocessing"]:
        told.append("\nThe preprocessing was not checked.")
    elif not advice["decided"]:
        told.append(
            "\nThe network remembers no statistics that are near these inputs, so a wrong preprocessing may go unnoticed."
        )
    return "\n".join(["## Warnings", "", *told]) + "\n"


def leaks(
    found: Mapping[str, Any],
    metric: Metric,
    name: str,
    without: Mapping[str, float | None] | None,
    proposal: str,
    results: Mapping[str, Any],
) -> list[str]:
    """A line for each dataset whose training data hold test examples.

    Args:
        found: leaks.json.
        metric, name: of the verdict.
        without: the value of each arm on the other test examples of the target; None if it could not be measured.
        results: value, lower and upper of each arm on all of them.
    """
    if found["action"] == "drop":
        left = "; these were left out of training"
    else:
        left = ". metrics/leaks/pairs.csv lists them; leaks.action: drop leaves them out of training"
    lines = [f"Leak: {each['words']}{left}." for each in found["compared"] if each["words"]]
    if without and (value := without[proposal]) is not None and np.isfinite(value):
        lines.append(f"Without these test examples, the {name.replace('_', ' ')} of the proposal is "
                     f"{metric.text(value)}; with them {metric.text(results[proposal]['value'])}.")  # fmt: skip
    return lines


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


def catastrophic(hop: str, scale: Scale, table: pd.DataFrame, most: float) -> list[str]:
    """A line for each later model that lost more than `most` of a hop's metric, beyond chance.

    Args:
        scale: of the metric.
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
                f"Catastrophic forgetting: after {row.model}, {row.metric.replace('_', ' ')} on {hop} (with its original head) "
                f"went from {scale.text(row.before)} to {scale.text(row.after)} ({scale.change(row.change)}, "
                f"{scale.change(row.lower)} to {scale.change(row.upper)}{_guessing(row, scale)}). If {hop} still matters, keep "
                f"models/{hop} beside the new model, or choose wise_ft, l2_sp or feature_extraction, or a lower lr."
            )
    return lines


def _guessing(row: Any, scale: Scale) -> str:
    """What forgotten figures have to be compared with: of always giving one answer, which this model may do."""
    words = "" if np.isnan(row.chance) else f"; one answer for everything reaches {scale.text(row.chance)}"
    return f"{words}, and it answers '{row.only}' to everything" if isinstance(row.only, str) else words


def shortcut(seen: str, report: Mapping[str, Any], most: float) -> list[str]:
    """A line for each class that a control tells from the others although it sees only what should say nothing.

    Args:
        seen: what it sees.
        report: of the control.
        most: AUROC of a class above which it is told, beyond chance.
    """
    areas = {name: each["auroc"] for name, each in report["per_class"].items()}
    return [
        f"Shortcut: {seen} alone, without what they show, tells {name} from the rest: AUROC {100 * auroc['value']:.1f} % "
        f"({100 * auroc['lower']:.1f} to {100 * auroc['upper']:.1f} %). The model may have learned where {name} comes from "
        "instead of what it is. Take all classes from the same places, or cut the border off, before you trust its figures."
        for name, auroc in areas.items()
        if auroc["lower"] is not None and auroc["lower"] > most
    ]
