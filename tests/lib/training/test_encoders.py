"""Strategies on tiny encoders of text and speech: per example, per word and per frame, from preparation to proof."""

import copy
import re
from functools import cache
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from stages.lib.core import plugins
from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from stages.lib.shell import checkpoints
from stages.lib.strategies.bss import penalty as bss
from stages.lib.training import setup as setups
from stages.lib.training import train as trains
from stages.lib.training.phases import Data
from tests.lib.libraries.encoders import TINY
from tests.lib.training.whole import HYPERPARAMETERS
from tests.tiny import options

TASKS = {"example": "classify", "word": "tag", "frame": "transcribe"}
TAGS, LETTERS = ["O", "B-a", "I-a"], "abc"
FEW = ["full", "partial", "feature_extraction", "lora", "lp_ft"]
ABLE = [
    name for name in HYPERPARAMETERS if name != "frozen" and not getattr(plugins.load("strategies", name), "UNLABELLED", False)
]
CASES = [("bert", "example", strategy) for strategy in ABLE]
CASES += [("bert", "word", strategy) for strategy in ABLE if strategy not in ("linear_probe", "knn", "prototype")]
CASES += [(model, "frame", strategy) for model in ("whisper", "wav2vec2") for strategy in FEW]
EVERY = pytest.mark.parametrize(("model", "per", "strategy"), CASES)
LAYER = {"bert": "encoder.layer", "whisper": "layers", "wav2vec2": "encoder.layers"}  # where the transformer layers are


def architecture(model: str) -> dict[str, Any]:
    return {"library": "transformers", "model": model, "pooling": "mean", "config": TINY[model]}


