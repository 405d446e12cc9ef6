"""Every modality and every task keeps the contract of stages/README.md: those of the project, and the toys that tests add.

A new one needs an entry in MODALITIES or LABELS here, which says what its inputs or labels look like.
"""

import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from stages.lib.core import cards, plugins
from stages.lib.core.cards import PackedSplit
from stages.lib.core.contracts import LoadedSplit, Metric, Mix
from stages.lib.errors import UserError
from stages.lib.evaluation import comparison
from stages.lib.params.schema import Evaluate, TrainingOptions
from tests.tiny import HOW, PARAMS, ROOT, options

TOYS = {"modalities": "sequence", "tasks": "regress"}
SETTINGS = Evaluate.model_validate(PARAMS["evaluate"])
CPU = torch.device("cpu")
NUM = 24
WORDS = np.array(["cat", "NA", "01", "a b, c"], dtype=object)  # also such as a table could take for no value or a number

# By task: NUM random labels, as a reader gives them.
LABELS: dict[str, Callable[[np.random.Generator], list[str]]] = {
    "classify": lambda random: random.permutation(np.resize(WORDS, NUM)).tolist(),
    "regress": lambda random: [f"{number:.4f}" for number in random.normal(size=NUM)],
}


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


class Described(NamedTuple):
    """What one modality's inputs look like."""

    encoded: Callable[[np.random.Generator], tuple[bytes, bytes]]  # one random input, encoded in two ways
    preprocessing: dict[str, Any]  # of a source's card
    packing: dict[str, Any]  # of a dataset's block


MODALITIES = {
    "image": Described(picture, HOW, {"px": 32, "fit": "squash"}),
    "sequence": Described(numbers, {"mean": 0.5, "std": 0.3}, {"most_steps": 8}),
}
DAMAGED = [b"", b"\x00 damaged \xff"]


@pytest.fixture(scope="module", autouse=True)
def toys() -> Iterator[None]:
    """The folders of tests/toy, as if they were in stages/lib, for the tests of this file alone."""
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


def test_every_plugin_is_described_here():
    assert set(every("tasks")) == set(LABELS) and set(every("modalities")) == set(MODALITIES)


# Tasks.


