"""What waiting threads cost a training step: python -m tests.benchmarks.waiting

OpenMP's threads spin while they wait, or sleep (OMP_WAIT_POLICY=passive), or sleep after a while (GOMP_SPINCOUNT, too, as `python
-m stages` sets it). Times steps of full fine-tuning on all cores with each of these, alone and beside one other process that is
always busy; all take turns. Needs models/imagenet (`dvc repro source@imagenet`) and a machine on which nothing else runs, or a
priority that makes it so (`nice -n -15`); asserts nothing.
"""

import argparse
import os
import statistics
import subprocess
import sys

SETTINGS = ["", "OMP_WAIT_POLICY=passive", "OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=2000"]
PROGRAM = """
import sys, time
import torch
from stages.lib.core import cards, runs
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
fabric = launch(accelerator="cpu", devices=1, num_nodes=1, precision="32-true", deterministic=True)
tensors, card = cards.read_model(runs.starting_point("imagenet"))
torch.manual_seed(0)
model = backbones.build(card.architecture, 2)
backbones.load(model, tensors)
model.to(memory_format=torch.channels_last).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
inputs = torch.randn(16, 3, 160, 160).contiguous(memory_format=torch.channels_last)
targets = torch.arange(16) % 2
for step in range(int(sys.argv[1]) + 3):
    start = time.perf_counter()
    torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    optimizer.zero_grad()
    if step >= 3:
        print(time.perf_counter() - start, flush=True)
"""


def steps(settings, busy, num):
    """Wall-clock seconds of so many training steps, beside a busy process or alone."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= dict(setting.split("=") for setting in settings.split())
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(num)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    return [float(line) for line in told.stdout.split()]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=30, help="of each process; beside another one half of it")
    arguments.add_argument("--settings", nargs="*", default=SETTINGS, help="to compare with the first")
    arguments = arguments.parse_args()
    found = {(settings, busy): [] for busy in (0, 1) for settings in arguments.settings}
    for _ in range(arguments.repeats):
        for (settings, busy), values in found.items():
            values.append(statistics.median(steps(settings, busy, arguments.steps // (1 + busy))))
            print(settings, busy, f"{values[-1]:.3f}", file=sys.stderr, flush=True)
    print("| settings | beside | s a step: median (from, to) | of the first, in turns | of alone, in turns |")
    print("| --- | --- | --- | --- | --- |")
    for (settings, busy), values in found.items():
        first, alone = found[arguments.settings[0], busy], found[settings, 0]
        ratios = [ratio(values, others) for others in (first, alone)]
        print(f"| {settings or 'none (spin)'} | {'one busy process' if busy else 'nothing'} | "
              f"{statistics.median(values):.3f} ({min(values):.3f}, {max(values):.3f}) | {' | '.join(ratios)} |")  # fmt: skip


def ratio(values, others):
    """Median (from, to) of their ratios."""
    ratios = [value / other for value, other in zip(values, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
