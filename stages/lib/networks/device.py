"""Where training runs: the device, the precision, and deterministic arithmetic."""

import ctypes
import os
import sys
import warnings
from typing import Any, Literal

from stages.lib.errors import UserError
from stages.lib.imports import unscanned


def launch(
    *, accelerator: str, devices: int, num_nodes: int, precision: Literal["auto", "32-true", "bf16-mixed"], deterministic: bool
) -> Any:
    """Start Lightning Fabric; under torchrun and SLURM it joins the processes that they started.

    Args:
        accelerator: "auto" uses a GPU if there is one.
        devices: processes per node; more than one trains data-parallel.
        precision: "auto" is bf16 autocast on CUDA and float32 elsewhere. On a CPU, bf16 trains some
            backbones faster but EfficientNet-Lite0 slower, so it is not the default there.
        deterministic: whether the same computation has to give the same bits again. If not, a GPU may take the kernels that
            cuDNN finds fastest by trying them, and kernels that add up in any order.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic, and reads it at its start
    with unscanned():
        import torch
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException

    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False  # "32-true" means it, on every device
    # It only helps to find reads of uninitialised memory, and costs time in every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's types lack it
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cpu":
        _keep_memory()
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "cuda" else "32-true"
    strategy = "ddp" if devices * num_nodes > 1 else "auto"
    warnings.filterwarnings("ignore", "The `srun` command is available")  # a machine of Slurm's, on which one may train as on any
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, precision=precision, strategy=strategy)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise UserError(f"device: this machine cannot do that: {error}") from None
    fabric.launch()
    return fabric


def _keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel after each step.

    Activations are large blocks that malloc maps and unmaps in every step; the page faults take a third of the
    training time on a CPU. The cost is memory: the process stays at its peak.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)
