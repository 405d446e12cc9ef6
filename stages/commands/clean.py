"""Delete the checkpoints of trainings that are over: python -m stages.commands.clean [--all]

Checkpoints let a killed training go on. They are kept when a training ends, because DVC itself may be killed before it
has taken the result; once `dvc repro` has nothing to do, none of them is needed. Without --all, those of the last day stay.
"""

import argparse
import shutil
import time

from filelock import FileLock, Timeout

from stages.lib import checkpoints


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--all", action="store_true", help="delete those of the last day too")
    everything = arguments.parse_args().all
    freed = 0
    for folder in sorted((checkpoints.root() / "checkpoints").glob("*")):
        state = folder / "state.pt"
        young = state.exists() and time.time() - state.stat().st_mtime < 24 * 3600
        if young and not everything:
            continue
        try:
            with FileLock(folder / "lock", timeout=0):
                freed += sum(file.stat().st_size for file in folder.iterdir())
                shutil.rmtree(folder)
        except Timeout:
            print(f"{folder.name}: in use, kept")
    print(f"{freed / 1e6:.0f} MB freed")


if __name__ == "__main__":
    main()
