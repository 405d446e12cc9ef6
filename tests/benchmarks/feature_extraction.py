"""Feature extraction here against the usual loop of a tutorial: python -m tests.benchmarks.feature_extraction

The usual loop decodes, resizes and normalises each image with PIL in every epoch, and passes it through the frozen
backbone in every epoch (float32, DataLoader). Here images are packed once and features are computed once. Same
backbone, images, resolution and number of epochs; the two alternate, medians count. Needs data/prepared/poly and
models/imagenet (dvc repro source@imagenet prepare@poly). Prints a table; asserts nothing about time.
"""

import argparse
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from stages.lib.core import cards, contracts, datasets, plugins, runs
from stages.lib.core.plugins import overridden
from stages.lib.modalities.image import inputs
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
from stages.lib.networks.inference import predict
from stages.lib.params import read as params
from stages.lib.tasks.classify import learning
from stages.lib.training import hop, setup
from stages.lib.training.train import train


def usual_loop(card, tensors, files, labels, px, epochs):
    """The loop of the tutorials, with the right preprocessing; returns the model."""
    to_tensor = transforms.Compose([
        transforms.Resize((px, px), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize(card.preprocessing["mean"], card.preprocessing["std"]),
    ])  # fmt: skip

    class Folder(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            return to_tensor(Image.open(files[index]).convert("RGB")), labels[index]

    torch.manual_seed(0)
    model = backbones.build(card.architecture, int(labels.max()) + 1)
    backbones.load(model, tensors)
    for parameter in model.backbone.parameters():
        parameter.requires_grad = False
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.001, momentum=0.9)
    loader = torch.utils.data.DataLoader(Folder(), batch_size=32, shuffle=True)
    for _ in range(epochs):
        model.train()
        for batch, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    return model


def this_pipeline(fabric, card, tensors, data, names, p, epochs):
    """The hop's own code on packed images; returns the model."""
    block, plugin = p.strategies["feature_extraction"], plugins.load("strategies", "feature_extraction")
    options = overridden(p.training, block).model_copy(update={"patience": epochs})  # all epochs, as the other loop
    prepared = setup.prepare(
        fabric, tensors, card.architecture, len(names), "example", strategy="feature_extraction",
        hyperparameters=plugins.arguments(block, plugin) | {"epochs": epochs}, options=options,
        num_examples=len(data.train.targets), seed=0, same_outputs=False,
    )  # fmt: skip
    train(
        fabric, prepared, data, learning, options, names,
        loss_jump=p.checks.loss_jump, seed=0, state=None, save=lambda state: None,
    )  # fmt: skip
    return prepared.model


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--images", type=int, default=0, help="train on so many images; 0: all")
    arguments = arguments.parse_args()
    p = params.load("strategies", "training", "checks", "target", "datasets", "device")
    folder, raw = runs.prepared(p.target.data), Path(p.datasets[p.target.data].raw)
    tensors, card = cards.read_model(runs.starting_point("imagenet"))
    packed = cards.read_data_card(folder)
    px = packed.packing["px"]
    fabric = launch(**p.device.model_dump())
    data, names = hop.load(folder, packed, p.target.task, p.training, card.preprocessing | packed.packing, fabric.device, {})
    keys = datasets.read_split(folder, "train").keys
    if arguments.images:
        keys = keys[: arguments.images]  # the split is in no order of classes
        data = data._replace(train=contracts.part(data.train, torch.arange(len(keys))))

    with tempfile.TemporaryDirectory() as unpacked:  # the usual loop reads image files from a folder
        archive = zipfile.ZipFile(next(raw.glob("*.whl")))
        members = {Path(name).stem: name for name in archive.namelist() if name.endswith(".png")}
        files = []
        for key in keys:
            files.append(Path(unpacked) / f"{key}.png")
            files[-1].write_bytes(archive.read(members[key]))
        labels = data.train.targets.cpu()
        seconds = {"usual loop": [], "this pipeline": []}
        pack = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            usual = usual_loop(card, tensors, files, labels, px, arguments.epochs)
            seconds["usual loop"].append(time.perf_counter() - start)
            start = time.perf_counter()
            ours = this_pipeline(fabric, card, tensors, data, names, p, arguments.epochs)
            seconds["this pipeline"].append(time.perf_counter() - start)
            start = time.perf_counter()
            for file in files:
                inputs.pack(inputs.decode(file.read_bytes()), **packed.packing)
            pack.append(time.perf_counter() - start)

    accuracy = {name: (predict(model, data.val, 64).argmax(1) == data.val.targets).float().mean().item()
                for name, model in {"usual loop": usual, "this pipeline": ours}.items()}  # fmt: skip
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(files)} images, {px} px, {arguments.epochs} epochs, {arguments.repeats} repeats, {fabric.device}")
    for name, values in seconds.items():
        print(
            f"{name:15} {middle[name]:7.1f} s ({min(values):.1f} to {max(values):.1f}), validation accuracy {accuracy[name]:.3f}"
        )
    print(f"ratio {middle['usual loop'] / middle['this pipeline']:.1f}")
    with_pack = middle["this pipeline"] + statistics.median(pack)
    print(f"ratio with packing the images (once, in prepare) counted in: {middle['usual loop'] / with_pack:.1f}")


if __name__ == "__main__":
    main()
