"""Throughput of training and of features on this machine's device, beside a plain loop: python -m tests.benchmarks.gpu

Random packed images, a ResNet-50 with random weights. Prints a line of JSON for each measurement, in images per second; for
training the median over the epochs after the first. `--small` takes a small network and few images, to try the script on a CPU.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from stages.lib.core import contracts, datasets
from stages.lib.networks import inference
from stages.lib.networks.device import launch
from stages.lib.params.schema import TrainingOptions
from stages.lib.tasks.classify import learning
from stages.lib.training import setup as setups
from stages.lib.training.phases import Data
from stages.lib.training.train import train

NAMES = [str(number) for number in range(10)]
HOW = {"px": 224, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
OPTIONS = {"optimizer": "adamw", "momentum": 0.9, "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 1.0,
           "warmup": "all", "label_smoothing": 0.1, "balance": "none", "mixup": 0.0, "cutmix": 0.0, "clip_norm": 0.0,
           "patience": 9, "head": {"hidden": 0, "dropout": 0.0, "zero": False, "keep": False},
           "metric_learning": None}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.gpu", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    model, num, px, batch = ("resnet18", 64, 32, 16) if small else ("resnet50", 8192, 224, 128)
    fabric = launch(accelerator="auto", devices=1, num_nodes=1, precision="auto", deterministic=True)
    name = torch.cuda.get_device_name() if fabric.device.type == "cuda" else "CPU"
    say(device=name, torch=torch.__version__, network=model, px=px, images=num)
    with tempfile.TemporaryDirectory() as folder:
        splits = Data(*(packed(Path(folder) / f"{count}.npy", count, px, fabric.device) for count in (num, min(512, num))))
        cases = [("none", 0.0, batch), ("light", 0.98, batch), ("inspection", 0.98, batch), ("inspection", 0.98, 16)]
        for augment, ema, size in cases:
            few = contracts.part(splits.train, torch.arange(min(2048, num)))
            data = splits if size == batch else splits._replace(train=few)
            options = TrainingOptions.model_validate(OPTIONS | {"augment": augment, "ema": ema, "batch_size": size})
            say(what="training", batch=size, augment=augment, ema=ema, images_per_s=training(fabric, data, model, options))
        for deterministic in (True, False):
            rate = plain_loop(fabric, model, px, batch, 3 if small else 30, deterministic)
            say(what="plain loop on a resident batch", batch=batch, deterministic=deterministic, images_per_s=rate)
        for size in (16, batch, 512):
            say(what="features", batch=size, images_per_s=features(fabric, splits.train, model, size))


def say(**row: Any) -> None:
    """Print one measurement."""
    print(json.dumps(row), flush=True)


def packed(path: Path, num: int, px: int, device: torch.device) -> contracts.LoadedSplit:
    """Random images as prepare packs them."""
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num, px, px, 3))
    some = np.random.default_rng(0).integers(0, 256, (min(num, 256), px, px, 3), dtype=np.uint8)
    for start in range(0, num, len(some)):
        pixels[start : start + len(some)] = some[: num - start]
    labels = [NAMES[row % len(NAMES)] for row in range(num)]
    split = datasets.PackedSplit(np.load(path, mmap_mode="r"), None, labels, [str(row) for row in range(num)], None)
    return contracts.load(split, "image", "classify", NAMES, HOW, device)


def prepared(fabric: Any, model: str, num: int, options: TrainingOptions, strategy: str, **hyperparameters: Any) -> setups.Setup:
    """A network with random weights and a strategy."""
    return setups.prepare(
        fabric, None, {"library": "torchvision", "model": model}, len(NAMES), "example", strategy=strategy,
        hyperparameters=hyperparameters, options=options, num_examples=num, seed=0, same_outputs=False,
    )  # fmt: skip


def training(fabric: Any, data: Data, model: str, options: TrainingOptions) -> int:
    """Images per second of full fine-tuning, validation included."""
    num = len(data.train.targets)
    setup = prepared(fabric, model, num, options, "full", epochs=4, lr=1e-3, head_lr=1e-3)
    ends = [time.perf_counter()]

    def save(state: dict[str, Any]) -> None:
        synchronise(fabric.device)
        ends.append(time.perf_counter())

    train(fabric, setup, data, learning, options, NAMES, loss_jump=9, seed=0, state=None, save=save)
    return round(num / median(np.diff(ends)[1:]))


def plain_loop(fabric: Any, model: str, px: int, batch: int, steps: int, deterministic: bool) -> int:
    """The same batch again and again, already on the device: what the network itself allows in this number format."""
    options = TrainingOptions.model_validate(OPTIONS | {"augment": "none", "ema": 0.0, "batch_size": batch})
    network = prepared(fabric, model, batch, options, "full", epochs=1, lr=1e-3, head_lr=1e-3).model.train()
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    inputs = torch.randn(batch, 3, px, px, device=fabric.device).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(batch, device=fabric.device) % len(NAMES)

    def step() -> None:
        with fabric.autocast():
            loss = torch.nn.functional.cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    synchronise(fabric.device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(fabric.device)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    return round(batch * steps / (time.perf_counter() - start))


def features(fabric: Any, split: contracts.LoadedSplit, model: str, batch: int) -> int:
    """Images per second through the frozen backbone."""
    options = TrainingOptions.model_validate(OPTIONS | {"augment": "none", "ema": 0.0, "batch_size": batch})
    network = prepared(fabric, model, len(split.targets), options, "feature_extraction", epochs=1, head_lr=0.01).model
    inference.features(fabric, network, contracts.part(split, torch.arange(min(batch, len(split.targets)))), batch)  # warm up
    synchronise(fabric.device)
    start = time.perf_counter()
    inference.features(fabric, network, split, batch)
    synchronise(fabric.device)
    return round(len(split.targets) / (time.perf_counter() - start))


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
