"""What a person needs to know of a classifier's test: accuracy beside that of the largest class, the class that is missed most,
false alarms, and whether its confidence can be believed."""

from collections.abc import Mapping
from typing import Any

from stages.lib.core.contracts import Scale
from stages.lib.evaluation.facts import Fact, Facts, ends
from stages.lib.tasks.classify import words

FRACTION = Scale()


def facts(report: Mapping[str, Any], noun: str) -> Facts:
    """Accuracy, the recall of the class that is missed most (the one with the lowest), how often others are taken for it, and
    the expected calibration error; see stages.lib.evaluation.facts.of."""
    accuracy, num, classes = report["metrics"]["accuracy"], report["num_examples"], report["classes"]
    support = {label: each["support"] for label, each in report["per_class"].items() if each["support"]}
    largest = max(support, key=support.__getitem__)
    found = [Fact("accuracy", "Accuracy", **accuracy, text=FRACTION.text(accuracy["value"]),
                  beside=f"{ends(accuracy, FRACTION)} · always “{largest}” would be right for "
                         f"{FRACTION.text(support[largest] / num)}")]  # fmt: skip
    worst = missed_most(report)
    sentence = f"The model is right for {FRACTION.text(accuracy['value'])} of {num:,} test {noun}s"
    if worst is None:
        sentence = f"The model is right for all {num:,} test {noun}s"
    else:
        recall, rows = report["per_class"][worst]["recall"], report["confusion"]
        index = classes.index(worst)
        missed = support[worst] - rows[index][index]
        sentence = f"The model finds {FRACTION.text(recall['value'])} of “{worst}” and is right for " \
                   f"{FRACTION.text(accuracy['value'])} of all {noun}s"  # fmt: skip
        found.append(Fact("recall_worst", f"“{worst}” found", **recall, text=FRACTION.text(recall["value"]),
                          beside=f"{ends(recall, FRACTION)} · {missed:,} of {support[worst]:,} missed",
                          alarming=recall["upper"] < accuracy["value"]))  # fmt: skip
        found += _false_alarms(report, worst, index, num - support[worst])
    ece = report["metrics"]["ece"]
    found.append(Fact("ece", "Calibration error", **ece, text=FRACTION.text(ece["value"]),
                      beside=f"{ends(ece, FRACTION)} · how far its confidence is from how often it is right"))  # fmt: skip
    return Facts(sentence, found, words.calibrated(report))


def missed_most(report: Mapping[str, Any]) -> str | None:
    """The class with the lowest recall of those in the test, the first if tied; None if none is ever missed."""
    recalls = {label: each["recall"]["value"] for label, each in report["per_class"].items() if each["support"]}
    worst = min(recalls, key=recalls.__getitem__)
    return worst if recalls[worst] < 1 else None


def _false_alarms(report: Mapping[str, Any], worst: str, index: int, num_others: int) -> list[Fact]:
    """How many of the other examples are taken for the class; its interval is known for two classes, from the other's recall."""
    if not num_others:
        return []
    wrong = sum(row[index] for row in report["confusion"]) - report["confusion"][index][index]
    figure: dict[str, Any] = {"value": wrong / num_others, "lower": None, "upper": None}
    counted = f"{wrong:,} of {num_others:,} others taken for “{worst}”"
    if len(report["classes"]) == 2:
        (other,) = (label for label in report["classes"] if label != worst)
        recall = report["per_class"][other]["recall"]
        figure |= {"lower": 1 - recall["upper"], "upper": 1 - recall["lower"]}
        counted = f"{ends(figure, FRACTION)} · {wrong:,} of {num_others:,} “{other}” taken for “{worst}”"
    return [Fact("false_alarms", "False alarms", **figure, text=FRACTION.text(figure["value"]), beside=counted)]
