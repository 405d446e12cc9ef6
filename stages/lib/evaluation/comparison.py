"""The target against its controls: the list of comparisons, and each arm's predictions on the same test examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.core import cards, plugins
from stages.lib.core.cards import ModelCard
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import SCRATCH, as_is
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.evaluation import pairing, statistics
from stages.lib.params.schema import Compare

TEXT = ("key", "group", "label", "predicted")  # columns of predictions.csv that are always read as text


class Test(NamedTuple):
    """The test split, the same for all arms."""

    data: str
    keys: list[str]
    targets: np.ndarray  # (N, ...)
    groups: np.ndarray | None  # (N,), if there are several
    only_group: str  # the name of the group that all belong to, or ""
    split_by_group: bool
    split_given: bool  # whether it came with the data


class Pair(NamedTuple):
    """One comparison of the proposal with a control."""

    key: str  # in compare.json
    question: str  # for the report
    control: str


def best(models: Mapping[str, ModelCard]) -> str:
    """The target with the lowest validation loss; the first if tied. Selecting on the test set would make scores optimistic."""
    return min(models, key=lambda name: models[name].best["val_loss"])


def plan(
    proposal: str, chain: list[str], controls: Sequence[str], alternatives: Mapping[str, str], titles: Mapping[str, str]
) -> list[Pair]:
    """The comparisons: the proposal against random weights, each other starting point, each other way to train it, and what needs
    no training on the target.

    Args:
        chain: names from the source to the proposal (the last); a control in it is the proposal without its last hops.
        alternatives: how each trains, in words, by name.
        titles: of the arms of the stage controls, by name.
    """
    pairs = [Pair("transfer", f"Transfer as a whole ({' -> '.join(chain)}, against random weights)", SCRATCH)]
    for control in controls:
        if control in chain:
            hops = chain[chain.index(control) + 1 :]
            key = "intermediate" if control == chain[0] else f"intermediate_after_{control}"
            plural = "s" if len(hops) > 1 else ""
            pairs.append(Pair(key, f"The intermediate hop{plural} ({', '.join(hops)}, against {control} directly)", control))
        else:
            pairs.append(Pair(f"{proposal}_against_{control}", f"{proposal} against {control}", control))
    for name, way in alternatives.items():
        pairs.append(Pair(f"against_{name}", f"Training as it does ({proposal}, against {name}: {way})", name))
    for arm, title in titles.items():
        own = arm == as_is(proposal)
        question = f"{'Training on the target' if own else 'A network'} at all ({proposal}, against {title})"
        pairs.append(Pair("training" if own else f"against_{arm}", question, arm))
    return pairs


def figure(metric_name: str, evaluations: Sequence[Path], drawn: tuple[float, np.ndarray], confidence: float) -> pairing.Mean:
    """The figure of an arm with its interval: of a single model that of its own test, so that one page has one interval for one
    figure; of several seeds their mean.

    Args:
        evaluations: of each seed.
        drawn: as `pairing.resampled_mean` returns it.
        confidence: of the interval; a test with another one has another interval.
    """
    if len(set(evaluations)) == 1:
        report = cards.read_json(evaluations[0] / "report.json")
        own: pairing.Mean | None = report["metrics"].get(metric_name)
        if report["confidence"] == confidence and own and own["value"] is not None:
            return own
    return pairing.mean_of(*drawn, confidence)


def metric_of(card: ModelCard, name: str) -> Metric:
    """A metric of a model's task."""
    metric: Metric = plugins.load("tasks", card.trained_for, "measures").METRICS[name]
    return metric


def bootstrap(settings: Compare) -> dict[str, Any]:
    """The keyword arguments of the bootstrap. Its seed is fixed, so measurements do not depend on the experiment's seed."""
    return {"num_resamples": settings.num_resamples, "seed": seed_for(0, "compare", "bootstrap")}


