"""What fanning out costs and gains: python -m tests.benchmarks.fan_out FOLDER [--num N] [--epochs N] [--repeats N]

FOLDER is a clone of this repository in which `dvc repro recipe-hops` has run. N controls (scratch, one for each seed) are trained
by a plain `dvc repro` and by fan_out, with different numbers of workers and threads in turn, so that a machine that others use
treats all alike; each time from nothing, without DVC's run cache. Prints wall and CPU seconds. It changes params.yaml there.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from stages.commands.scenario import overlaid

WAYS = {  # threads of each training, and the command
    "dvc repro, 2 threads": (2, ["dvc", "repro", "scratch"]),
    "1 worker x 2 threads": (2, [sys.executable, "-m", "stages", "fan_out", "scratch", "--workers", "1"]),
    "2 workers x 1 thread": (1, [sys.executable, "-m", "stages", "fan_out", "scratch", "--workers", "2"]),
    "2 workers x 2 threads": (2, [sys.executable, "-m", "stages", "fan_out", "scratch", "--workers", "2"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, number in (("num", 8), ("epochs", 3), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=number)
    asked = parser.parse_args()
    os.chdir(asked.folder)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(overlaid(text, f"seeds: {list(range(asked.num))}\nscratch: {{epochs: {asked.epochs}}}\n"))
    subprocess.run(["dvc", "repro", "-q", "recipe-hops"], check=True)
    lock = Path("dvc.lock").read_bytes()
    for _ in range(asked.repeats):
        for name, (threads, command) in WAYS.items():
            for made in ("models/scratch", "metrics/scratch", ".transfer/checkpoints", ".dvc/cache/runs"):
                shutil.rmtree(made, ignore_errors=True)
            Path("mlflow.db").unlink(missing_ok=True)
            Path("dvc.lock").write_bytes(lock)
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{name}: {time.monotonic() - began:.1f} s, {cpu:.1f} s of CPU, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
