"""Where training runs."""

import os
import subprocess
import sys

import pytest
import torch

from stages.lib.networks.device import launch

CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true"}


@pytest.mark.slow
def test_a_machine_of_slurm_is_trained_on_without_a_word(tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o700)
    program = (
        "from stages.lib.networks.device import launch\n"
        "launch(accelerator='cpu', devices=1, num_nodes=1, precision='auto', deterministic=True)\n"
    )  # fmt: skip
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_only_what_need_not_repeat_may_take_the_fastest_kernels():
    try:
        for deterministic in (False, True):
            launch(**CPU, deterministic=deterministic)
            assert torch.are_deterministic_algorithms_enabled() == deterministic
            assert torch.backends.cudnn.benchmark == (not deterministic)
    finally:
        launch(**CPU, deterministic=True)
