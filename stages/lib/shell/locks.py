"""One process at a time: a killed `dvc` leaves its stage running, and the next `dvc repro` starts a second one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold a lock; if another process has it, print a message and wait. The kernel releases it when its process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{what} is already running in another process; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
