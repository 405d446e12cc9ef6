"""What the calibration of a classifier gave, in sentences, from its report.json."""

from collections.abc import Mapping
from typing import Any


def calibrated(report: Mapping[str, Any]) -> list[str]:
    """What the decision changes, the distances to the training data, the sets, and for what validation is too small."""
    lines, calibrated = [], report.get("calibrated", {})
    if decision := calibrated.get("decision"):
        label, each, plain = decision["label"], decision["metrics"], report["per_class"][decision["label"]]
        chosen = f"chosen on validation to find {decision['wanted']:.0%} of it" if "wanted" in decision else "as the params say"
        lines.append(
            f"It answers {label} from a probability of {decision['threshold']:.3g} on ({chosen}): of the examples of {label} "
            f"it then finds {_percent(each['recall'])} instead of {_percent(plain['recall'])}, and of its answers {label} "
            f"{_percent(each['precision'])} instead of {_percent(plain['precision'])} are right."
        )
        if decision.get("promised", 1) < decision.get("wanted", 0):
            lines.append(
                f"Validation has {decision['known']} examples of {label}, which can promise {decision['promised']:.0%} at most; "
                f"{decision['wanted']:.0%} needs {decision['needed']}."
            )
    if far := calibrated.get("unlike"):
        lines.append(f"It calls {_interval(far)} of the test examples unlike the training data "
                     f"({100 * far['expected']:.3g} % was to be expected).")  # fmt: skip
    for each in (each for name, each in calibrated.items() if name.startswith("set_")):
        share = f"{100 * each['share']:g} %"
        if each["known"] < each["needed"]:
            lines.append(f"Its prediction sets at {share} hold all classes: validation has {each['known']} examples, and "
                         f"{each['needed']} are needed.")  # fmt: skip
        else:
            one = "" if each["classes"] == 1 else "es"
            expected = " to ".join(f"{100 * each[f'expected_{end}']:.1f}" for end in ("lower", "upper"))
            lines.append(
                f"Its prediction sets at {share} hold the right class of {_interval(each['coverage'])} of the examples "
                f"({expected} % was to be expected), and {each['classes']:.3g} class{one} on average."
            )
    return lines


def _percent(entry: Mapping[str, float | None]) -> str:
    return "an unknown share" if entry["value"] is None else f"{100 * entry['value']:.1f} %"


def _interval(entry: Mapping[str, float]) -> str:
    value, lower, upper = (100 * entry[name] for name in ("value", "lower", "upper"))
    return f"{value:.1f} % ({lower:.1f} to {upper:.1f} %)"
