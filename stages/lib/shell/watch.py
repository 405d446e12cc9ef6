"""What a training needs while it runs: a lock, the state to resume from, and its run in MLflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.lib.core.runs import Session
from stages.lib.shell import checkpoints
from stages.lib.tracking import live


@contextmanager
def watch(label: str, kind: str, key: str, settings: dict[str, Any]) -> Iterator[Session]:
    """Lock the checkpoint of one training and show it in MLflow; if the block ends without an error, it is finished.

    Args:
        label: "target mono-0".
        kind: "target".
        key: hash of everything that the training depends on.
        settings: shown as params.
    """
    name = label.replace(" ", "-")
    with checkpoints.hold(name, key) as path, live.training(key, label, kind, settings) as log:
        yield Session(checkpoints.load(path), lambda state: checkpoints.save(path, state), log)
        checkpoints.finish(name, key)