def texts(per: str, num: int, seed: int) -> tuple[list[Any], list[str], Any]:
    """Random pieces between two marks, the first of which says the class; tags are those of each word's piece."""
    draws = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for index in range(num):
        row = torch.randint(10, 60, (3 + index % 4,), generator=draws)
        row[0] = 10 + index % 2
        rows.append(torch.cat([torch.tensor([1]), row, torch.tensor([2])]))
        kinds = [TAGS[int(piece) % 3] for piece in row]
        labels.append(("even", "odd")[index % 2] if per == "example" else " ".join(kinds).replace("O I", "O B"))

    def batch(indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        chosen = [rows[index] for index in indices]
        pieces = pad_sequence(chosen, batch_first=True)
        starts = pad_sequence([torch.arange(1, len(row) - 1) for row in chosen], batch_first=True, padding_value=-1)
        return pieces, pieces > 0, starts

    return rows, labels, batch


def recordings(model: str, num: int, seed: int) -> tuple[list[Any], list[str], Any]:
    """Noise that is louder where a letter is said."""
    draws = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for index in range(num):
        said = "".join(LETTERS[(index + each) % 3] for each in range(2 + index % 2))
        length = (34 if model == "whisper" else 500) + 6 * (index % 3)
        row = torch.randn(length, *([8] if model == "whisper" else []), generator=draws)
        for number, letter in enumerate(said):
            row[length * number // len(said) :][:8] *= 2 + LETTERS.index(letter)
        rows.append(row)
        labels.append(said)

    def batch(indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        chosen = [rows[index] for index in indices]
        values = pad_sequence(chosen, batch_first=True)
        return (values.transpose(1, 2) if values.ndim == 3 else values), torch.tensor([len(row) for row in chosen])

    return rows, labels, batch


def split(model: str, per: str, num: int, seed: int, names: list[str] | None = None) -> tuple[LoadedSplit, list[str]]:
    """Examples of different lengths, and what the outputs mean."""
    rows, labels, batch = texts(per, num, seed) if model == "bert" else recordings(model, num, seed)
    task = plugins.load("tasks", TASKS[per], "learning")
    names = names or task.outputs(labels)
    lengths = torch.tensor([len(row) for row in rows])
    return LoadedSplit(lambda indices, level, draws: batch(indices), task.targets(labels, names), 0, lengths=lengths), names


def opts(per: str, **changes: Any) -> Any:
    return options(**{"augment": "none", "batch_size": 6} | ({} if per == "example" else {"label_smoothing": 0}) | changes)


@cache
def weights(model: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return backbones.build(backbones.asked_for(architecture(model), "example")).state_dict()


def prepare(model: str, per: str, strategy: str, num_outputs: int, start: Any = None, *, same_outputs: bool = False,
            **changes: Any) -> Any:  # fmt: skip
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(accelerator="cpu", devices=1)
    tensors, built = start or (weights(model), architecture(model))
    return fabric, setups.prepare(
        fabric, copy.deepcopy(tensors), built, num_outputs, per, strategy=strategy, hyperparameters=HYPERPARAMETERS[strategy],
        options=opts(per, **changes), num_examples=24, seed=1, same_outputs=same_outputs,
    )  # fmt: skip


def go(model: str, per: str, strategy: str, *, state: Any = None, save: Any = lambda state: None, start: Any = None,
       **changes: Any) -> Any:  # fmt: skip
    """One training; gives its setup, the results, and the validation examples."""
    train, names = split(model, per, 24, 0)
    val, _ = split(model, per, 12, 1, names)
    fabric, setup = prepare(model, per, strategy, len(names), start, **changes)
    task = plugins.load("tasks", TASKS[per], "learning")
    how = opts(per, **{key: value for key, value in changes.items() if key != "same_outputs"})
    trained = trains.train(fabric, setup, Data(train, val), task, how, names, loss_jump=3, seed=1, state=state, save=save)
    return setup, trained, val


finished = cache(go)


@EVERY
def test_exactly_what_is_declared_moves(model, per, strategy):
    setup, trained, _ = finished(model, per, strategy)
    before, after = setup.before, setup.model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items() if name.startswith("backbone."))
    assert list(after) == list(before), "adapters are merged"
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    named = {name for phase in setup.phases for name in phase.lrs}
    if strategy == "lora":
        linear = [name for name, module in setup.model.backbone.named_modules() if isinstance(module, nn.Linear)]
        named = {f"backbone.{name}.weight" for name in linear} | {name for name in before if name.startswith("head.")}
    if not setup.phases:
        named = {f"head.{name}" for name in setup.model.head.state_dict()}
    if not (strategy == "wise_ft" and not moved & {name for name in named if name.startswith("backbone.")}):  # the probe was kept
        assert moved == named
    assert (trained.certificate.verdict == "ok").all()
    whole = trained.certificate[trained.certificate.phase == "all"]
    assert list(whole.tensor) == list(before) and set(whole[whole.moved].tensor) == moved


@pytest.mark.parametrize(("model", "per"), sorted({case[:2] for case in CASES}))
def test_the_last_two_blocks_are_the_last_two_transformer_layers(model, per):
    setup, _, _ = finished(model, per, "partial")
    trained = {name for name in setup.phases[0].lrs if not name.startswith("head.")}
    own = re.compile(rf"backbone\.base\.{re.escape(LAYER[model])}\.(\d+)\.")
    in_layers = {name: own.match(name) for name in setup.before}
    expected = {name for name, found in in_layers.items() if found and found[1] in "12"}
    after_them = {"backbone.base.layer_norm.weight", "backbone.base.layer_norm.bias"} if model == "whisper" else set()
    assert len(expected) > 20 and trained == expected | after_them


@pytest.mark.parametrize(("model", "per", "strategy"), [
    ("bert", "example", "lora"), ("bert", "example", "wise_ft"), ("bert", "example", "delta"), ("bert", "word", "gradual"),
    ("bert", "word", "l2_sp"), ("whisper", "frame", "lp_ft"), ("wav2vec2", "frame", "partial"),
])  # fmt: skip
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(model, per, strategy, tmp_path):
    files = []

    def save(state):
        files.append(tmp_path / str(len(files)))
        checkpoints.save(files[-1], state)

    setup, trained, _ = go(model, per, strategy, save=save)
    whole, kept = setup.model.state_dict(), list(files)
    assert len(kept) == sum(phase.epochs for phase in setup.phases)
    for file in kept:
        again, resumed, _ = go(model, per, strategy, state=checkpoints.load(file))
        assert all(torch.equal(tensor, whole[name]) for name, tensor in again.model.state_dict().items())
        assert resumed.certificate.equals(trained.certificate) and resumed.best == trained.best


@pytest.mark.parametrize(("model", "per"), [("bert", "example"), ("bert", "word"), ("whisper", "frame")])
def test_a_kept_head_goes_on_where_the_hop_ended(model, per):
    """The loss at the start is the hop's last; with a new head, or a head of another shape, it is not."""
    setup, trained, val = go(model, per, "full", head={"hidden": 0, "dropout": 0, "zero": False, "keep": True})
    task, names = plugins.load("tasks", TASKS[per], "learning"), split(model, per, 24, 0)[1]
    start = setup.model.state_dict(), setup.architecture

    def first_loss(same_outputs, **head):
        head = {"hidden": 0, "dropout": 0, "zero": False, "keep": True} | head
        _, after = prepare(model, per, "full", len(names), start, same_outputs=same_outputs, head=head)
        assert torch.equal(after.model.state_dict()["backbone." + first], start[0]["backbone." + first])
        return task.figures(predict(after.model, val, 6), val.targets)["loss"]

    first = next(iter(setup.model.backbone.state_dict()))
    assert first_loss(True) == pytest.approx(trained.best["val_loss"], abs=1e-6)
    for others in ({"same_outputs": False}, {"same_outputs": True, "keep": False}, {"same_outputs": True, "hidden": 4}):
        assert first_loss(**others) != pytest.approx(trained.best["val_loss"], abs=1e-3)


def test_a_strategy_with_a_head_of_its_own_keeps_none():
    setup, _, _ = finished("bert", "example", "full")
    start = setup.model.state_dict(), setup.architecture
    _, after = prepare("bert", "example", "prototype", 2, start, same_outputs=True,
                       head={"hidden": 0, "dropout": 0, "zero": False, "keep": True})  # fmt: skip
    assert after.architecture["head"]["kind"] == "prototype"


def test_a_computed_head_is_refused_where_features_are_per_word():
    """params.yaml is checked for it too; the head itself has no meaning there."""
    assert {"knn", "prototype"} <= set(plugins.load("tasks", "classify").HEADS)
    for task in ("tag", "transcribe"):
        assert plugins.load("tasks", task).HEADS == ("linear",)


@pytest.mark.parametrize(("model", "per"), [("bert", "word"), ("whisper", "frame")])
def test_a_penalty_on_features_leaves_padding_out(model, per):
    """Each word or frame is a row of the matrix, and so a batch has the penalty of its examples without padding."""
    train, names = split(model, per, 24, 0)
    _, setup = prepare(model, per, "full", len(names))
    backbone, rows = setup.model.eval().backbone, torch.tensor([0, 1, 2, 3])
    with bss.attach(setup.model, setup.model, train, None, eta=0.1, k=3) as compute, torch.no_grad():
        alone = [backbone(train.inputs(rows[index : index + 1], "none", None))[0] for index in rows]
        assert len({len(features) for features in alone}) > 1, "some are padded"
        batch = train.inputs(rows, "none", None)
        setup.model(batch)
        assert compute(batch).item() == pytest.approx(bss.bss(torch.cat(alone), 0.1, 3).item(), rel=1e-3)
