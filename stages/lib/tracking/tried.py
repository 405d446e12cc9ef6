"""How many settings were tried for each arm of the comparison, and which: a lead may be due to more tuning alone.

What counts is each training that was finished by a stage of this repository and stands in the ledger. Others, as of a benchmark
or before there was a ledger, are not known.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stages.lib.core import runs
from stages.lib.tracking.ledger import Trial

NUMBER = (int, float)


def arms(measured: Iterable[str]) -> list[str]:
    """The arms that are compared, from the folders of metrics/evaluate that a comparison read: "target-mono-0"."""
    named = [name.partition("-")[::2] for name in measured]
    found = [name.rpartition("-")[0] or kind for kind, name in named if kind in ("target", "alternative", runs.SCRATCH)]
    return sorted(set(found))


def told(trials: Iterable[Trial], arms: Iterable[str]) -> list[str]:
    """A line for each arm: how many settings were tried, and over which ranges; and a warning if some had more than others."""
    by_arm = {arm: list[Mapping[str, Any]]() for arm in arms}
    for each in trials:
        if each.arm in by_arm:
            by_arm[each.arm].append(each.settings)
    lines = [f"settings tried for {runs.shown(arm)}: {len(tried)}{ranges(tried)}" for arm, tried in by_arm.items()]
    most, least = (choose(by_arm, key=lambda arm: len(by_arm[arm])) for choose in (max, min))
    if len(by_arm[most]) > len(by_arm[least]):
        lines.append(f"warning: {runs.shown(most)} had more settings than {runs.shown(least)} ({len(by_arm[most])} and "
                     f"{len(by_arm[least])}), so a part of what sets them apart may be tuning")  # fmt: skip
    return lines


def counts(trials: Iterable[Trial], arms: Iterable[str]) -> str:
    """The same in one line for a tag: "mono 3, scratch 1"."""
    found = [each.arm for each in trials]
    return ", ".join(f"{arm} {found.count(arm)}" for arm in arms)


def ranges(tried: list[Mapping[str, Any]]) -> str:
    """What differs between settings: ", lr 0.0003 to 0.003, strategy full or partial"; "" for nothing. What one lacks does not
    count as a value."""
    words = []
    for name in dict.fromkeys(name for settings in tried for name in settings):
        values = [settings[name] for settings in tried if name in settings]
        if all(isinstance(value, NUMBER) and not isinstance(value, bool) for value in values):
            if min(values) < max(values):
                words.append(f"{name} {min(values):g} to {max(values):g}")
        elif len(different := sorted({str(value) for value in values})) > 1:
            words.append(f"{name} {' or '.join(different)}")
    return "".join(f", {each}" for each in words)
