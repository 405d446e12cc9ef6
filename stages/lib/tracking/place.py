"""Where a training runs: other CPUs, GPUs and numbers of threads give other bits, so its run in MLflow says which they were."""

import platform
import re
import sys
from pathlib import Path
from typing import Any


def note(client: Any, run_id: str) -> None:
    """Tag a run with the place of this process; a training that resumes elsewhere has the last one."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags().items()])


def tags() -> dict[str, str]:
    """The node, its CPU, the threads of torch and the GPU, if there is one, as tags of a run."""
    found = {"node": platform.node(), "cpu": _cpu()}
    torch = sys.modules.get("torch")  # a training has imported it
    if torch is not None:
        found["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return {f"transfer.{name}": value for name, value in found.items() if value}


def _cpu() -> str:
    """The CPU's name."""
    try:
        name = re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        name = None
    return name[1] if name else platform.processor()
