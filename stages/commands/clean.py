"""Delete the checkpoints of finished trainings, and what a killed dvc left half-written: python -m stages clean [--all]

Checkpoints let a killed training resume. They are kept after a training ends, because DVC itself may be killed before it
has stored the result; once `dvc repro` has nothing to do, none of them is needed. Without --all, the checkpoints of trainings
that finished within the last day are kept, and so are those of interrupted trainings, which may resume.

DVC notes in .dvc/tmp/rwlock which files it uses. If it is killed while it writes that, it starts no more ("JSON structure is
corrupted") until the file is gone.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

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
    mend(runs.state_folder().parent / ".dvc/tmp/rwlock")


def mend(noted: Path) -> None:
    """Delete DVC's notes if they are no JSON; a dvc that runs has them locked while it writes."""
    if not noted.exists():
        return
    with FileLock(noted.with_name("rwlock.lock"), timeout=60):
        try:
            json.loads(noted.read_text(encoding="utf-8"))
        except ValueError:
            noted.unlink()
            print(f"{noted}: half-written by a dvc that was killed, deleted")