class Task(NamedTuple):
    """One task, with random labels and random outputs of a network."""

    door: ModuleType
    learning: ModuleType
    measures: ModuleType
    labels: list[str]
    names: list[str]
    targets: torch.Tensor
    outputs: torch.Tensor

    def found(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Predictions, as the test stores them, and targets."""
        noise = torch.randn(self.outputs.shape, generator=torch.Generator().manual_seed(seed))
        return self.measures.predictions(self.outputs + noise), self.targets.numpy()


@pytest.fixture(params=every("tasks"))
def task(request) -> Task:
    door, learning, measures = (plugins.load("tasks", request.param, part) for part in ("", "learning", "measures"))
    labels = LABELS[request.param](np.random.default_rng(0))
    names = learning.outputs(labels)
    outputs = torch.randn(NUM, len(names), generator=torch.Generator().manual_seed(0))
    return Task(door, learning, measures, labels, names, learning.targets(labels, names), outputs)


def test_a_task_names_its_metrics_and_heads(task):
    door = task.door
    assert tuple(task.measures.METRICS) == door.METRICS and door.PRIMARY in door.METRICS
    assert all(isinstance(metric, Metric) for metric in task.measures.METRICS.values())
    assert door.HEADS and isinstance(door.ADVISED, tuple) and door.PER in ("example", "word", "frame")
    assert set(door.UNUSED) <= set(TrainingOptions.model_fields)


def test_outputs_have_names_that_do_not_depend_on_the_order_of_examples(task):
    assert task.names and len(set(task.names)) == len(task.names) and all(isinstance(name, str) for name in task.names)
    assert task.learning.outputs(task.labels[::-1]) == task.names


def test_targets_are_one_for_each_example_and_a_label_that_is_none_is_named(task):
    assert len(task.targets) == NUM
    alone = torch.cat([task.learning.targets([label], task.names) for label in task.labels])
    assert alone.equal(task.targets)
    with pytest.raises(UserError, match="no such label"):
        task.learning.targets([*task.labels, "no such label"], task.names)


@pytest.mark.parametrize("balance", ["none", "sampling", "weights"])
def test_batches_are_as_many_in_each_epoch_and_hold_valid_indices(task, balance):
    how = options(balance=balance, batch_size=7)
    generator = torch.Generator().manual_seed(0)
    epochs = [task.learning.batches(task.targets, how, generator) for _ in range(5)]
    assert len({len(batches) for batches in epochs}) == 1
    for batches in epochs:
        assert all(0 < len(batch) <= 7 and not batch.is_floating_point() for batch in batches)
        indices = torch.cat(batches)
        assert indices.min() >= 0 and indices.max() < NUM
        if balance != "sampling":
            assert indices.sort().values.equal(torch.arange(NUM)), "each example once"
    assert not torch.cat(epochs[0]).equal(torch.cat(epochs[1]))
    again = task.learning.batches(task.targets, how, torch.Generator().manual_seed(0))
    assert torch.cat(again).equal(torch.cat(epochs[0]))


def test_losses_are_one_for_each_example_whatever_the_others_are(task):
    losses = task.learning.loss(task.outputs, task.targets)
    assert losses.shape == (NUM,) and losses.isfinite().all()
    rows = torch.tensor([3, 8, 20])
    assert task.learning.loss(task.outputs[rows], task.targets[rows]).allclose(losses[rows])


def test_the_criterion_is_the_loss_unless_it_is_weighted_or_smoothed(task):
    plain = task.learning.criterion(task.targets, options(label_smoothing=0))
    assert plain(task.outputs, task.targets).allclose(task.learning.loss(task.outputs, task.targets))
    outputs = task.outputs[:5].clone().requires_grad_()
    losses = task.learning.criterion(task.targets, options(label_smoothing=0.1, balance="weights"))(outputs, task.targets[:5])
    losses.sum().backward()
    assert losses.shape == (5,) and (outputs.grad != 0).any(1).all()


def test_figures_strata_guess_and_alarms(task):
    figures = task.learning.figures(task.outputs, task.targets)
    assert {"loss", task.door.PRIMARY} <= set(figures) and all(type(value) is float for value in figures.values())
    strata = task.learning.strata(task.targets)
    assert strata.shape == (NUM,) and strata.dtype in (torch.int32, torch.int64)
    guess = task.learning.guess(task.targets)
    assert type(guess) is float and guess > 0
    for outputs in (task.outputs, torch.zeros_like(task.outputs)):
        alarms = task.learning.alarms(outputs, task.targets, task.names)
        assert isinstance(alarms, list) and all(isinstance(alarm, str) for alarm in alarms)


def test_the_primary_metric_on_validation_is_that_of_the_test(task):
    predictions, targets = task.measures.predictions(task.outputs), task.targets.numpy()
    (value,) = task.measures.METRICS[task.door.PRIMARY].values(predictions.astype(np.float64), targets, np.ones((1, NUM)))
    assert task.learning.figures(task.outputs, task.targets)[task.door.PRIMARY] == pytest.approx(value, abs=1e-6)


def test_predictions_are_float32_and_come_back_from_their_table_bit_for_bit(task, tmp_path):
    predictions, targets = task.found()
    assert predictions.dtype == np.float32 and len(predictions) == NUM
    assert np.array_equal(task.measures.activation(task.outputs).numpy(), task.measures.predictions(task.outputs))
    columns = task.measures.table(predictions, targets, task.names)
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"key": [f"{row:03}" for row in range(NUM)], "group": ""} | columns).to_csv(path, index=False)
    table = comparison.read_predictions(path)
    assert "label" in table and table["key"][1] == "001"
    read = task.measures.read(table, task.names)
    assert read[0].dtype == np.float32 and np.array_equal(read[0], predictions)
    assert read[1].dtype == targets.dtype and np.array_equal(read[1], targets)
    with pytest.raises(KeyError):
        task.measures.read(table[["key", "group", "label"]], task.names)
    with pytest.raises(KeyError):
        task.measures.read(table.drop(columns="label"), task.names)


def test_a_metric_of_weights_is_the_metric_of_as_many_copies(task):
    predictions, targets = task.found()
    exact = predictions.astype(np.float64)
    weights = np.random.default_rng(1).choice([0.0, 1.0, 2.0], (4, NUM))
    for metric in task.measures.METRICS.values():
        values = metric.values(exact, targets, weights)
        assert values.shape == (4,) and (not metric.fraction or ((values >= 0) & (values <= 1)).all())
        for value, row in zip(values, weights.astype(int), strict=True):
            copies = np.repeat(exact, row, axis=0), np.repeat(targets, row, axis=0)
            assert metric.values(*copies, np.ones((1, row.sum()))) == pytest.approx(value, nan_ok=True)
        once, twice = metric.values(exact, targets, np.array([[1.0], [2.0]]).repeat(NUM, axis=1))
        assert np.isfinite(once) and once == pytest.approx(twice)


def test_examples_for_which_two_arms_differ(task):
    arm = np.stack([task.found(seed)[0] for seed in (1, 2, 3)])
    other = np.stack([task.found(seed)[0] for seed in (4, 5, 6)])
    for metric in task.measures.METRICS.values():
        differ = metric.differ(arm, other)
        assert differ.shape == (3, NUM) and differ.dtype == bool and differ.any()
        assert not metric.differ(arm, arm).any()


def test_the_report_has_every_metric_with_its_interval_and_what_is_shown_exists(task, tmp_path):
    predictions, targets = task.found()
    report = task.measures.report(predictions, targets, None, task.names, SETTINGS, 0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert next(iter(report["metrics"])) == task.door.PRIMARY and set(task.door.METRICS) <= set(report["metrics"])
    for name, metric in task.measures.METRICS.items():
        entry = report["metrics"][name]
        (value,) = metric.values(predictions.astype(np.float64), targets, np.ones((1, NUM)))
        assert entry["lower"] < entry["upper"] and entry["value"] == pytest.approx(value, abs=1e-6)
    assert report == task.measures.report(predictions, targets, None, task.names, SETTINGS, 0)
    groups = np.array([f"group {row // 4}" for row in range(NUM)], dtype=object)
    grouped = task.measures.report(predictions, targets, groups, task.names, SETTINGS, 0)["metrics"][task.door.PRIMARY]
    assert grouped["value"] == report["metrics"][task.door.PRIMARY]["value"] and grouped != report["metrics"][task.door.PRIMARY]
    task.measures.write(tmp_path, predictions, targets, report, "title", SETTINGS)
    assert all((tmp_path / name).stat().st_size for name in task.measures.PLOTS)


def test_the_served_model_answers_with_a_row_for_each_example(task):
    predictions, _ = task.found()
    answers = pd.DataFrame(task.measures.served(predictions, task.names, [""] * NUM))
    assert len(answers) == NUM
    assert list(pd.DataFrame(task.measures.served(predictions[:0], task.names, [])).columns) == list(answers.columns)


@pytest.mark.parametrize("num", [0, 3, 2 * NUM])
def test_what_is_explained_are_rows_outputs_and_titles(task, num):
    predictions, targets = task.found()
    rows, outputs, titles = task.measures.most_certain(predictions, targets, list(map(str, range(NUM))), task.names, num)
    assert len(rows) == len(outputs) == len(titles) and (len(rows) > 0) == (num > 0)
    assert len(set(rows.tolist())) == len(rows) and set(rows.tolist()) <= set(range(NUM))
    assert set(outputs.tolist()) <= set(range(len(task.names))) and all(isinstance(title, str) for title in titles)


# Modalities.


class Modality(NamedTuple):
    """One modality, with random inputs."""

    name: str
    door: ModuleType
    inputs: ModuleType
    served: ModuleType
    described: Described
    encoded: list[tuple[bytes, bytes]]
    packing: dict[str, Any]
    packed: list[np.ndarray]

    @property
    def card(self) -> dict[str, Any]:
        """The preprocessing on the card of a trained model."""
        return self.described.preprocessing | self.packing

    def split(self) -> PackedSplit:
        return cards.in_memory(self.packed, self.door.RAGGED)

    def load(self) -> LoadedSplit:
        return self.inputs.load(self.split(), torch.arange(len(self.packed)), self.card, CPU)


def made(name: str) -> Modality:
    door, inputs, served = (plugins.load("modalities", name, part) for part in ("", "inputs", "served"))
    described, random = MODALITIES[name], np.random.default_rng(0)
    encoded = [described.encoded(random) for _ in range(6)]
    packing = inputs.packing(**described.packing, preprocessing=described.preprocessing)
    packed = [inputs.pack(inputs.decode(each), **packing) for each, _ in encoded]
    return Modality(name, door, inputs, served, described, encoded, packing, packed)


@pytest.fixture(params=every("modalities"))
def modality(request) -> Modality:
    return made(request.param)


def leaves(batch: Any) -> list[torch.Tensor]:
    """The tensors of a batch: it may be one, or a tuple or a dict of some."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    return [leaf for part in (batch.values() if isinstance(batch, dict) else batch) for leaf in leaves(part)]


def structure(batch: Any) -> tuple:
    return type(batch), [(leaf.dtype, leaf.ndim, leaf.device) for leaf in leaves(batch)]


def same(part: Any, whole: Any, rows: list[int]) -> bool:
    """Whether a batch holds these rows of another one, both padded with 0 as far as each needs it."""
    for few, many in zip(leaves(part), leaves(whole), strict=True):
        chosen = many[rows]
        cut = chosen[tuple(slice(side) for side in few.shape)]
        if not few.equal(cut) or chosen.count_nonzero() != cut.count_nonzero():
            return False
    return structure(part) == structure(whole)


def test_a_modality_says_what_its_inputs_are(modality):
    door = modality.door
    assert isinstance(door.NOUN, str) and door.NOUN and "none" in door.AUGMENTATIONS
    assert isinstance(door.MIXES, bool) and isinstance(door.RAGGED, bool) and "example" in door.PER


@pytest.mark.parametrize("name", ["Preprocessing", "Packing"])
def test_its_params_are_all_required_and_no_others_allowed(modality, name):
    params, block = getattr(modality.door, name), getattr(modality.described, name.lower())
    assert all(field.is_required() for field in params.model_fields.values())
    assert params.model_config["strict"] and json.loads(params.model_validate(block).model_dump_json()) == block
    for wrong in [block | {"another": 1}, *({key: block[key] for key in block if key != left} for left in block)]:
        with pytest.raises(ValidationError):
            params.model_validate(wrong)


@pytest.mark.parametrize("damaged", DAMAGED, ids=["empty", "damaged"])
def test_what_is_damaged_cannot_be_decoded_or_received(modality, damaged):
    for function in (modality.inputs.decode, modality.served.receive):
        with pytest.raises(Exception):  # noqa: B017  # of any kind
            function(damaged)


def test_the_digest_is_that_of_the_content(modality):
    digests = [[modality.inputs.digest(modality.inputs.decode(file)) for file in files] for files in modality.encoded]
    assert all(first == second for first, second in digests)
    assert len({first for first, _ in digests}) == len(digests)


def test_packed_inputs_are_of_one_type_and_shape(modality):
    assert json.loads(json.dumps(modality.packing)) == modality.packing
    assert len({each.dtype for each in modality.packed}) == 1
    shapes = {each.shape[1:] if modality.door.RAGGED else each.shape for each in modality.packed}
    assert len(shapes) == 1
    assert (len({len(each) for each in modality.packed}) > 1) == modality.door.RAGGED
    for (file, _), packed in zip(modality.encoded, modality.packed, strict=True):
        assert np.array_equal(modality.inputs.pack(modality.inputs.decode(file), **modality.packing), packed)


def test_data_packed_for_the_weights_do_not_mismatch(modality):
    assert modality.inputs.mismatch(modality.packing, modality.described.preprocessing) == {}


def test_a_batch_holds_the_inputs_of_its_indices(modality):
    loaded = modality.load()
    whole = loaded.inputs(torch.arange(6), "none", None)
    assert all(len(leaf) == 6 and leaf.device == CPU for leaf in leaves(whole))
    assert loaded.targets.equal(torch.arange(6)) and loaded.num_draws >= 0
    for rows in (*([row] for row in range(6)), [1, 3], [5, 0, 2], list(range(6))):
        assert same(loaded.inputs(torch.tensor(rows), "none", None), whole, rows)
    assert not same(loaded.inputs(torch.tensor([1]), "none", None), whole, [2])


def test_an_augmentation_depends_on_an_examples_own_draws_alone(modality):
    loaded, everything = modality.load(), torch.arange(6)
    draws = torch.rand(6, loaded.num_draws, generator=torch.Generator().manual_seed(0))
    for level in set(modality.door.AUGMENTATIONS) - {"none"}:
        whole = loaded.inputs(everything, level, draws)
        assert not same(whole, loaded.inputs(everything, "none", None), list(range(6)))
        for rows in ([4], [5, 0, 2]):
            assert same(loaded.inputs(torch.tensor(rows), level, draws[rows]), whole, rows)
        others = draws.roll(1, 0)
        others[2] = draws[2]
        mostly = loaded.inputs(everything, level, others)
        assert same(loaded.inputs(torch.tensor([2]), level, draws[2:3]), mostly, [2])
        assert not same(mostly, whole, list(range(6)))


def test_inputs_can_be_mixed_where_the_modality_says_so(modality):
    loaded = modality.load()
    assert (loaded.mix is not None) == modality.door.MIXES
    if loaded.mix is None:
        return
    batch, partner = loaded.inputs(torch.arange(6), "none", None), torch.arange(6).roll(1)
    others = loaded.inputs(partner, "none", None)
    for how in (Mix(partner, 0.75, None), Mix(partner, 0.75, (0.25, 0.75, 0.25, 0.75))):
        mixed, fraction = loaded.mix(batch, others, how)
        assert structure(mixed) == structure(batch) and fraction == pytest.approx(0.75)
        assert not same(mixed, batch, list(range(6)))
    assert same(batch, loaded.inputs(torch.arange(6), "none", None), list(range(6))), "the batch itself stays as it was"


def test_the_probe_is_an_input_like_those_of_a_batch(modality):
    probe = modality.inputs.probe(modality.card, CPU)
    assert structure(probe) == structure(modality.load().inputs(torch.tensor([0]), "none", None))
    assert all(len(leaf) == 1 for leaf in leaves(probe))


def test_the_served_model_receives_what_readers_give(modality):
    inputs, served = modality.inputs, modality.served
    assert isinstance(served.COLUMN, str) and isinstance(served.ALLOWED, str)
    for file, _ in modality.encoded:
        assert inputs.digest(served.receive(file)) == inputs.digest(inputs.decode(file))
    cell = served.example(modality.card)
    packed = inputs.pack(served.receive(json.loads(json.dumps(cell))), **modality.packing)
    assert packed.dtype == modality.packed[0].dtype and packed.ndim == modality.packed[0].ndim


@pytest.mark.parametrize("labels", [["a", "b"], None], ids=["labels", "no labels"])
def test_samples_of_each_split_are_drawn(modality, labels, tmp_path):
    split = modality.split()._replace(labels=["a", "b"] * 3)
    show = plugins.load("modalities", modality.name, "show")
    show.samples(tmp_path / "samples.png", {"train": split, "val": split}, labels, "title")
    with Image.open(tmp_path / "samples.png") as drawn:
        assert min(drawn.size) > 50
    assert callable(plugins.load("modalities", modality.name, "explain").explained)


def having(part: str) -> list[str]:
    return [name for name in plugins.names("modalities") if plugins.has("modalities", name, part)]


@pytest.mark.parametrize("name", having("variants"))
def test_the_variant_as_on_card_is_what_the_network_gets_and_the_others_are_of_its_kind(name):
    modality, variants = made(name), plugins.load("modalities", name, "variants")
    packed = torch.from_numpy(np.stack(modality.packed))
    batch = modality.load().inputs(torch.arange(6), "none", None)
    assert same(variants.as_on_card(packed, modality.card), batch, list(range(6)))
    for variant in variants.VARIANTS.values():
        assert structure(variant.prepare(packed, modality.card)) == structure(batch) and variant.remedy


@pytest.mark.parametrize("name", having("standalone"))
def test_what_is_exported_takes_packed_inputs_and_gives_the_network_what_it_gets_here(name):
    modality, standalone = made(name), plugins.load("modalities", name, "standalone")
    network = standalone.network(torch.nn.Identity(), modality.card, torch.neg)
    packed = torch.from_numpy(np.stack(modality.packed))
    assert same(-network(packed), modality.load().inputs(torch.arange(6), "none", None), list(range(6)))
    examples = standalone.examples(modality.card, 3)
    assert len(examples) == 3 and (examples.dtype, examples.shape[1:]) == (packed.dtype, packed.shape[1:])
