"""Training here against the usual loop of a tutorial: python -m tests.benchmarks.usual_loop DATA [--strategies full]

The usual loop opens, resizes, augments and normalises each image with PIL and torchvision in every epoch (DataLoader), and passes
it through the network in float32 and torch's own layout; with a frozen backbone too. Here images are packed once, features of a
frozen backbone are computed once, and everything else is as `dvc repro` does it, validation after each epoch included, which the
usual loop leaves out. Same weights, images, resolution, augmentation, number of epochs and, to compare losses, the same optimizer
with a constant rate. The two take turns, with another seed in each turn. DATA is a block of datasets in params.yaml. Needs
data/prepared/DATA and models/SOURCE (`dvc repro prepare@DATA`). Prints a table; asserts nothing about time.
"""

import argparse
import io
import statistics
import tempfile
import time
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

# The block of each strategy: as a tutorial has it. With `full` everything learns, so the rate is lower.
BLOCKS = {"feature_extraction": {"head_lr": 0.001}, "full": {"lr": 0.0001, "head_lr": 0.0001}}
OPTIONS = {"optimizer": "adam", "momentum": 0.9, "weight_decay": 0, "schedule": "constant", "warmup_epochs": 0,
           "label_smoothing": 0, "augment": "light", "ema": 0, "balance": "none", "mixup": 0, "cutmix": 0,
           "clip_norm": 0}  # fmt: skip


def usual_loop(card, tensors, files, labels, names, px, strategy, options, epochs, seed):
    """The loop of the tutorials, with the right preprocessing; returns the model."""
    some = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(px, px // 16, padding_mode="reflect")]
    to_tensor = transforms.Compose([
        transforms.Resize((px, px), transforms.InterpolationMode[card.preprocessing["interpolation"].upper()]),
        *(some if strategy == "full" else []),  # features are of images as they are
        transforms.ToTensor(),
        transforms.Normalize(card.preprocessing["mean"], card.preprocessing["std"]),
    ])  # fmt: skip

    class Folder(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            return to_tensor(Image.open(files[index]).convert("RGB")), labels[index]

    torch.manual_seed(seed)
    model = backbones.build(card.architecture, len(names))
    backbones.load(model, tensors)
    model.backbone.requires_grad_(strategy == "full")
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=BLOCKS[strategy]["head_lr"])
    loader = torch.utils.data.DataLoader(Folder(), batch_size=options.batch_size, shuffle=True)
    for _ in range(epochs):
        model.train()
        for batch, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    return model


def this_pipeline(fabric, card, tensors, data, names, strategy, options, epochs, seed):
    """The hop's own code on packed images; returns the loss and accuracy on validation after the last epoch."""
    prepared = setup.prepare(
        fabric, tensors, card.architecture, len(names), "example", strategy=strategy,
        hyperparameters=BLOCKS[strategy] | {"epochs": epochs}, options=options,
        num_examples=len(data.train.targets), seed=seed, same_outputs=False,
    )  # fmt: skip
    fitted = train(
        fabric, prepared, data, learning, options, names, loss_jump=1e9, seed=seed, state=None, save=lambda state: None
    )  # fmt: skip
    return fitted.history[["val_loss", "val_accuracy"]].iloc[-1].tolist()


def figures(model, val):
    """Loss and accuracy on validation."""
    found = learning.figures(predict(model, val, 64), val.targets)
    return found["loss"], found["accuracy"]


def written(examples, keys, folder):
    """The files of some examples, as they are in the raw data."""
    by_key = {example.key: example for example in examples}
    paths = []
    for number, key in enumerate(keys):
        content = by_key[key].open()
        if isinstance(content, Image.Image):
            file = io.BytesIO()
            content.save(file, "PNG")
            content = file.getvalue()
        paths.append(folder / str(number))
        paths[-1].write_bytes(content)
    return paths


def packing_time(files, how):
    """Seconds that prepare takes for decoding and packing them on one core."""
    start = time.perf_counter()
    for file in files:
        inputs.pack(inputs.decode(file.read_bytes()), **how)
    return time.perf_counter() - start


def spread(values, digits):
    """Median (from, to)."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def main():
    arguments = argparse.ArgumentParser("python -m tests.benchmarks.usual_loop")
    arguments.add_argument("data", help="a block of datasets, prepared")
    arguments.add_argument("--source", default="", help="a block of source; default: the one that the data name")
    arguments.add_argument("--strategies", default=",".join(BLOCKS))
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--images", type=int, default=0, help="train on so many images; 0: all")
    arguments = arguments.parse_args()
    p = params.load("strategies", "training", "datasets", "device")
    folder, block = runs.prepared(arguments.data), p.datasets[arguments.data]
    tensors, card = cards.read_model(runs.starting_point(arguments.source or block.preprocessing))
    packed = cards.read_data_card(folder)
    fabric = launch(**p.device.model_dump())
    options = overridden(p.training, p.strategies["full"]).model_copy(update=OPTIONS | {"patience": arguments.epochs})
    data, names = hop.load(folder, packed, "classify", options, card.preprocessing | packed.packing, fabric.device, {})
    keys = datasets.read_split(folder, "train").keys
    if arguments.images:
        rows = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0))[: arguments.images]
        keys = [keys[row] for row in rows]
        data = data._replace(train=contracts.part(data.train, rows))
    reader = plugins.load("readers", block.reader)
    with tempfile.TemporaryDirectory() as scratch:
        files = written(reader.read(Path(block.raw), **plugins.arguments(block, reader)), keys, Path(scratch))
        labels = data.train.targets.cpu()
        print(f"{len(files)} images of {arguments.data}, {packed.packing['px']} px, {card.architecture['model']}, batches of "
              f"{options.batch_size}, {arguments.epochs} epochs, {arguments.repeats} turns, {fabric.device}, "
              f"{torch.get_num_threads()} threads; packing {packing_time(files, packed.packing):.1f} s")  # fmt: skip
        for strategy in arguments.strategies.split(","):
            compare(arguments, fabric, card, tensors, files, labels, data, names, packed.packing["px"], strategy, options)


def compare(arguments, fabric, card, tensors, files, labels, data, names, px, strategy, options):
    """Take turns, and print a line for each side and their ratios."""
    options = options if strategy == "full" else options.model_copy(update={"augment": "none"})
    found = {"usual loop": [], "here": []}
    for seed in range(arguments.repeats):
        start = time.perf_counter()
        model = usual_loop(card, tensors, files, labels, names, px, strategy, options, arguments.epochs, seed)
        found["usual loop"].append((time.perf_counter() - start, *figures(model, data.val)))
        start = time.perf_counter()
        last = this_pipeline(fabric, card, tensors, data, names, strategy, options, arguments.epochs, seed)
        found["here"].append((time.perf_counter() - start, *last))
    for name, rows in found.items():
        seconds, losses, accuracies = zip(*rows, strict=True)
        rate = len(files) * arguments.epochs / statistics.median(seconds)
        print(f"{strategy}, {name}: {spread(seconds, 1)} s, {rate:.0f} images a second, validation loss {spread(losses, 3)}, "
              f"accuracy {spread(accuracies, 3)}", flush=True)  # fmt: skip
    pairs = list(zip(*found.values(), strict=True))
    print(f"{strategy}: {spread([usual[0] / here[0] for usual, here in pairs], 2)} times faster, "
          f"loss {spread([here[1] - usual[1] for usual, here in pairs], 3)} higher", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
