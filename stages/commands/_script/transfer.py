"""The console script `transfer WORD ...`: `python -m stages WORD ...`, by the code of the folder in which it is typed.

It is all that `pip install` installs, and imports nothing of the pipeline: one clone's command never runs another clone's code.
"""

import os
import sys
from pathlib import Path

NEEDED = ("dvc.yaml", "stages/__main__.py")


def main() -> None:
    missing = [name for name in NEEDED if not Path(name).is_file()]
    if missing:
        sys.exit(f"error: {Path.cwd()} is not the folder of a pipeline: it has no {' and no '.join(missing)}. Run it in the "
                 "folder of your clone.")  # fmt: skip
    os.execv(sys.executable, [sys.executable, "-m", "stages", *sys.argv[1:]])  # noqa: S606 (the words are the user's own)
