"""Stages as processes of this machine, each a dvc of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

FOLDER = Path(".transfer/fan_out")  # logs of the stages


class Local:
    """A stage in a dvc of its own, in a session of its own, so that Ctrl-C reaches it only through this program."""

    def __init__(self, name: str, environment: Mapping[str, str]):
        self.log = log_of(name)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as file:
            self._process = subprocess.Popen(dvc("repro", "--single-item", name), env=environment, stdin=subprocess.DEVNULL,
                                             stdout=file, stderr=file, start_new_session=True)  # fmt: skip

    def code(self) -> int | None:
        """The exit code of its dvc."""
        code = self._process.poll()
        if code is not None and code < 0:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)  # its stage, which would go on without it
        return code

    def end(self) -> None:
        """End the stage alone: dvc then ends by itself, and leaves its notes and locks in order."""
        end_stages(self._process.pid)

    def kill(self) -> None:
        """End both."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def end_stages(dvc: int) -> None:
    """Ask the stages that a dvc runs to end.

    Args:
        dvc: the id of its process.
    """
    with suppress(psutil.Error):
        for process in psutil.Process(dvc).children(recursive=True):
            with suppress(psutil.Error):
                if "DVC_STAGE" in process.environ():  # none of dvc's own helpers
                    process.terminate()


def dvc(*words: str) -> list[str]:
    """A command line of the dvc that belongs to this Python. It waits for the lock of another one."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *words]


def log_of(name: str) -> Path:
    """Where what a stage says is kept."""
    return FOLDER / f"{name.replace('/', '_')}.log"


def environment(gpus: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a stage: this Python can be found, as if its environment had been activated; and the GPUs that the stage
    may see, if there are some to share out."""
    path, own = os.environ.get("PATH", ""), str(Path(sys.executable).parent)
    found = os.environ | {"PATH": path if own in path.split(os.pathsep) else f"{own}{os.pathsep}{path}", "PYTHONUNBUFFERED": "1"}
    return found | ({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name on this machine."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is not None:
        return [each for each in seen.split(",") if each]
    if not shutil.which("nvidia-smi"):
        return []
    asked = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return asked.stdout.split() if asked.returncode == 0 else []


def threads() -> int:
    """With how many threads torch trains on a CPU here, unless it is told otherwise: one for each core."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(told) if told.isdigit() and int(told) else psutil.cpu_count(logical=False) or 1


def cores() -> int:
    """The cores that this process may use."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
               psutil.cpu_count(logical=False) or 1)  # fmt: skip
