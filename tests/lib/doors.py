"""What the inputs of each modality and the labels of each task look like, for the tests of their doors.

A new modality or task needs an entry in MODALITIES or TASKS. Those of tests/toy are here too.
"""

import importlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from stages.lib.core import datasets, plugins
from stages.lib.core.contracts import NO_STEP, LoadedSplit, numbered
from stages.lib.core.datasets import PackedSplit
from stages.lib.data import episodes
from tests import texts
from tests.lib.modalities.audio import sounds
from tests.tiny import HOW, ROOT

TOYS = {"modalities": "sequence", "tasks": "regress"}
CPU = torch.device("cpu")
NUM = 24  # examples of a task
CACHE = tempfile.TemporaryDirectory()


@pytest.fixture(scope="module", autouse=True)
def toys() -> Iterator[None]:
    """The folders of tests/toy, as if they were in stages/lib, for the tests of one file alone."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in TOYS:
            package = importlib.import_module(f"stages.lib.{kind}")
            patch.setattr(package, "__path__", [*package.__path__, str(ROOT / "tests/toy" / kind)])
        yield
    for kind, name in TOYS.items():
        full = f"stages.lib.{kind}.{name}"
        for module in [module for module in sys.modules if module == full or module.startswith(f"{full}.")]:
            del sys.modules[module]
        vars(sys.modules[f"stages.lib.{kind}"]).pop(name, None)


def every(kind: str) -> list[str]:
    return [*plugins.names(kind), TOYS[kind]]


# Tasks.


class Answers(NamedTuple):
    """What one task's labels look like."""

    label: Callable[[np.random.Generator, int], str]  # a random label, as a reader gives it, of the example with this number
    unknown: tuple[str, str] | None  # a label that is none, and what is said of it; None if every text is one
    steps: Callable[[str], int] | None = None  # how many words or frames the example of a label has
    decoded: Callable[[str], Any] = lambda label: ""  # its input, as `served` gets it
    options: Mapping[str, Any] = MappingProxyType({})  # of training, that it needs
    alone: bool = True  # whether an example's loss is the same whatever the others are

    def labels(self) -> list[str]:
        random = np.random.default_rng(0)
        return random.permutation(np.array([self.label(random, row) for row in range(NUM)], dtype=object)).tolist()


WORDS = ["cat", "NA", "01", "a b, c"]  # also such as a table could take for no value or a number
TAGS = ["O", "O", "B-NA", "I-NA", "B-01", "I-01", "I-x-y"]
SAID = ["one", "two, two", "NA", "3", 'it\'s "zero"']


def some(random: np.random.Generator, values: list[str], most: int) -> str:
    return " ".join(random.choice(values, random.integers(1, most + 1)))


TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 3, "dim": 5}
TASKS = {
    "classify": Answers(lambda random, row: WORDS[row % 4], ("no such label", "no such label")),
    "mlm": Answers(lambda random, row: some(random, WORDS, 6), None, steps=lambda label: len(label.split())),
    "embed": Answers(
        lambda random, row: [*WORDS, "\u00c5sa", "a"][row % 6], None, options={"metric_learning": TRIPLET}, alone=False
    ),
    "few_shot": Answers(
        lambda random, row: WORDS[row % 4], None, options={"metric_learning": TRIPLET}, alone=False
    ),
    "regress": Answers(lambda random, row: f"{random.normal():.4f}", ("no such label", "no such label")),
    "tag": Answers(
        lambda random, row: some(random, TAGS, 6), ("O B-none", "B-none"), steps=lambda label: len(label.split()),
        decoded=lambda label: " ".join("word" for _ in label.split()),
    ),
    "transcribe": Answers(lambda random, row: some(random, SAID, 3), None, steps=lambda label: 2 * len(label) + 3),
}  # fmt: skip