def read_arms(evaluations: Mapping[str, Sequence[Path]], card: ModelCard) -> tuple[Test, dict[str, np.ndarray]]:
    """Read the predictions of every arm.

    Args:
        evaluations: of each arm, the folders that evaluate (or controls) wrote, one per seed.
        card: of any target; gives the task, the outputs and the data.

    Returns:
        The test split, and for each arm its predictions (S, N, ...).

    Raises:
        UserError: arms were measured on different examples, or in a different order.
    """
    test: Test | None = None
    first, found = pd.DataFrame(), {}
    for arm, folders in evaluations.items():
        parts = []
        for folder in folders:
            table = read_predictions(folder / "predictions.csv")
            predictions, targets = parsed(folder / "predictions.csv", table, card)
            if test is None:
                report = cards.read_json(folder / "report.json")
                split = {key: report[key] for key in ("split_by_group", "split_given")}
                only = "" if len(set(table["group"])) > 1 else str(table["group"].iloc[0])
                test = Test(report["data"], table["key"].tolist(), targets, groups_of(table), only, **split)
                first, name = table[["key", "label", "group"]], folder.name
            elif not table[["key", "label", "group"]].equals(first):
                raise UserError(
                    f"The predictions of {name} and {folder.name} are not for the same test examples in the same order, so "
                    f"they cannot be compared ({folder.parent}). Make them again with: dvc repro"
                )
            parts.append(predictions)
        found[arm] = stacked(parts)
    assert test is not None, "there is always an arm of random weights"
    return test, found


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Predictions (N, ...) of several models as (S, N, ...) float64; texts of different lengths are padded with -1."""
    shape = np.max([part.shape for part in parts], axis=0)
    padded = [np.pad(part, [(0, most - own) for most, own in zip(shape, part.shape, strict=True)], constant_values=-1)
              for part in parts]  # fmt: skip
    joined: np.ndarray = np.stack(padded).astype(np.float64)
    return joined


def groups_of(table: pd.DataFrame) -> np.ndarray | None:
    """The group of each test example (N,), or None if the data does not have several."""
    return statistics.units(table["group"].to_numpy())


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the table that evaluate wrote, with names as text."""
    return cards.read_table(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False)


def parsed(path: Path, table: pd.DataFrame, card: ModelCard) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets from a table of predictions; a UserError if the table is not from such a model."""
    try:
        predictions, targets = plugins.load("tasks", card.trained_for, "measures").read(table, card.output_names)
    except KeyError as error:
        raise UserError(f"{path} was written for another task or other labels ({error}); run dvc repro") from None
    return predictions, targets


def against(old: Path, new: Path, card: ModelCard, settings: Compare) -> tuple[bool, str]:
    """Whether one model is better than another on the same test examples, beyond chance.

    Args:
        old, new: the tables that evaluate wrote for the two models.
        card: of the new model.
        settings: the section `compare`.

    Returns:
        Whether the new model is better, and a sentence that says why.
    """
    tables = [read_predictions(path) for path in (old, new)]
    try:
        arms = [parsed(path, table, card) for path, table in zip((old, new), tables, strict=True)]
    except UserError:
        return False, "it was trained for other labels, so the two cannot be compared."
    same = [table.set_index("key")[["label", "group"]] for table in tables]
    if not same[0].equals(same[1]):
        return False, "it was measured on other test examples, so the two cannot be compared."
    metric, (first, second) = metric_of(card, settings.metric), (predictions.astype(np.float64)[None] for predictions, _ in arms)
    how = bootstrap(settings) | {"confidence": settings.confidence}
    found = pairing.paired_difference(metric, second, first, arms[0][1], groups_of(tables[0]), **how)
    between = f"{100 * settings.confidence:g} % interval {metric.change(found['lower'])} to {metric.change(found['upper'])}"
    words = f"{metric.change(found['difference'])} {metric.unit(settings.metric)} on the same {len(tables[0])} test examples"
    better = found["verdict"] == "helps"
    return better, f"{words} ({between}): {'better' if better else 'not shown to be better'}."


def without_leaks(
    leaks: Mapping[str, Any],
    tested_on: str,
    metric: Metric,
    test: Test,
    predictions: Mapping[str, np.ndarray],
    how: dict[str, Any],
) -> dict[str, float | None] | None:
    """The metric of each arm on the test examples that are in no training data.

    Args:
        leaks: leaks.json.
        tested_on: the dataset of the test.
        predictions: (S, N, ...) of each arm, one for each seed.
        how: of the bootstrap.

    Returns:
        None if these are all examples, or none of them. What is measured may be episodes, whose keys are no test examples.
    """
    leaked = {key for each in leaks["compared"] if each["tested_on"] == tested_on for key in each["keys"]}
    kept = np.array([key not in leaked for key in test.keys])
    if kept.all() or not kept.any():
        return None
    groups = None if test.groups is None else test.groups[kept]
    return {name: float(pairing.resampled_mean(metric, arm[:, kept], test.targets[kept], groups, **how)[0])
            for name, arm in predictions.items()}  # fmt: skip
