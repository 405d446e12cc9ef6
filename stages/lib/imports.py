"""Importing large libraries in less time."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

atexit.register(gc.unfreeze)  # else libraries report at exit, in many lines, that they were not taken apart


@contextmanager
def unscanned() -> Iterator[None]:
    """Import in this block without garbage collection, and let no later collection look at what was imported.

    torch and its like make about a million objects, which stay. Scanning them takes a quarter of the time of importing them, and
    half a second whenever it is done again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
