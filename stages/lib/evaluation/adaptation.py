"""What adapting to unlabelled inputs did, looked at with their labels once all training is over."""

from typing import NamedTuple

import pandas as pd

from stages.lib.core import cards, datasets
from stages.lib.core.runs import Training, prepared


class Adapted(NamedTuple):
    """One training that adapted to unlabelled inputs."""

    name: str
    told_apart: tuple[float, float]  # share of examples whose domain a linear classifier tells by the features, before and after
    a_distance: tuple[float, float]
    right: dict[str, float]  # share of right answers on unlabelled validation inputs, by what chooses the epoch


def read(training: Training, unlabelled: str) -> Adapted | None:
    """What a training did, or None if it adapted to nothing.

    Args:
        unlabelled: the dataset whose inputs it adapted to; the labels of its validation split are read.
    """
    path = training.metrics / "answers.csv"
    if not path.exists():
        return None
    answers, history = (
        cards.read_table(path, dtype=str, keep_default_na=False),
        cards.read_table(training.metrics / "history.csv"),
    )
    domains = cards.read_table(training.metrics / "domains.csv").set_index("model").loc[["before", "after"]]
    kept = cards.read_json(training.metrics / "run.json")["best"]["epoch"]
    labels = datasets.read_split(prepared(unlabelled), "val").labels
    right = [float((answers[column] == labels).mean()) for column in answers]
    chosen = {way: right[epoch - 1] for way, epoch in ({"kept": kept} | choices(history)).items()}
    before, after = ((float(row.told_apart), float(row.a_distance)) for row in domains.itertuples())
    return Adapted(training.name, (before[0], after[0]), (before[1], after[1]), chosen | {"labels": max(right)})


def choices(history: pd.DataFrame) -> dict[str, int]:
    """The epochs (from 1) that need no labels of the other domain: the lowest validation loss, and the highest information; only
    epochs that could have been kept count."""
    rows = history[history.epoch >= history.epoch[history.best].iloc[0]]
    return {"loss": int(rows.epoch[rows.val_loss.idxmin()]), "information": int(rows.epoch[rows.val_information.idxmax()])}
