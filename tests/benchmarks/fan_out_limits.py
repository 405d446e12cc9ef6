"""Where fanning out ends: what a stage costs with many stages, how a lock is shared, and what MLflow's server takes.

    python -m tests.benchmarks.fan_out_limits dvc [--stages 10 100 1000]
    python -m tests.benchmarks.fan_out_limits lock --hold 0.5 [--workers 200]
    python -m tests.benchmarks.fan_out_limits mlflow URI [--workers 50] [--items 200]

dvc: seconds of CPU of `dvc repro --single-item` for one stage among so many, whose dvc.lock has entries like those of a training,
and how long of it the repository was locked. lock: so many processes take turns at dvc's own lock, twice each, as a stage does,
and each adds a line to a file, which it reads and then writes: none may be missing. mlflow: threads log trainings of 15 epochs.
"""

import argparse
import fcntl
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dvc", "lock", "mlflow"))
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--stages", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--hold", type=float, default=0.5, help="seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if asked.what == "dvc":
            for num in asked.stages:
                of_dvc(num)
        elif asked.what == "lock":
            of_lock(asked.workers, asked.hold)
        else:
            of_mlflow(asked.uri, asked.workers, asked.items)


def of_dvc(num: int) -> None:
    """One stage among so many."""
    folder = Path(f"of{num}")
    folder.mkdir()
    os.chdir(folder)
    try:
        subprocess.run(["git", "init", "-q"], check=True)
        subprocess.run(["dvc", "init", "-q"], check=True)
        deps = [f"code/{each}" for each in range(12)]
        for path in map(Path, deps):
            path.parent.mkdir(exist_ok=True)
            path.write_text(path.name)
        Path("params.yaml").write_text("device: {accelerator: cpu}\n")
        block = {"matrix": {"seed": list(range(num))}, "cmd": "sleep 1 && echo ${item.seed} > out-${item.seed}", "deps": deps,
                 "params": ["device"], "outs": ["out-${item.seed}"]}  # fmt: skip
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": block}}))
        run = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-q", "--single-item"]
        subprocess.run([*run, "work@0"], check=True)
        whole = yaml.safe_load(Path("dvc.lock").read_text())
        one = whole["stages"]["work@0"]
        for each in range(2, num):
            whole["stages"][f"work@{each}"] = json.loads(json.dumps(one).replace("out-0", f"out-{each}"))
        Path("dvc.lock").write_text(yaml.safe_dump(whole, sort_keys=False))
        before, locked = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
        process = subprocess.Popen([*run, "work@1"])
        while process.poll() is None:
            locked += 0.01 * is_locked(Path(".dvc/tmp/lock"))
            time.sleep(0.01)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert yaml.safe_load(Path("dvc.lock").read_text())["stages"].keys() == {f"work@{each}" for each in range(num)}
        print(f"{num} stages: {cpu:.1f} s of CPU, locked for about {locked:.1f} s", flush=True)
    finally:
        os.chdir("..")


def is_locked(path: Path) -> bool:
    """Whether a process holds it."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def of_lock(num: int, hold_s: float) -> None:
    """So many processes at one lock."""
    import dvc.lock  # noqa: F401 (once, for all)

    Path("lines").touch()
    began = time.monotonic()
    waits: list[float] = []
    with multiprocessing.get_context("fork").Pool(num) as pool:
        for found in pool.imap_unordered(_turns, [(each, hold_s) for each in range(num)], chunksize=1):
            waits += found
    took = time.monotonic() - began
    lines = Path("lines").read_text().split()
    assert sorted(lines, key=int) == [str(each) for each in range(num)], "an item is lost"
    print(f"{num} processes, locked for {hold_s} s twice each: {took / num:.2f} s an item, none lost; a turn is waited for "
          f"{statistics.median(waits):.0f} s, at most {max(waits):.0f} s")  # fmt: skip


def _turns(item: tuple[int, float]) -> list[float]:
    from dvc.lock import make_lock

    number, hold_s = item
    waits = []
    for last in (False, True):
        began = time.monotonic()
        with make_lock("lock", wait=True):
            waits.append(time.monotonic() - began)
            lines = Path("lines").read_text()
            time.sleep(hold_s)
            Path("lines").write_text(f"{lines}{number}\n" if last else lines)
    return waits


def of_mlflow(uri: str, workers: int, items: int) -> None:
    """So many threads that log trainings as stages do."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri)
    experiment = client.create_experiment(f"limits {time.time()}")
    slowest, guard = [0.0], threading.Lock()

    def training(_: int) -> None:
        run = client.create_run(experiment).info.run_id
        client.log_batch(run, params=[Param(f"p{each}", "1") for each in range(30)])
        for epoch in range(15):
            began = time.monotonic()
            client.log_batch(run, metrics=[Metric(f"m{each}", 1.0, 1000 * epoch, epoch) for each in range(6)])
            with guard:
                slowest[0] = max(slowest[0], time.monotonic() - began)
        client.set_terminated(run)

    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(training, range(items)))
    took = time.monotonic() - began
    found = client.search_runs([experiment], max_results=1000)
    assert len(found) == items and all(len(run.data.metrics) == 6 for run in found), "something is lost"
    print(
        f"{workers} workers: {items / took:.1f} trainings and {items * 18 / took:.0f} writes a second, at most {slowest[0]:.1f} s"
    )


if __name__ == "__main__":
    main()
