"""Stages as jobs of Slurm, through submitit, in a folder that all nodes share."""

import io
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

from stages.commands._fan_out import local
from stages.commands._fan_out.schedule import Full, Job
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.tracking import store

CLUSTER = Path("cluster.yaml")  # no dep and no param: where a stage runs decides when it is done, never what comes out
AT_ONCE, ALL, HERE = "at_once", "all", "here"
EXAMPLE = "{at_once: 100, all: {timeout_min: 60, cpus_per_task: 2}, download: here}"
LOOK_S = 3  # between two looks at the queue
GONE_S = 15  # after which a job that is neither in the queue nor has a result is taken for lost
FULL = (
    "submit limit",
    "temporarily",
    "Unable to contact",
    "timed out",
    "Zero Bytes",
)  # sbatch says so if it may take a job later
NO_FOLDER = "0:53"  # the exit code of a job whose output Slurm could not write
TIMEOUTS = 1000  # how often a job may go on after its time limit; each time it has trained further


class Item:
    """What runs on the node: a dvc for one stage, ended in order and put back into the queue if its time is up."""

    def __init__(self, name: str, folder: str):
        self.name, self.folder = name, folder
        self._dvc: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        requeue = signal.getsignal(signal.SIGUSR2)  # that of submitit
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # Slurm signals every process of a job; dvc and the stage inherit this
        os.chdir(self.folder)
        with open(local.log_of(self.name), "ab") as file:
            self._dvc = subprocess.Popen(local.dvc("repro", "--single-item", self.name), stdin=subprocess.DEVNULL, stdout=file,
                                         stderr=file)  # fmt: skip
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, requeue)
        code = self._dvc.wait()
        if code == -signal.SIGTERM:  # the job is cancelled, or pre-empted and will begin again: it has no result
            os._exit(128 + signal.SIGTERM)
        return code

    def checkpoint(self) -> Any:
        """End the stage, from whose last complete epoch it goes on, and let dvc leave its locks in order; called by submitit."""
        from submitit.helpers import DelayedSubmission

        if self._dvc is not None:
            until = time.monotonic() + 30
            while self._dvc.poll() is None and time.monotonic() < until:
                local.end_stages(self._dvc.pid)
                time.sleep(0.1)
        return DelayedSubmission(Item(self.name, self.folder))


class Queue:
    """The jobs of this program in Slurm's queue, looked at now and then for all of them at once."""

    def __init__(self) -> None:
        self._looked, self._ids = 0.0, set[str]()

    def holds(self, job: str) -> bool:
        """Whether a job waits or runs, as far as is known."""
        if time.monotonic() - self._looked > LOOK_S:
            asked = subprocess.run(["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True, check=False)
            if asked.returncode:  # the controller is away: nothing is known
                return True
            self._looked, self._ids = time.monotonic(), set(asked.stdout.split())
        return job in self._ids


def ended(job: str) -> str:
    """How Slurm says that a job ended which has no result."""
    shown = subprocess.run(["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True, check=False).stdout
    facts = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    if not facts:  # it keeps them for some minutes
        return "was cancelled, its node is gone, or its node does not share this folder"
    node = facts.get("NodeList") or "no node"
    if facts["ExitCode"] == NO_FOLDER:
        return f"{node} does not see {Path.cwd()}, which all nodes must share (`slurm_exclude: {node}` in {CLUSTER} avoids it)"
    return f"{facts['JobState']} on {node}"


class Submitted:
    """A stage in a job of Slurm."""

    def __init__(self, name: str, job: Any, queue: Queue):
        self.log = local.log_of(name)
        self._job, self._queue, self._seen = job, queue, time.monotonic()

    def code(self) -> int | None:
        """The exit code of its dvc; 1 for a job that is gone without a result."""
        if self._job.paths.result_pickle.exists():
            error = self._job.exception()
            if error is None:
                return int(self._job.result())
            return self._lost((str(error).strip() or type(error).__name__).splitlines()[-1])
        if self._queue.holds(self._job.job_id):
            self._seen = time.monotonic()
        if time.monotonic() - self._seen < GONE_S:
            return None
        return self._lost(ended(self._job.job_id))

    def end(self) -> None:
        """Cancel it, waiting or running."""
        subprocess.run(["scancel", self._job.job_id], check=False)

    def kill(self) -> None:
        """Slurm does that itself."""
        self._seen = -GONE_S

    def _lost(self, why: str) -> int:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"\n{self._job.stderr() or ''}\nerror: job {self._job.job_id} of Slurm: {why}\n")
        return 1


class Cluster:
    """What cluster.yaml says."""

    def __init__(self, path: Path = CLUSTER):
        read = params.parsed(path, f"{path} is missing, which says what Slurm is asked for: {EXAMPLE}. The guide explains it.")
        if not isinstance(read, dict) or not isinstance(read.get(AT_ONCE), int) or read[AT_ONCE] < 1:
            raise UserError(
                f"{path}: {AT_ONCE}, how many jobs may be in the queue at the same time, must be 1 or more: {EXAMPLE}"
            )
        self.at_once: int = read.pop(AT_ONCE)
        for name, block in read.items():
            if not isinstance(block, dict) and not (block == HERE and name != ALL):
                raise UserError(f"{path}: {name} must be a block of what submitit asks Slurm for, or `{HERE}`; given: {block!r}")
        self._blocks: Mapping[str, Any] = read

    def asks(self, name: str) -> dict[str, Any] | None:
        """What a stage asks Slurm for; None if it runs on this machine."""
        block = self._blocks.get(name.partition("@")[0], {})
        return None if block == HERE else self._blocks.get(ALL, {}) | block


class Slurm:
    """Gives stages to Slurm.

    Raises:
        UserError: submitit or Slurm is missing, or MLflow's store is a file.
    """

    def __init__(self, cluster: Cluster):
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError("--engine slurm needs submitit: pip install submitit") from None
        if store.sqlite_path() is not None:
            raise UserError("MLflow's store is an SQLite file, which nodes must not share: start a server (`mlflow server`) and "
                            "set MLFLOW_TRACKING_URI to its address.")  # fmt: skip
        self._engine = partial(submitit.AutoExecutor, local.FOLDER / "slurm", cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
        try:
            self._engine()
        except RuntimeError as error:
            raise UserError(f"--engine slurm: {error}") from None
        self._cluster, self._queue = cluster, Queue()

    def start(self, name: str, slot: int) -> Job:
        """Submit one stage, or run it here if cluster.yaml says so."""
        asks = self._cluster.asks(name)
        if asks is None:
            return local.Local(name, local.environment())
        local.log_of(name).write_bytes(b"")
        os.environ.update(local.environment())  # sbatch hands it on
        try:
            engine = self._engine()  # a new one: it keeps what it was asked for
            engine.update_parameters(**{"name": name} | asks)
            with redirect_stderr(io.StringIO()):  # what sbatch says is in the error, too
                job = engine.submit(Item(name, str(Path.cwd())))
        except (NameError, ValueError, TypeError) as error:
            raise UserError(f"{CLUSTER}, {name}: {error}") from None
        except Exception as error:  # submitit's own, of a queue that is full or refuses what is asked for
            if type(error).__module__.partition(".")[0] != "submitit":
                raise
            text = " ".join(str(error).replace("sbatch: error: ", "").split())
            raise (Full if any(word in text for word in FULL) else UserError)(f"Slurm does not take it: {text}") from None
        return Submitted(name, job, self._queue)
