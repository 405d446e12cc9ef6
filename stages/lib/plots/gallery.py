"""The plots in metrics/plots, from the files of earlier stages."""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import cards, contracts, runs
from stages.lib.core.contracts import Metric
from stages.lib.params.schema import Compare
from stages.lib.plots import trainings


def curves(arms: dict[str, list[runs.Training]], models: dict[str, cards.ModelCard], task: str) -> None:
    """Plot the losses and the primary metric of every training, hops first."""
    hops = list(dict.fromkeys(hop for card in models.values() for hop in card.hops))
    histories = {f"hop {hop}": [history(runs.hop(hop, ""))] for hop in hops}
    histories |= {runs.shown(name): [history(each) for each in arm] for name, arm in arms.items()}
    primary, metric = contracts.primary(task)
    trainings.curves(runs.PLOTS / "curves.png", histories, len(hops), primary, metric.fraction)


def history(training: runs.Training) -> pd.DataFrame:
    """The epochs of one training; the column `kept` marks the epoch whose model was kept."""
    table = cards.read_table(training.metrics / "history.csv")
    return table.assign(kept=table["epoch"] == cards.read_json(training.metrics / "run.json")["best"]["epoch"])


def comparison(settings: Compare, metric: Metric, results: dict[str, Any], differences: list[tuple[str, Any]]) -> None:
    """Plot the metric of each arm, and the paired differences."""
    arms = {runs.shown(name): result for name, result in results.items()}
    path = runs.PLOTS / "comparison.png"
    trainings.comparison(path, settings.metric.replace("_", " "), metric, arms, differences, settings.confidence)


def domains(arms: dict[str, list[runs.Training]]) -> None:
    """Plot where the examples of both domains lie, for the first seed of each arm that adapted to unlabelled inputs."""
    points, distances = {}, {}
    for name, (first, *_) in arms.items():
        if (first.metrics / "domain_points.csv").exists():
            points[name] = cards.read_table(first.metrics / "domain_points.csv")
            distances[name] = cards.read_table(first.metrics / "domains.csv").set_index("model").a_distance
    if points:
        trainings.domains(runs.PLOTS / "domains.png", points, distances)


def forgetting(forgotten: dict[str, pd.DataFrame], task: str) -> None:
    """Plot how much later trainings forgot, and for wise_ft the curve over alpha; nothing without hops.

    Args:
        forgotten: for each hop, the table of the stage forgetting.
        task: of the target.
    """
    rows = list(dict.fromkeys(model for table in forgotten.values() for model in table.model))
    if not rows:
        return
    names = [f"hop {hop}" for hop in forgotten] + [row for row in rows if row not in forgotten]
    matrix = np.full((len(names), len(forgotten)), np.nan)
    for column, (hop, table) in enumerate(forgotten.items()):
        matrix[names.index(f"hop {hop}"), column] = table.before.iloc[0] if len(table) else np.nan
        for row in table.itertuples():
            matrix[names.index(f"hop {row.model}" if row.model in forgotten else row.model), column] = row.after
    reports = {hop: cards.read_json(runs.hop(hop, "").evaluation / "report.json") for hop in forgotten}
    earlier = {hop: contracts.scale_of(report) for hop, report in reports.items()}
    scales = [scale for _, scale in earlier.values()]
    chances = [float(table.chance.iloc[0]) if len(table) else np.nan for table in forgotten.values()]
    trainings.forgetting(runs.PLOTS / "forgetting.png", names, list(forgotten), matrix, scales, chances)
    curves: dict[str, pd.DataFrame] = {}
    for hop in forgotten:
        path = runs.forgetting(hop) / "alpha.csv"
        if path.exists():
            table = cards.read_table(path)
            factor = 100 if earlier[hop][1].fraction else 1
            table["earlier"] *= factor
            curves |= {f"{model} against {hop}": each for model, each in table.groupby("model", sort=False)}
    if curves:
        names_of_earlier = sorted({str(table.metric.iloc[0]) for table in forgotten.values() if len(table)})
        trainings.alphas(runs.PLOTS / "alpha.png", curves, *contracts.primary(task), " or ".join(names_of_earlier))
