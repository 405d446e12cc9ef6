"""Which of several ways to train the target does best: all against the one that validation prefers, on the same test examples."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core import cards, contracts
from stages.lib.core.contracts import Metric
from stages.lib.errors import UserError
from stages.lib.evaluation import comparison, pairing, verdicts
from stages.lib.evaluation.pairing import Mean
from stages.lib.evaluation.verdicts import Verdict
from stages.lib.params.schema import Compare
from stages.lib.shell import epochs
from stages.lib.states.collect import State
from stages.lib.training.recipe import flat


class Way(NamedTuple):
    """One way to train the target, with each of its seeds."""

    label: str  # its strategy, and what it has otherwise than others of the same strategy
    name: str  # of the experiment or run
    strategy: str
    val: float  # mean of the task's primary metric on validation
    test: Mean
    against: Verdict | None  # this way minus the best; None for the best itself
    epochs: float  # mean number until the one that was kept
    seconds: float | None  # mean of its trainings; None if one of them did not run here


class Compared(NamedTuple):
    """All ways, the best on validation first."""

    ways: list[Way]
    data: str  # of the test
    num_examples: int
    num_seeds: int
    primary: str  # the metric of validation
    of_validation: Metric
    name: str  # the metric of the test
    metric: Metric
    luck: dict[str, float | None]
    test: str  # sha256 of the test split
    same: list[str]  # states with the same weights as another, which are left out
    key: str  # hash of what was compared how: the same weights on the same test by the same settings


class Read(NamedTuple):
    """What the files of one state say."""

    state: State
    runs: list[dict[str, Any]]
    reports: list[dict[str, Any]]
    predictions: np.ndarray  # (S, N, ...)
    targets: np.ndarray
    keys: list[tuple[str, ...]]  # key, label, group
    groups: np.ndarray | None


def compared(states: Sequence[State], settings: Compare) -> Compared:
    """Compare states on the same test examples, paired by seed, corrected for their number (stages.lib.evaluation.verdicts).

    The best is the one with the best mean of the task's primary metric on validation, and of these the one with the lowest
    validation loss: the test chooses nothing, so what it says of the best is not flattered by the choice.

    Raises:
        UserError: fewer than two ways, or they were not measured on the same examples with the same seeds.
    """
    every = [_read(state) for state in states]
    require_same(every)
    found: dict[tuple[str, ...], Read] = {}
    same = []
    for each in every:
        weights = tuple(run["model"] for run in each.runs)
        if weights in found:
            same.append(f"{each.state.name}: the same weights as {found[weights].state.name}")
        found.setdefault(weights, each)
    if len(found) < 2:
        raise UserError("\n".join([
            f"{'One way' if found else 'No way'} to train this target is recorded, and comparing needs two. `python -m stages "
            "strategies --run` trains the usual ones.", *same,
        ]))  # fmt: skip
    first = next(iter(found.values()))
    task = first.reports[0]["task"]
    primary, of_validation = contracts.primary(task)
    sign = 1 if of_validation.higher_is_better else -1
    order = sorted(found.values(), key=lambda each: (-sign * _mean(each, f"val_{primary}"), _mean(each, "val_loss")))
    metric = comparison.metric_of(cards.parsed(first.state.folders[0] / "card.json", cards.ModelCard), settings.metric)
    how = comparison.bootstrap(settings)
    drawn = [pairing.resampled_mean(metric, each.predictions, first.targets, first.groups, **how) for each in order]
    best, others = order[0], range(1, len(order))
    differences = {
        str(index): pairing.paired(metric, order[index].predictions, best.predictions, first.targets, first.groups, **how)
        for index in others
    }
    judged = verdicts.judged(differences, metric, settings.model_copy(update={"looks": []}), len(best.runs))
    labels = _labels(order)
    ways = [
        Way(labels[index], each.state.name, each.runs[0]["settings"]["strategy"], _mean(each, f"val_{primary}"),
            pairing.mean_of(*drawn[index], settings.confidence), judged.get(str(index)), _mean(each, "epoch"), _seconds(each))
        for index, each in enumerate(order)
    ]  # fmt: skip
    luck = verdicts.luck([samples for _, samples in drawn])
    report = first.reports[0]
    what = json.dumps([sorted(found), report["test"], settings.model_dump()], sort_keys=True)
    return Compared(ways, report["data"], report["num_examples"], len(best.runs), primary, of_validation, settings.metric, metric,
                    luck, report["test"], same, hashlib.sha256(what.encode()).hexdigest())  # fmt: skip


def require_same(every: Sequence[Read]) -> None:
    """Raise a UserError if states cannot be compared: another test, other labels or other seeds."""
    wrong = []
    for each in every[1:]:
        first = every[0]
        if each.state.params["seeds"] != first.state.params["seeds"]:
            wrong.append(f"{each.state.name} has seeds {each.state.params['seeds']}, {first.state.name} "
                         f"{first.state.params['seeds']}")  # fmt: skip
        elif each.keys != first.keys:
            wrong.append(f"{each.state.name} was measured on {each.reports[0]['num_examples']} test examples of "
                         f"{each.reports[0]['data']}, {first.state.name} on {first.reports[0]['num_examples']} of "
                         f"{first.reports[0]['data']}, and they are not the same")  # fmt: skip
    if wrong:
        raise UserError("\n".join(["These cannot be compared, example by example and seed by seed:", *wrong]))


def _read(state: State) -> Read:
    parts, reports, trained = [], [], []
    for folder in state.folders:
        card = cards.parsed(folder / "card.json", cards.ModelCard)
        table = comparison.read_predictions(folder / "predictions.csv")
        predictions, targets = comparison.parsed(folder / "predictions.csv", table, card)
        parts.append(predictions)
        reports.append(cards.read_json(folder / "report.json"))
        trained.append(cards.read_json(folder / "run.json"))
        if trained[-1]["model"] != reports[-1]["model"]:
            raise UserError(f"{state.name}: {trained[-1]['name']} was trained again since it was tested. Run: dvc repro")
    keys = list(table[["key", "label", "group"]].itertuples(index=False, name=None))
    return Read(state, trained, reports, comparison.stacked(parts), targets, keys, comparison.groups_of(table))


def _mean(each: Read, name: str) -> float:
    return fmean(run["best"][name] for run in each.runs)


def _seconds(each: Read) -> float | None:
    known = [seconds for run in each.runs if (seconds := epochs.seconds_of(run["key"])) is not None]
    return fmean(known) if len(known) == len(each.runs) else None


def _labels(found: Sequence[Read]) -> list[str]:
    """The strategy of each, and in brackets what it has otherwise than others of the same strategy."""
    all_settings = [_settings(each) for each in found]
    labels = []
    for own in all_settings:
        alike = [other for other in all_settings if other["strategy"] == own["strategy"]]
        differing = {key: value for key, value in own.items() if any(other.get(key) != value for other in alike)}
        words = ", ".join(f"{key} {value}" for key, value in differing.items())
        labels.append(f"{own['strategy']} ({words})" if words else own["strategy"])
    return labels


def _settings(each: Read) -> Mapping[str, Any]:
    """What decides how a target is trained, from its recipe and from the blocks of its data and its starting point."""
    raw = each.state.params
    init, data = raw["inits"][0], raw["target"]["data"]
    others = {"from": init, "on": data, "datasets": {data: raw["datasets"][data]}, "intermediate": raw["intermediate"],
              "seed": raw["seed"]}  # fmt: skip
    return flat(others) | {key: value for key, value in each.runs[0]["settings"].items() if key != "seed"}
