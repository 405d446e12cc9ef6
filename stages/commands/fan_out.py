"""Run what is independent at the same time: python -m stages fan_out [TARGET ...] [--workers N] [--engine local|slurm] [--dry]

Each stage whose needs are done is given to a worker, which runs `dvc repro --single-item` for it; at the end comes one plain
`dvc repro`. The results are those of a plain `dvc repro`: the same dvc.lock, bits and runs in MLflow. What a stage says is in
.transfer/fan_out/<stage>.log. A stage that fails stops only those that need it; called again, fan_out goes on where it stopped.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from stages.commands import clean
from stages.commands._fan_out import board, graph, local, schedule, slurm
from stages.commands._fan_out.graph import Needs
from stages.commands._fan_out.schedule import Job, State
from stages.lib.errors import UserError, listed
from stages.lib.params import read as params
from stages.lib.shell.locks import alone

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages fan_out", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("targets", nargs="*", help="stages, or groups of them, as `dvc repro` takes them; all if there are none",
                        metavar="TARGET")  # fmt: skip
    parser.add_argument("--workers", type=int, help="stages at the same time", metavar="N")
    parser.add_argument("--engine", choices=("local", "slurm"), default="local",
                        help="where they run; cluster.yaml says what Slurm is asked for (default: local)")  # fmt: skip
    parser.add_argument("--dry", action="store_true", help="only print what would run, and with slurm what it would be asked for")
    asked = parser.parse_args(words)
    if asked.workers is not None and asked.workers < 1:
        raise UserError(f"--workers: how many stages run at the same time, 1 or more; given: {asked.workers}.")
    if asked.dry:
        print("\n".join(plan(asked.targets, slurm.Cluster() if asked.engine == "slurm" else None)))
        return
    with alone(local.FOLDER / "lock", "fan_out"), interrupted_by_signals():
        clean.mend_notes()
        needs = graph.read(asked.targets)
        workers, start = (on_slurm if asked.engine == "slurm" else locally)(asked.workers)
        expected = board.Expected(asked.targets)
        with board.shown(needs, workers, expected) as tell:
            state = schedule.run(needs, workers, start, graph.changed, expected.weight, tell)
        clean.mend_notes()  # if a dvc was killed
        if state.failed:
            sys.exit(failed(state, needs))
        sys.exit(subprocess.run(local.dvc("repro", *asked.targets), env=local.environment(), check=False).returncode)


def plan(targets: list[str], cluster: slurm.Cluster | None) -> list[str]:
    """What would run, as far as is known now, in the order of `dvc repro`; each with what Slurm would be asked for."""
    will, lines = board.Expected(targets).will, []
    for name in (each for each in graph.read(targets) if each in will):
        asks = cluster.asks(name) if cluster else {}
        how = "on this machine" if asks is None else ", ".join(f"{key}={value}" for key, value in asks.items())
        lines.append(f"{name}: {how}" if how else name)
    return lines


def locally(asked: int | None) -> tuple[int, Callable[[str, int], Job]]:
    """The number of workers, and what gives one of them a stage, on this machine.

    Every stage runs with as many threads as under a plain `dvc repro`, because another number gives other bits. So there are
    several workers only if there are several GPUs, or if OMP_NUM_THREADS leaves cores free.
    """
    device = params.load("device").device
    gpus = [] if device.accelerator in ("cpu", "mps") else local.gpus()
    shares = [gpus[at : at + device.devices] for at in range(0, len(gpus) + 1 - device.devices, device.devices)]
    threads, cores = local.threads(), local.cores()
    workers = asked or len(shares) or max(1, cores // (threads * device.devices))
    where = f"{len(gpus)} GPUs" if gpus else f"threads of each: {threads}, cores: {cores}"
    print(f"fan_out: workers: {workers} ({where})", flush=True)

    def start(name: str, slot: int) -> Job:
        return local.Local(name, local.environment(shares[slot % len(shares)] if shares else ()))

    return workers, start


def on_slurm(asked: int | None) -> tuple[int, Callable[[str, int], Job]]:
    """The same, on the nodes of Slurm."""
    cluster = slurm.Cluster()
    workers = asked or cluster.at_once
    print(f"fan_out: at most {workers} jobs of Slurm at the same time", flush=True)
    return workers, slurm.Slurm(cluster).start


def failed(state: State, needs: Needs) -> str:
    """What is said at the end if stages failed."""
    lines = [f"failed: {listed(state.failed)}"]
    if waiting := [name for name in needs if name in schedule.blocked(state, needs)]:
        lines.append(f"not begun, because they need what failed: {listed(waiting)}")
    return "\n".join([*lines, "error: once that is mended, `python -m stages fan_out` goes on where it stopped."])


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """End as by Ctrl-C when the terminal is closed or the program is asked to end. While it ends, further signals do nothing."""

    def once(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        print("\nStopping the stages; `python -m stages fan_out` goes on where they stop.", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, once) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
