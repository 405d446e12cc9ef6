"""What was spent on each arm: epochs and examples seen, which stand beside its figure; and controls that got too little."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stages.lib.core import cards, runs
from stages.lib.core.runs import Training, shown

NO_EPOCHS = "none"  # of a head that is an optimum, or of nearest neighbours


class Spent(NamedTuple):
    """What one training saw; unlike time it does not depend on the machine."""

    epochs: int  # 0 for a strategy that trains nothing
    examples: int | None  # in all epochs; None where this is not known
    rising: bool  # whether the last epoch was the best, so that more of them might have helped


def spent(training: Training, num_train: int | None) -> Spent:
    """What a training saw.

    Args:
        num_train: its training examples; None if that is not known.
    """
    history = cards.read_table(training.metrics / "history.csv")
    epochs = int(history.train_loss.count())  # a strategy that trains nothing has one row without a training loss
    best = cards.read_json(training.metrics / "run.json")["best"]["epoch"]
    rising = epochs > 0 and bool(history.epoch.iloc[-1] == best)
    return Spent(epochs, None if num_train is None else epochs * num_train, rising)


def of_arms(arms: Mapping[str, Sequence[Training]], data: str) -> dict[str, list[Spent]]:
    """What each training of each arm saw; examples are counted for those on the target's own data."""
    num = cards.read_data_card(runs.prepared(data)).num("train")
    return {name: [spent(each, num if each.data == data else None) for each in arm] for name, arm in arms.items()}


def told(found: Sequence[Spent]) -> tuple[str, str]:
    """Epochs and examples of an arm for a table: one number, or the range over its seeds; none if its answers are computed from
    features, of which 0 epochs over 0 examples would say that it saw nothing."""
    if found and not any(each.epochs for each in found):
        return NO_EPOCHS, "–"
    examples = [each.examples for each in found if each.examples is not None]
    return _range([each.epochs for each in found]), _range(examples)


def starved(proposal: str, arms: Mapping[str, Sequence[Spent]]) -> dict[str, tuple[int, int]]:
    """The controls that saw fewer examples than the proposal and were still getting better when they stopped: the examples of
    the first such training, and of the proposal's."""
    found = {}
    for control in (name for name in arms if name != proposal):
        fewer = [(own.examples or 0, most.examples or 0) for own, most in zip(arms[control], arms[proposal], strict=True)
                 if own.rising and (own.examples or 0) < (most.examples or 0)]  # fmt: skip
        if fewer:
            found[control] = fewer[0]
    return found


def in_words(found: Mapping[str, tuple[int, int]], proposal: str) -> list[str]:
    """A line for each control that `starved` finds."""
    return [f"- **{shown(control)}: stopped while it was still getting better**, after {own:,} examples against {most:,} of "
            f"{proposal}. Some of the difference may be due to that: give it more epochs."
            for control, (own, most) in found.items()]  # fmt: skip


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
