"""Delete the checkpoints of finished trainings, and what a killed dvc left half-written: python -m stages clean [--all]

Checkpoints let a killed training resume. They are kept after a training ends, because DVC itself may be killed before it
has stored the result; once `dvc repro` has nothing to do, none of them is needed. Without --all, the checkpoints of trainings
that finished within the last day are kept, and so are those of interrupted trainings, which may resume.

DVC writes .dvc/tmp/rwlock and dvc.lock in place. If it is killed while it does, it starts no more ("JSON structure is corrupted",
"dvc.lock validation failed") until the file is gone. Results are not lost with dvc.lock: `dvc repro` takes them from its cache.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from stages.lib.core import runs
from stages.lib.shell import checkpoints

DAY_S = 24 * 3600


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages clean", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--all", action="store_true", help="delete those of the last day and of interrupted trainings too")
    everything = parser.parse_args(words).all
    freed = 0
    for folder in sorted((runs.state_folder() / "checkpoints").glob("*")):
        finished = folder / checkpoints.FINISHED
        if not everything and not finished.exists():
            print(f"{folder.name}: not finished, kept (--all deletes it)")
            continue
        if not everything and time.time() - finished.stat().st_mtime < DAY_S:
            continue
        try:
            with FileLock(folder / "lock", timeout=0):
                freed += sum(file.stat().st_size for file in folder.iterdir())
                shutil.rmtree(folder)
        except Timeout:
            print(f"{folder.name}: in use, kept")
    print(f"{freed / 1e6:.0f} MB freed")
    mend_notes()


def mend_notes() -> None:
    """Delete those of DVC's own notes that a killed dvc left half-written."""
    root = runs.state_folder().parent
    mend(root / ".dvc/tmp/rwlock", root / ".dvc/tmp/rwlock.lock", json.loads)
    mend(root / "dvc.lock", root / ".dvc/tmp/lock", lambda text: yaml.safe_load(text)["schema"])


def mend(path: Path, lock: Path, read: Callable[[str], Any]) -> None:
    """Delete a file of DVC that cannot be read.

    Args:
        path: of the file.
        lock: what a dvc that runs has locked while it writes it.
        read: raises something if the text is not whole.
    """
    if not path.exists():
        return
    with FileLock(lock, timeout=60):
        try:
            read(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError, yaml.YAMLError):
            path.unlink()
            print(f"{path}: half-written by a dvc that was killed, deleted")
