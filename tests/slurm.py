"""A real Slurm of two nodes on this machine, from Debian's packages (slurm-wlm), for one test."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun")
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
JobSubmitPlugins=lua
ReturnToService=2
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=both Nodes=n1,n2 Default=YES State=UP MaxTime=60
"""

FULL = "full"  # while a file of this name is there, jobs are refused as by a limit of jobs, which would need Slurm's database
JOB_SUBMIT = """function slurm_job_submit(job, partitions, user)
  return io.open("{folder}/{full}") and slurm.ESLURM_ACCOUNTING_POLICY or slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user) return slurm.SUCCESS end
return slurm.SUCCESS
"""


def missing() -> str:
    """Why it cannot run here, or ""."""
    lacking = [name for name in PROGRAMS if not shutil.which(name)]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm"
    return "" if os.geteuid() == 0 else "two slurmd on one machine run as root here"


@contextmanager
def cluster(folder: Path, *more: str, hidden: Path | None = None) -> Iterator[dict[str, str]]:
    """Start it; gives the environment in which its commands find it.

    Args:
        more: further lines of slurm.conf.
        hidden: a folder of which the second node sees only an empty one, as if it did not share it.
    """
    folder.mkdir()
    (folder / "state").mkdir()
    host = socket.gethostname()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    (folder / "slurm.conf").write_text("\n".join([CONF.format(host=host, folder=folder, ports=ports), *more, ""]))
    (folder / "job_submit.lua").write_text(JOB_SUBMIT.format(folder=folder, full=FULL))
    second = ["slurmd", "-D", "-N", "n2"]
    if hidden is not None:
        second = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{hidden}' && exec {' '.join(second)}", "n2"]
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], second):
            log = stack.enter_context(open(folder / f"{words[-1]}.log", "wb"))
            process = subprocess.Popen(words, env=os.environ | environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
        until = time.monotonic() + 30
        while asked(environment, "sinfo", "-h", "-t", "idle", "-o", "%D") != "2":
            assert time.monotonic() < until, "".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
            time.sleep(0.2)
        yield environment


def lose(node: str) -> None:
    """End all that runs on a node at once, as when its power goes."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline() == ["slurmd", "-D", "-N", node]:
                process.kill()
            elif process.environ().get("SLURMD_NODENAME") == node:
                for each in [process, *process.parents()]:
                    if each.pid > 1:  # slurmstepd is the child of the first process
                        each.kill()


def asked(environment: dict[str, str], *words: str) -> str:
    """What one of its commands answers."""
    return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True).stdout.strip()
