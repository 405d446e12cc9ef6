"""The plots in metrics/plots, from the files of earlier stages."""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core import cards, plugins, runs
from stages.lib.core.contracts import Metric
from stages.lib.params.schema import Compare
from stages.lib.plots import trainings


def curves(arms: dict[str, list[runs.Training]], models: dict[str, cards.ModelCard], task: str) -> None:
    """Plot the losses and the primary metric of every training, hops first."""
    hops = list(dict.fromkeys(hop for card in models.values() for hop in card.hops))
    histories = {f"hop {hop}": [history(runs.hop(hop, ""))] for hop in hops}
    histories |= {runs.shown(name): [history(each) for each in arm] for name, arm in arms.items()}
    primary, metric = primary_of(task)
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


def forgetting(forgotten: dict[str, pd.DataFrame], tasks: dict[str, str], task: str) -> None:
    """Plot how much later trainings forgot, and for wise_ft the curve over alpha; nothing without hops.

    Args:
        forgotten: for each hop, the table of the stage forgetting.
        tasks: of the hops.
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
    metrics = [primary_of(tasks[hop])[1] for hop in forgotten]
    trainings.forgetting(runs.PLOTS / "forgetting.png", names, list(forgotten), matrix, metrics)
    curves: dict[str, pd.DataFrame] = {}
    for hop in forgotten:
        path = runs.forgetting(hop) / "alpha.csv"
        if path.exists():
            by_model = cards.read_table(path).groupby("model", sort=False)
            curves |= {f"{model} against {hop}": table for model, table in by_model}
    if curves:
        primary, metric = primary_of(task)
        trainings.alphas(runs.PLOTS / "alpha.png", curves, primary, metric.fraction)


def primary_of(task: str) -> tuple[str, Metric]:
    """The name of a task's primary metric, and the metric itself."""
    name = plugins.load("tasks", task).PRIMARY
    return name, plugins.load("tasks", task, "measures").METRICS[name]