class Task(NamedTuple):
    """One task, with random labels and random outputs of a network."""

    door: ModuleType
    learning: ModuleType
    measures: ModuleType
    to: ModuleType
    answers: Answers
    labels: list[str]
    names: list[str]
    targets: torch.Tensor
    outputs: torch.Tensor

    @property
    def padded(self) -> torch.Tensor:
        """(N, S) which steps of the outputs are padding; (N,) of an example's one output."""
        return self.outputs[..., 0] < NO_STEP / 2

    def found(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Predictions, as the test stores them, and targets."""
        noise = torch.randn(self.outputs.shape, generator=torch.Generator().manual_seed(seed))
        outputs = (self.outputs + noise).masked_fill(self.padded[..., None], NO_STEP)
        predictions = self.to.predictions(outputs)
        if not hasattr(self.measures, "units"):
            return predictions, self.targets.numpy()
        found = self.measures.units(predictions, self.split())
        return found.values, found.targets

    def split(self) -> PackedSplit:
        """Its examples, with as many few-shot episodes."""
        inputs = datasets.in_memory([np.zeros(1)] * NUM, ragged=False)
        drawn = episodes.draw(self.labels, (), way=[3, 4], shots=[1, 2], queries=3, number=NUM, seed=0)
        return inputs._replace(labels=self.labels, episodes=drawn)


def task_of(name: str) -> Task:
    door, learning, measures, to = (plugins.load("tasks", name, part) for part in ("", "learning", "measures", "outputs"))
    answers, generator = TASKS[name], torch.Generator().manual_seed(0)
    labels = answers.labels()
    names = learning.outputs(labels) or numbered(5)
    outputs = torch.randn(NUM, len(names), generator=generator)
    if answers.steps:
        steps = torch.tensor([answers.steps(label) for label in labels])
        outputs = torch.randn(NUM, int(steps.max()), len(names), generator=generator)
        outputs[torch.arange(outputs.shape[1]) >= steps[:, None]] = NO_STEP
    return Task(door, learning, measures, to, answers, labels, names, learning.targets(labels, names), outputs)


# Modalities.


def picture(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Random pixels, as PNG and as BMP."""
    height, width = random.integers(33, 35, 2)  # so few shapes that some of six are of the same
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    files = io.BytesIO(), io.BytesIO()
    for file, kind in zip(files, ("PNG", "BMP"), strict=True):
        image.save(file, kind)
    return files[0].getvalue(), files[1].getvalue()


def numbers(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Random numbers, with spaces and with line breaks between them."""
    words = [f"{number:.3f}" for number in random.random(random.integers(1, 14))]
    return " ".join(words).encode(), "\n".join(words).encode()


def sentence(random: np.random.Generator) -> tuple[bytes, bytes]:
    """Random words, as UTF-8 and as some editors save it."""
    words = some(random, [*texts.LONG.split(), "unlikely", "🙂", "<b>"], 12)
    return words.encode(), b"\xef\xbb\xbf" + words.replace(" ", " \r\n").encode() + b"\r\n"


def recording(random: np.random.Generator) -> tuple[bytes, bytes]:
    """A random tone, as WAV and as FLAC."""
    samples = sounds.voice(0.3 + 0.5 * random.random(), seed=int(random.integers(100)))
    return sounds.encoded(samples, "WAV", "PCM_16"), sounds.encoded(samples, "FLAC", "PCM_16")


class Described(NamedTuple):
    """What one modality's inputs look like."""

    encoded: Callable[[np.random.Generator], tuple[bytes, bytes]]  # one random input, encoded in two ways
    preprocessing: dict[str, Any]  # of a source's card
    packing: dict[str, Any]  # of a dataset's block
    files: Callable[[], dict[str, bytes]] = dict  # that belong to the preprocessing
    few: dict[str, Any] | None = None  # packing that cuts inputs; None if nothing is ever cut
    fills: tuple[int, ...] = (0,)  # what pads each tensor of a batch, if not all with 0
    exported: Callable[[list[np.ndarray], Any], tuple[torch.Tensor, ...]] | None = None
    """What the exported network takes, from packed inputs and the batch of the network here."""


MODALITIES = {  # by the name of the plug-in, after what is special
    "image": Described(
        picture, HOW, {"px": 32, "fit": "squash"}, exported=lambda packed, batch: (torch.from_numpy(np.stack(packed)),)
    ),
    "grey image": Described(
        picture, HOW | {"mean": [0.1307], "std": [0.3081]}, {"px": 28, "fit": "frame"},
        exported=lambda packed, batch: (torch.from_numpy(np.stack(packed)),),
    ),
    "text": Described(
        sentence, texts.HOW | {"tokenizer_sha256": "0" * 64}, {"max_tokens": 10}, few={"max_tokens": 4}, fills=(0, 0, -1),
        files=lambda: {"tokenizer.json": texts.wordpiece().to_str().encode()}, exported=lambda packed, batch: batch[:2],
    ),
    "audio": Described(
        recording, {"sample_rate": 16_000, "features": "log_mel"}, {"max_seconds": 0.7}, few={"max_seconds": 0.1},
        exported=lambda packed, batch: plugins.load("modalities", "audio", "inputs").padded(packed, CPU),
    ),
    "sequence": Described(numbers, {"mean": 0.5, "std": 0.3}, {"most_steps": 8}, few={"most_steps": 1}),
}  # fmt: skip


class Modality(NamedTuple):
    """One modality, with six random inputs."""

    name: str
    door: ModuleType
    inputs: ModuleType
    served: ModuleType
    described: Described
    encoded: list[tuple[bytes, bytes]]
    packing: dict[str, Any]
    packed: list[np.ndarray]
    folder: str

    @property
    def card(self) -> dict[str, Any]:
        """The preprocessing on the card of a trained model, and the folder of its files if there are any."""
        return self.described.preprocessing | self.packing | ({"folder": self.folder} if self.described.files() else {})

    def split(self) -> PackedSplit:
        return datasets.in_memory(self.packed, self.door.RAGGED)

    def load(self) -> LoadedSplit:
        return self.inputs.load(self.split(), torch.arange(len(self.packed)), self.card, CPU)

    def same(self, part: Any, whole: Any, rows: list[int]) -> bool:
        """Whether a batch holds these rows of another one, both padded as far as each needs it."""
        few, many = leaves(part), leaves(whole)
        fills = self.described.fills * (len(few) if len(self.described.fills) == 1 else 1)
        for one, other, fill in zip(few, many, fills, strict=True):
            chosen = other[rows]
            beyond = torch.ones_like(chosen, dtype=torch.bool)
            beyond[tuple(slice(side) for side in one.shape)] = False
            if one.numel() != (~beyond).sum() or not one.flatten().equal(chosen[~beyond]) or (chosen[beyond] != fill).any():
                return False
        return structure(part) == structure(whole)


def modality_of(name: str) -> Modality:
    plugin = name.split()[-1]
    door, inputs, served = (plugins.load("modalities", plugin, part) for part in ("", "inputs", "served"))
    described, random = MODALITIES[name], np.random.default_rng(0)
    (folder := Path(CACHE.name) / name).mkdir(exist_ok=True)
    for file, content in described.files().items():
        (folder / file).write_bytes(content)
    encoded = [described.encoded(random) for _ in range(6)]
    packing = inputs.packing(**described.packing, preprocessing=described.preprocessing)
    packed = [inputs.pack(inputs.decode(each), **packing) for each, _ in encoded]
    return Modality(plugin, door, inputs, served, described, encoded, packing, packed, str(folder))


def leaves(batch: Any) -> list[torch.Tensor]:
    """The tensors of a batch: it may be one, or a tuple or a dict of some."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    return [leaf for part in (batch.values() if isinstance(batch, dict) else batch) for leaf in leaves(part)]


def structure(batch: Any) -> tuple[Any, ...]:
    return type(batch), [(leaf.dtype, leaf.ndim, leaf.device) for leaf in leaves(batch)]
