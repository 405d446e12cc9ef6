"""What a training needs while it runs: a lock, the state to resume from, its run in MLflow, and a line for each epoch."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from stages.lib.core.runs import Session
from stages.lib.shell import checkpoints, epochs
from stages.lib.tracking import live


@contextmanager
def watch(label: str, kind: str, key: str, settings: dict[str, Any], phases: Sequence[int]) -> Iterator[Session]:
    """Lock the checkpoint of one training and show it in MLflow; if the block ends without an error, it is finished.

    Args:
        label: "target mono-0".
        kind: "target".
        key: hash of everything that the training depends on.
        settings: shown as params.
        phases: the number of epochs of each.
    """
    name = label.replace(" ", "-")
    with checkpoints.hold(name, key) as path, ExitStack() as stack:
        began, state = time.monotonic(), checkpoints.load(path)
        log = stack.enter_context(live.training(key, label, kind, settings))  # after `load`: it notes the number of threads
        tell = stack.enter_context(epochs.told(label, phases))

        def save(now: dict[str, Any]) -> None:
            checkpoints.save(path, now)
            tell(now["history"])

        try:
            yield Session(state, save, log)
        finally:
            epochs.note_seconds(key, time.monotonic() - began, resumed=state is not None)
        checkpoints.finish(name, key)
