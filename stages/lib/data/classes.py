"""Whether every class that was read is still there in the packed dataset, and whether names of classes differ only in case."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError

MOST = 10  # classes that a message names


def tell_alike(examples: Iterable[Example]) -> None:
    """Warn of names that differ only in case or in spaces, which may be one class (or two, such as letters a and A)."""
    spelled = defaultdict(set)
    for example in examples:
        spelled["".join(example.label.casefold().split())].add(example.label)
    alike = sorted(" and ".join(map(repr, sorted(names))) for names in spelled.values() if len(names) > 1)
    if alike:
        print(f"WARNING: classes whose names differ only in case or spaces: {_some(alike)}. If they are one class, name it once.")


def require_all(before: Sequence[Example], after: Iterable[Example], why: str) -> None:
    """Raise a UserError if a class has lost all of its examples.

    Args:
        before, after: the examples before and after some were left out.
        why: what was done to them, and how to keep or to leave out a class on purpose.
    """
    there = Counter(example.label for example in before)
    lost = sorted(there.keys() - {example.label for example in after})
    if lost:
        named = _some(f"{label} ({there[label]})" for label in lost)
        raise UserError(f"{len(lost)} of {len(there)} classes would be lost: {named}. {why}")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
