"""A real Slurm of two nodes on this machine, from Debian's packages (slurm-wlm), for one test."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
ReturnToService=2
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=both Nodes=n1,n2 Default=YES State=UP MaxTime=60
"""


def missing() -> str:
    """Why it cannot run here, or ""."""
    lacking = [name for name in PROGRAMS if not shutil.which(name)]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm"
    return "" if os.geteuid() == 0 else "two slurmd on one machine run as root here"


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; gives the environment in which its commands find it."""
    folder.mkdir()
    (folder / "state").mkdir()
    host = socket.gethostname()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=ports))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
            log = stack.enter_context(open(folder / f"{words[-1]}.log", "wb"))
            process = subprocess.Popen(words, env=os.environ | environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
        until = time.monotonic() + 30
        while asked(environment, "sinfo", "-h", "-t", "idle", "-o", "%D") != "2":
            assert time.monotonic() < until, "".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
            time.sleep(0.2)
        yield environment


def asked(environment: dict[str, str], *words: str) -> str:
    """What one of its commands answers."""
    return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True).stdout.strip()
