"""The verdict in words, for readers: what was asked, what the intervals say, and what they do not cover."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.lib import artifacts

METRICS = Path("metrics")
SCRATCH = "scratch"  # the arm from random weights; no source or hop may have this name


class Test(NamedTuple):
    """What the test split looks like, the same for all arms."""

    data: str
    classes: list[str]
    keys: list[str]
    labels: np.ndarray  # (N,) indices into classes
    groups: np.ndarray | None  # (N,)
    split_by_group: bool
    split_given: bool  # it came with the data


class Pair(NamedTuple):
    """One comparison of the proposal with a control."""

    key: str  # in compare.json
    question: str  # for readers
    control: str


def verdict(p, test: Test, chain: list[str], pairs: list[Pair], results: dict, differences: dict, cards: dict, ship: str) -> str:
    """The report for readers, as Markdown."""
    metric, sure, num_seeds = p.compare.metric.replace("_", " "), f"{p.compare.confidence:.0%} interval", len(p.seeds)
    lines = [f"# Verdict: {' -> '.join([*chain, test.data])}", ""]
    for pair in pairs:
        d = differences[pair.key]
        between = f"{sure} {points(d['lower'])} to {points(d['upper'])}{', for one seed only' if num_seeds == 1 else ''}"
        lines.append(f"- **{pair.question}: {d['verdict']}**, {points(d['difference'])} points of {metric} ({between}).")
    lines += [f"- **Ship models/target/{ship}**, the target with the lowest validation loss."]
    if differences["transfer"]["verdict"] == "hurts":
        lines += [f"- **Random weights did better here**: consider models/scratch/{p.seeds[0]} instead."]
    lines += [""]

    lines += ["## Measured", "", f"| target trained from | {metric} | {sure} |", "| --- | --- | --- |"]
    for row, (name, r) in enumerate(results.items()):
        start = ("random weights" if name == SCRATCH else name) + (" (control)" if row else " (proposal)")
        lines.append(f"| {start} | {percent(r['value'])} | {percent(r['lower'])} to {percent(r['upper'])} |")
    averaged = f", each figure the mean over {num_seeds} seeds" if num_seeds > 1 else ""
    lines += [
        "",
        f"On {len(test.keys)} test images of {test.data}{averaged}. The intervals of single models may overlap although one is",
    ]
    lines += ["better: the paired differences decide, because all models are measured on the same images.", ""]

    lines += ["## What the intervals cover, and what they do not", ""]
    lines += [f"- {line}" for line in covered(p, test)]
    lines += ["", "## Which model to ship", "", "| model | validation loss |", "| --- | --- |"]
    lines += [f"| models/target/{name} | {card['best']['val_loss']:.4f} |" for name, card in cards.items()]
    lines += [
        "",
        f"The lowest is shipped: models/target/{ship}. The test images have no say in it: a model chosen by them would look",
    ]
    lines += ["better on them than it is."]
    return "\n".join(lines) + "\n"


def signs(p, forgotten: dict[str, pd.DataFrame]) -> list[str]:
    """What the look at the data and training warned of, and which earlier tasks were forgotten, a line each.

    Args:
        forgotten: for each hop, what stages.forgetting wrote.
    """
    folders = [METRICS / "intermediate" / hop for hop in p.intermediate]
    folders += [METRICS / "target" / f"{init}-{seed}" for init in p.inits for seed in p.seeds]
    folders += [METRICS / SCRATCH / str(seed) for seed in p.seeds]
    runs = [artifacts.read_json(folder / "run.json") for folder in folders]
    lines = [f"- Preprocessing: {warning}" for warning in artifacts.read_json(METRICS / "advise.json")["warnings"]]
    lines += [f"- {run['name']}: {warning}" for run in runs for warning in run["warnings"]]
    for hop, table in forgotten.items():
        for row in table[(table.change < -p.checks.forgetting) & (table.upper < 0)].itertuples():
            lines.append(
                f"- Catastrophic forgetting: after {row.model}, {hop} is recognised with {percent(row.accuracy)} instead of "
                f"{percent(row.before)} ({points(row.change)} points, {points(row.lower)} to {points(row.upper)}; under the head "
                f"that it had). Where {hop} still matters, keep models/{hop} beside the new model, or choose strategy wise_ft, "
                "l2_sp or feature_extraction, or a smaller lr."
            )
    kept = f"no earlier task lost more than {100 * p.checks.forgetting:g} points" if forgotten else "no earlier task"
    return lines or [f"None found: no wrong preprocessing, no learning rate too high, no forgotten freezing, {kept}."]


def covered(p, test: Test) -> list[str]:
    """What the intervals stand for and what they do not, a sentence or two each."""
    num_seeds = len(p.seeds)
    lines = [f"Covered, the choice of the test images: {p.compare.num_resamples} resamples, the same for all models."]
    if test.groups is not None:
        lines += [
            f"The images belong to {len(set(test.groups))} groups, which were drawn whole, because images of a group are alike."
        ]
    else:
        lines += [
            "Each image was drawn by itself, because the data names no groups. Where several images show one object, the true "
            "intervals are wider."
        ]
    if num_seeds == 1:
        lines += [
            f"Not covered, the training: there is one seed ({p.seeds[0]}), so this is about these models. Trained again with "
            "another seed they may rank otherwise; `seeds` in params.yaml takes more."
        ]
    else:
        few = " So few show only roughly what a seed changes." if num_seeds < 5 else ""
        lines += [f"Covered, the training: the {num_seeds} seeds were resampled too, as pairs.{few}"]
    if test.split_given:
        lines += ["Not known, how the test images were chosen: the split came with the data."]
    elif not test.split_by_group:
        lines += [
            "Not covered, a new place: the split was not made by groups, so images that resemble each other may lie in training "
            "and test, which flatters all models."
        ]
    return [
        *lines,
        "Not covered, the settings: the control from random weights has its own (section scratch), all other targets share one.",
        f"Each comparison by itself is sure to {p.compare.confidence:.0%}; several of them together are less so.",
        "A verdict of no difference shown does not mean that there is none: whatever lies in the interval is possible.",
    ]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    return f"{100 * value:+.1f}"
