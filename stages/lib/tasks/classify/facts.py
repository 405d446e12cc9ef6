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
        recall, index = report["per_class"][worst]["recall"], classes.index(worst)
        missed = support[worst] - report["confusion"][index][index]
        sentence = f"The model finds {FRACTION.text(recall['value'])} of “{worst}” and is right for " \
                   f"{FRACTION.text(accuracy['value'])} of all {noun}s"  # fmt: skip
        found.append(Fact("recall_worst", f"“{worst}” found", **recall, text=FRACTION.text(recall["value"]),
                          beside=f"{ends(recall, FRACTION)} · {missed:,} of {support[worst]:,} missed",
                          alarming=recall["upper"] < accuracy["value"]))  # fmt: skip
        if num > support[worst]:
            found.append(_false_alarms(report, worst, index, num - support[worst]))
    ece = report["metrics"]["ece"]
    found.append(Fact("ece", "Calibration error", **ece, text=FRACTION.text(ece["value"]),
                      beside=f"{ends(ece, FRACTION)} · how far its confidence is from how often it is right"))  # fmt: skip
    return Facts(sentence, found, words.calibrated(report))


def missed_most(report: Mapping[str, Any]) -> str | None:
    """The class with the lowest recall of those in the test, the first if tied; None if none is ever missed."""
    recalls = {label: each["recall"]["value"] for label, each in report["per_class"].items() if each["support"]}
    worst = min(recalls, key=recalls.__getitem__)
    return worst if recalls[worst] < 1 else None


def _false_alarms(report: Mapping[str, Any], worst: str, index: int, num_others: int) -> Fact:
    """How many of the other examples are taken for the class."""
    figure = report["per_class"][worst]["false_alarms"]
    wrong = sum(row[index] for row in report["confusion"]) - report["confusion"][index][index]
    first, *more = (f"“{label}”" for label in report["classes"] if label != worst)
    beside = f"{ends(figure, FRACTION)} · {wrong:,} of {num_others:,} {'others' if more else first} taken for “{worst}”"
    return Fact("false_alarms", "False alarms", **figure, text=FRACTION.text(figure["value"]), beside=beside)
