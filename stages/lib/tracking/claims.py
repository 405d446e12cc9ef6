"""Several clones that share a store write each run once: MLflow has no locks, so a claim is a tag that is read again.

File locks keep the processes of one repository apart; between clones, possibly on other machines, only the store is common. No
clock is compared with another machine's.
"""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import SystemRandom
from threading import Event, Thread
from typing import Any

from filelock import FileLock

from stages.lib.core import runs
from stages.lib.tracking import store

TAG = "transfer.claim"  # the clone that writes a run, and how often it has said so
BEAT_S = 5  # between two signs of life of a clone that publishes
SILENT_S = 30  # after which a clone that has given none is taken for dead
PAUSE_S = 1  # between two looks at a run that another clone writes


def mine() -> str:
    """What this clone is called in claims."""
    path = runs.state_folder() / "clone"
    with FileLock(store.lock("clone")):
        if not path.exists():
            path.write_text(uuid.uuid4().hex, encoding="utf-8")
        return path.read_text(encoding="utf-8")


def holder(run: Any) -> str:
    """The clone that claims a run; "" for none."""
    return str(run.data.tags.get(TAG, "")).partition(" ")[0]


def only(client: Any, experiment: str, create: Callable[[dict[str, str]], Any], **tags: str) -> Any:
    """The run with these tags (see `store.search`), made if there is none; just one, also if several clones ask at once.

    After it has made a run, a clone looks again. If it is not alone it withdraws: of two clones, the one that was second sees the
    first, and if both see both, they try again after a pause of random length.

    Args:
        create: makes the run, with the tags that it gets and its own.
    """
    while True:
        if found := store.search(client, experiment, **tags):
            return found[0]
        run = create({TAG: mine()})
        if len(store.search(client, experiment, **tags)) == 1:
            return run
        client.delete_run(run.info.run_id)
        _pause()


@contextmanager
def held(client: Any, run_id: str, *, again: bool) -> Iterator[Any]:
    """Wait until no other clone writes a run, then claim it and keep showing that this one is alive.

    Yields:
        The run, or None if it is finished (with `again`: never).
    """
    run = _taken(client, run_id, again)
    if run is None:
        yield None
        return
    ended = Event()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT_S):
            count += 1
            try:
                client.set_tag(run_id, TAG, f"{mine()} {count}")
            except Exception:  # `publish` meets the same error, and says so
                return

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield run
    finally:
        ended.set()
        thread.join()


def _taken(client: Any, run_id: str, again: bool) -> Any:
    last, since = "", time.monotonic()
    while True:
        run = client.get_run(run_id)
        finished = run.info.status == "FINISHED"
        if finished and not again:
            return None
        if holder(run) == mine():
            return run
        claim = run.data.tags.get(TAG, "")
        if claim and not last:
            print("MLflow: another clone records this state; waiting for it.", file=sys.stderr, flush=True)
        if claim != last:
            last, since = claim, time.monotonic()
        if finished or not claim or time.monotonic() - since > SILENT_S:
            client.set_tag(run_id, TAG, mine())  # and look whether another clone has done the same
        _pause()


def _pause() -> None:
    time.sleep(SystemRandom().uniform(PAUSE_S, 2 * PAUSE_S))  # its own numbers: those of a training go on
