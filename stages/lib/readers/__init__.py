"""What a reader is: a file here with `Knobs` (its params) and `read`.

    def read(raw: Path, **knobs) -> list[Example]

lists the examples of one dataset, sorted by key and without decoding them, or raises a UserError. It knows the layout of
the raw data, and nothing of splits that nobody made, sizes or networks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Example(NamedTuple):
    """One labelled example, not yet opened."""

    key: str  # its name, unique in the dataset
    label: str  # its class, in words
    group: str  # what it shares with others (patient, module); "" for none
    split: str  # train | val | test where the data comes with splits; "" otherwise
    open: Callable[[], Any]  # the encoded bytes or a PIL image; called once, perhaps in a thread
