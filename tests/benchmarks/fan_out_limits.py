"""Where fanning out ends: what a stage costs with many stages, how a lock is shared, and what MLflow's server takes.

    python -m tests.benchmarks.fan_out_limits items [--items 8] [--hold 20] [--stages 10 50 100]
    python -m tests.benchmarks.fan_out_limits dvc [--stages 10 100 1000]
    python -m tests.benchmarks.fan_out_limits lock --hold 0.5 [--workers 200]
    python -m tests.benchmarks.fan_out_limits mlflow URI [--workers 50] [--items 100]

items: so many items that only sleep, with so many stages in dvc.lock, by a plain `dvc repro`, by fan_out with one and two workers
here, and on a Slurm of two nodes if there is one (what its jobs compute is not counted). dvc: seconds of CPU of `dvc repro
--single-item` for one stage among so many, whose dvc.lock has entries like those of a training, and how long of it the
repository was locked. lock: so many processes take turns at dvc's own lock, twice each, as a stage does, and each adds a line to
a file, which it reads and then writes: none may be missing. mlflow: threads log trainings of 15 epochs.
"""

import argparse
import fcntl
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from tests import slurm
from tests.commands.test_fan_out import CONFIG, FAN_OUT
from tests.tiny import PARAMS, ROOT, write_params

RUN = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-q", "--single-item"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("items", "dvc", "lock", "mlflow"))
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--stages", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--hold", type=float, default=0.5, help="seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if asked.what in ("items", "dvc"):
            for num in asked.stages:
                of_items(asked.items, num, asked.hold) if asked.what == "items" else of_dvc(num)
        elif asked.what == "lock":
            of_lock(asked.workers, asked.hold)
        else:
            of_mlflow(asked.uri, asked.workers, asked.items)


def of_items(items: int, num: int, hold_s: float) -> None:
    """Items that sleep, among so many stages."""
    with repository(f"items{num}", num, f"sleep {hold_s}"), ExitStack() as stack:
        write_params(Path(), PARAMS)
        lock = with_entries(range(items, num))
        fan_out = [sys.executable, "-c", FAN_OUT]
        ways = {
            "dvc repro": ["dvc", "repro"],
            "1 worker": [*fan_out, "--workers", "1"],
            "2 workers": [*fan_out, "--workers", "2"],
        }
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if slurm.missing():
            print(slurm.missing())
        else:
            paths = [str(ROOT), environment.get("PYTHONPATH", "")]
            environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PYTHONPATH": ":".join(filter(None, paths))}
            environment |= stack.enter_context(slurm.cluster(Path("slurm").resolve()))
            Path("cluster.yaml").write_text("{at_once: 2, all: {timeout_min: 5}}")
            ways["2 nodes of Slurm"] = [*fan_out, "--engine", "slurm"]
        for name, command in ways.items():
            shutil.rmtree(".dvc/cache/runs", ignore_errors=True)
            for each in range(items):
                Path(f"out-{each}").unlink(missing_ok=True)
            Path("dvc.lock").write_text(lock)
            began = time.monotonic()
            cpu = cpu_of(lambda command=command: subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True))
            print(f"{num} stages, {name}: {time.monotonic() - began:.1f} s, {cpu:.1f} s of CPU", flush=True)


def of_dvc(num: int) -> None:
    """One stage among so many."""
    with repository(f"of{num}", num, "sleep 1"):
        Path("dvc.lock").write_text(with_entries([0, *range(2, num)]))
        locked = 0.0

        def one() -> None:
            nonlocal locked
            process = subprocess.Popen([*RUN, "work@1"])
            while process.poll() is None:
                locked += 0.01 * is_locked(Path(".dvc/tmp/lock"))
                time.sleep(0.01)

        cpu = cpu_of(one)
        assert yaml.safe_load(Path("dvc.lock").read_text())["stages"].keys() == {f"work@{each}" for each in range(num)}
        print(f"{num} stages: {cpu:.1f} s of CPU, locked for about {locked:.1f} s", flush=True)


@contextmanager
def repository(name: str, num: int, command: str) -> Iterator[None]:
    """Be in a new one of so many stages, each with 12 deps."""
    Path(name).mkdir()
    os.chdir(name)
    try:
        subprocess.run(["git", "init", "-q"], check=True)
        subprocess.run(["dvc", "init", "-q"], check=True)
        Path(".dvc/config").write_text(CONFIG)
        deps = [f"code/{each}" for each in range(12)]
        for path in map(Path, deps):
            path.parent.mkdir(exist_ok=True)
            path.write_text(path.name)
        Path("params.yaml").write_text("device: {accelerator: cpu}\n")
        block = {"matrix": {"seed": list(range(num))}, "cmd": f"{command} && echo done > out-${{item.seed}}",
                 "deps": deps, "params": ["device"], "outs": ["out-${item.seed}"]}  # fmt: skip
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": block}}))
        yield
    finally:
        os.chdir("..")


def with_entries(numbers: Iterable[int]) -> str:
    """A dvc.lock as if these stages had run; the output of each is there."""
    subprocess.run([*RUN, "work@0"], check=True)
    one = json.dumps(yaml.safe_load(Path("dvc.lock").read_text())["stages"]["work@0"])
    content = Path("out-0").read_text()
    for each in numbers:
        Path(f"out-{each}").write_text(content)
    stages = {f"work@{each}": json.loads(one.replace("out-0", f"out-{each}")) for each in numbers}
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


def cpu_of(function: Callable[[], object]) -> float:
    """Seconds of CPU of the processes that a function starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    function()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
