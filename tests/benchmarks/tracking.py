"""What tracking costs: one training stage with MLflow and without, side by side.

    python -m tests.benchmarks.tracking --repeats 3

Runs the target's stage as DVC does, in turns, each time from nothing and into a store of its own, in which a few tables are there
already (making them takes seconds, and happens once for each store). Needs the root of a repository in which `dvc repro` has run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from stages.lib.params import read as params

ON = "import runpy, sys; sys.argv[1:1] = ['target']; runpy.run_module('stages', run_name='__main__')"
OFF = (
    "import contextlib; from stages.lib.tracking import live; "
    "live.training = lambda *a: contextlib.nullcontext(lambda row: None); " + ON
)


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.tracking", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    p = params.load("inits", "seeds")
    seconds = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "mlflow.db"
        import mlflow

        mlflow.MlflowClient(f"sqlite:///{store}").search_experiments()
        for repeat in range(repeats):
            for how in list(seconds)[:: 1 if repeat % 2 == 0 else -1]:
                place = stage_folder(Path(folder) / f"{how}-{repeat}", p.inits[0], store)
                seconds[how].append(timed(place, ON if how == "with" else OFF, p.inits[0], str(p.seeds[0])))
    for how, each in seconds.items():
        print(f"{how} MLflow: median {median(each):.1f} s ({min(each):.1f} to {max(each):.1f})")
    print(f"tracking costs {100 * (median(seconds['with']) / median(seconds['without']) - 1):+.1f} % of the stage's time")


def stage_folder(place: Path, init: str, store: Path) -> Path:
    """What the target's stage reads, and nothing that it wrote before."""
    for folder in ("models", "metrics"):
        (place / folder).mkdir(parents=True)
    for name in ("stages", "data", "params.yaml", f"models/{init}", "metrics/recipe"):
        (place / name).symlink_to(Path(name).resolve())
    shutil.copy(store, place)
    return place


def timed(place: Path, program: str, init: str, seed: str) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, init, seed], cwd=place, check=True, capture_output=True,
        env=environment | {"DVC_ROOT": str(place), "PYTHONPATH": str(place)},
    )  # fmt: skip
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
