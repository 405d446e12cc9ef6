"""The report's section on a classifier: each class, a threshold to try where there are two, confusions and calibration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.lib.plots import svg
from stages.lib.tasks.classify.facts import FRACTION, missed_most

MOST_CLASSES = 12  # in a matrix; of more, the most frequent confusions are listed
MOST_CONFUSIONS = 12
COLUMNS = {"recall": "found", "precision": "right when said", "false_alarms": "false alarms", "f1": "F1", "auroc": "AUROC"}
HINT = "On this test. A threshold that is chosen by it looks better than it is: choose one by validation examples."


def section(folder: Path, report: Mapping[str, Any]) -> Markup:
    """The section as HTML.

    Args:
        folder: what evaluate wrote of the model.
        report: its report.json.
    """
    parts = [_classes(report), _threshold(folder, report), _confusions(report), _reliability(folder)]
    return Markup("\n").join(parts)


def _classes(report: Mapping[str, Any]) -> Markup:
    """Each class, the one that is missed most first."""
    classes = sorted(
        report["per_class"].items(), key=lambda item: (item[1]["recall"]["value"] is None, item[1]["recall"]["value"])
    )
    rows = [[name, *(_figure(each[column]) for column in COLUMNS), f"{each['support']:,}"] for name, each in classes]
    note = Markup('<p class="small">Found: how many of the class are recognised (recall). Right when said: how many of '
                  "those that it takes for the class belong to it (precision). False alarms: how many of the others it takes "
                  "for it.</p>")  # fmt: skip
    return svg.table(["class", *COLUMNS.values(), "test examples"], rows) + note


def _figure(figure: Mapping[str, float | None]) -> Markup:
    """A value, with its interval beneath."""
    value, lower, upper = (figure[name] for name in ("value", "lower", "upper"))
    if value is None:
        return Markup("–")
    ends = "" if lower is None or upper is None else f"{100 * lower:.1f} to {100 * upper:.1f}"
    return Markup("{}<small>{}</small>").format(FRACTION.text(value), ends)


def _threshold(folder: Path, report: Mapping[str, Any]) -> Markup:
    """A slider that says what another threshold would do; only for two classes. It needs the script of the page."""
    if len(report["classes"]) != 2:
        return Markup("")
    positive = missed_most(report) or report["classes"][1]
    (other,) = (name for name in report["classes"] if name != positive)
    decision = report.get("calibrated", {}).get("decision", {})  # of the model, if the params ask for one
    own_rule = (
        f"The model itself says so from {100 * decision['threshold']:.3g} % on. " if decision.get("label") == positive else ""
    )
    table = pd.read_csv(folder / "predictions.csv", dtype={"label": str}, keep_default_na=False)
    scores = (10_000 * table[f"p_{positive}"]).astype(int)  # rounded down, so that 0.49996 stays below a half
    belong = table.label == positive
    own, others = (json.dumps(sorted(scores[which].tolist()), separators=(",", ":")) for which in (belong, ~belong))
    text = (
        '<div class="threshold" hidden data-own="{}" data-others="{}" data-name="{}" data-other="{}"><label>Say “{}” from a '
        'probability of <output>50</output> % on<input type="range" min="1" max="99" value="50"></label>'
        '<p class="said"></p><p class="small">{}</p></div>'
    )
    return Markup(text).format(  # noqa: S704 (our own)
        own, others, positive, other, positive, own_rule + HINT
    )


def _confusions(report: Mapping[str, Any]) -> Markup:
    classes, counts = report["classes"], report["confusion"]
    if len(classes) <= MOST_CLASSES:
        rows = []
        for name, row in zip(classes, counts, strict=True):
            num = max(1, sum(row))
            rows.append((name, [(f"{count:,}", count / num) for count in row]))
        return Markup("<h3>What is taken for what</h3>") + svg.heat("true class ↓ said →", classes, rows)
    pairs = [(count, classes[actual], classes[said]) for actual, row in enumerate(counts)
             for said, count in enumerate(row) if count and actual != said]  # fmt: skip
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    most = [[actual, said, f"{count:,}"] for count, actual, said in pairs[:MOST_CONFUSIONS]]
    head = Markup("<h3>What is taken for what, most often</h3>")
    return head + svg.table(["true class", "said", "times"], most, text=2)


def _reliability(folder: Path) -> Markup:
    bins = pd.read_csv(folder / "reliability.csv")
    bins = bins[bins["count"] > 0]
    num = bins["count"].sum()
    sure, right = ((bins[name] * bins["count"]).sum() / num for name in ("confidence", "accuracy"))
    more = "surer than it is right" if sure > right else "less sure than it is right"
    words = (
        f"On average it is {100 * sure:.1f} % sure and {100 * right:.1f} % right: {100 * abs(sure - right):.1f} points {more}."
    )
    curve = svg.Line(bins["confidence"].tolist(), bins["accuracy"].tolist(), "c0")
    drawn = svg.lines("How often it is right, %", [curve], x="confidence, %", percent=True, diagonal=True)
    return Markup('<h3>Can its confidence be believed?</h3><div class="two calibration">{}<p>{}</p></div>').format(drawn, words)
