"""The figures of a state under the names that MLflow shows: what stands before the slash is a section of its page."""

from collections.abc import Iterator
from typing import Any

from stages.lib.core.contracts import scale_of

KNOWN = ("coverage", "classes", "unlike", "recall", "precision")  # of what calibration gave; their intervals are in report.json


def of_test(report: dict[str, Any]) -> dict[str, float]:
    """The metrics from evaluate, under the names that MLflow shows."""
    return {f"test/{name}": figure["value"] for name, figure in report["metrics"].items() if is_number(figure["value"])}


def beside(report: dict[str, Any]) -> dict[str, float]:
    """The intervals of the metrics, and what calibration gave. They are params: each would be a chart with one bar, and those of
    calibration would stand before the losses."""
    found = {f"test/{name}_{end}": figure.get(end) for name, figure in report["metrics"].items() for end in ("lower", "upper")}
    found |= {f"calibrated/{name}": value for name, value in flat(report.get("calibrated", {}), "_") if name.endswith(KNOWN)}
    return {name: value for name, value in found.items() if is_number(value)}


def headline(metric: str, compare: dict[str, Any]) -> dict[str, float]:
    """The figures of a state: of the model to ship, of each arm, and the differences, in sections of MLflow's page."""
    found = {f"test/{name}": figure["value"] for name, figure in compare["shipped"]["facts"].items()}
    found |= {f"transfer/{name}": value for name, value in compare["shipped"]["transfer"].items() if name == "difference"}
    found |= {f"arms/{name}": value for name, value in compare[metric].items()}
    for key, each in compare.items():
        if isinstance(each, dict) and "p_holm" in each and key != "transfer":
            found[f"difference/{key}"] = each["difference"]
    return {name: value for name, value in found.items() if is_number(value)}


def name_of(raw: dict[str, Any], strategy: str, report: dict[str, Any]) -> str:
    """The name of a state, which begins with what differs from others: MLflow's table cuts it after 20 characters.

    Args:
        strategy: by which the model to ship was trained, also where params.yaml says auto.
    """
    primary, scale = scale_of(report)
    chain = f"{raw['inits'][0]} → {raw['target']['data']}"
    seeds = ", ".join(str(seed) for seed in raw["seeds"])
    how = strategy if raw["strategy"] == strategy else f"{strategy} ({raw['strategy']})"
    return f"{how} {scale.text(report['metrics'][primary]['value'])} · {chain} · seeds {seeds}"


def flat(value: Any, separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts by their path; {"accuracy": {"value": 0.9, "lower": 0.8}} gives accuracy, accuracy_lower.

    A dict whose keys are not names (patterns of layers) is a leaf: MLflow does not accept such params.
    """
    if not isinstance(value, dict) or not value or not all(str(name).isidentifier() for name in value):
        yield prefix, value
        return
    for name, inner in value.items():
        path = f"{prefix}{separator}{name}" if prefix else str(name)
        yield from flat(inner, separator, prefix if name == "value" and prefix else path)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
