"""Delete the checkpoints of trainings that are over: python -m stages.commands.clean [--all]

Checkpoints let a killed training go on. They are kept when a training ends, because DVC itself may be killed before it
has taken the result; once `dvc repro` has nothing to do, none of them is needed. Without --all, those that ended within the last
day stay, and those of trainings that were broken off and may go on.
"""

import argparse
import shutil
import sys
import time

from filelock import FileLock, Timeout
from stages.lib.command import in_words

from stages.lib import checkpoints

DAY_S = 24 * 3600


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages.commands.clean", description=__doc__.partition(":")[0])
    parser.add_argument("--all", action="store_true", help="delete those of the last day and of broken trainings too")
    everything = parser.parse_args(words).all
    freed = 0
    for folder in sorted((checkpoints.root() / "checkpoints").glob("*")):
        over = folder / checkpoints.OVER
        if not everything and not over.exists():
            print(f"{folder.name}: not over, kept (--all deletes it)")
            continue
        if not everything and time.time() - over.stat().st_mtime < DAY_S:
            continue
        try:
            with FileLock(folder / "lock", timeout=0):
                freed += sum(file.stat().st_size for file in folder.iterdir())
                shutil.rmtree(folder)
        except Timeout:
            print(f"{folder.name}: in use, kept")
    print(f"{freed / 1e6:.0f} MB freed")


if __name__ == "__main__":
    with in_words():
        main(sys.argv[1:])
