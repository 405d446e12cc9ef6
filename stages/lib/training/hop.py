"""One training: load a starting point, add a new head, train by a recipe, prove what changed, write the model."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.lib.core import cards, closure, contracts, datasets, licences, plugins
from stages.lib.core.cards import DataCard, ModelCard
from stages.lib.core.runs import Session, Training, Watch, prepared
from stages.lib.errors import UserError
from stages.lib.networks.device import launch
from stages.lib.params.schema import Checks, Device, TrainingOptions
from stages.lib.training import setup as setups
from stages.lib.training import unlabelled as adaptation
from stages.lib.training.phases import Data
from stages.lib.training.recipe import Recipe
from stages.lib.training.recipe import code as plugin_code
from stages.lib.training.train import Trained, train

LIBRARIES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "scikit-learn")


def run(
    training: Training, recipe: Recipe, *, start: Path, from_random: bool, checks: Checks, device: Device, seed: int,
    watch: Watch,
) -> None:  # fmt: skip
    """Train one model and write it and its metrics to the training's folders.

    Args:
        training: what is trained, and the paths of its files.
        recipe: how it is trained.
        start: folder of the model to start from.
        from_random: take only the architecture and the preprocessing from `start`, with random weights.
        checks, device: sections of params.yaml.
        seed: decides the initial weights (of the head, or all), the order of the examples and their augmentation.
        watch: opens the session.

    Raises:
        UserError: start and data do not fit together, or training did not behave as declared.
    """
    fabric = launch(**device.model_dump())
    folder = prepared(training.data)
    packed, start_card = cards.read_data_card(folder), cards.read_model_card(start)
    require_fit(packed, start_card)
    how = start_card.how | packed.packing
    inputs = plugins.load("modalities", packed.modality, "inputs")
    door, task = plugins.load("tasks", recipe.task), plugins.load("tasks", recipe.task, "learning")
    unseen = recipe.left_out
    data, names = load(folder, packed, recipe.task, recipe.options, how, fabric.device, unseen.get(packed.name, {}))
    if recipe.unlabelled is not None:
        other = cards.read_data_card(prepared(recipe.unlabelled))
        require_fit(other, start_card)
        both = adaptation.load(other, packed, start_card.how | other.packing, fabric.device, unseen.get(other.name, {}))
        data = Data(*data[:2], *both)
    num = len(data.train.targets)
    setup = setups.prepare(
        fabric, None if from_random else cards.read_model(start)[0], start_card.architecture, len(names),
        door.PER, strategy=recipe.strategy, hyperparameters=recipe.arguments(), options=recipe.options, num_examples=num,
        seed=seed, same_outputs=start_card.task == recipe.task and start_card.output_names == names, kind=door.HEADS[0],
    )  # fmt: skip
    names = setup.names(names)
    setups.require_that_it_takes(setup, inputs.probe(how, fabric.device), packed.name, packed.packing)
    warnings = []
    if start_card.pretrained and not from_random:  # from random weights, training everything is intended
        warnings = setups.foreseen(setup, num, checks.params_per_example)
    if fabric.is_global_zero:
        table = [f"Every layer: {training.metrics / 'layers.csv'}"] if setup.phases else []
        print(*setups.told(setup), *table, sep="\n")
        warn(training.label, warnings)

    settings = recipe.settings() | {"seed": seed}
    where = device.model_dump() | {"type": fabric.device.type}
    key = key_of(training, recipe, start_card, {
        "settings": settings, "device": where, "data": packed.model_dump(), "start": start_card.model_dump(),
        "loss_jump": checks.loss_jump, "from_random": from_random, "left_out": unseen,
    } | ({"unlabelled": adaptation.identity(other)} if recipe.unlabelled else {}))  # fmt: skip
    told = set(warnings)
    phases = [phase.epochs for phase in setup.phases]
    with opened(fabric, watch, training, key, settings, phases, told) as session:
        trained = train(
            fabric, setup, data, task, recipe.options, names,
            loss_jump=checks.loss_jump, seed=seed, state=session.state, save=session.save,
        )  # fmt: skip
        if not fabric.is_global_zero:
            return
        warn(training.label, [warning for warning in trained.warnings if warning not in told])
        inherited = [] if from_random else start_card.chain
        code = plugins.load("libraries", start_card.architecture["library"]).LICENCE
        held = {packed.licence, code, *([] if from_random else start_card.licences)}
        held |= {other.licence} if recipe.unlabelled else set()
        written = cards.write_model(training.model, setup.model.state_dict(), ModelCard(
            kind=training.kind, name=training.name, modality=packed.modality, task=recipe.task,
            architecture=setup.architecture, output_names=names, code=start_card.code,
            preprocessing=start_card.preprocessing | packed.packing | recipe.packing,
            parent=None if from_random else cards.Parent(name=start_card.name, sha256=start_card.sha256),
            chain=[*inherited, training.name], data=packed.name, settings=settings, licences=sorted(held),
            use=licences.use(held).answer, deterministic=device.deterministic, best=trained.best,
        ), start_card.contents)  # fmt: skip
        write_metrics(training, setup, trained, warnings + trained.warnings, key, settings, written)


def load(
    folder: Path, packed: DataCard, task: str, options: TrainingOptions, preprocessing: dict[str, Any], device: torch.device,
    left_out: Mapping[str, Sequence[int]],
) -> tuple[Data, list[str]]:  # fmt: skip
    """The training and validation split, and the meaning of the network's outputs ([]: those of its features).

    Args:
        left_out: rows of each that are not used.

    Raises:
        UserError: the task cannot learn from these examples.
    """
    train, val = (datasets.read_split(folder, split) for split in ("train", "val"))
    learning = plugins.load("tasks", task, "learning")
    if hasattr(learning, "require"):
        try:
            learning.require(train, val)
        except UserError as error:
            raise UserError(f"datasets.{packed.name}: {error}") from None
    dim = options.metric_learning.dim if options.metric_learning else 0
    names = learning.outputs(train.labels) or contracts.numbered(dim)
    loaded = {}
    for name, split in (("train", train), ("val", val)):
        rows = contracts.others(len(split.labels), left_out.get(name, ()))
        if not len(rows) or (packed.labels and {split.labels[row] for row in rows} != set(split.labels)):
            raise UserError(
                f"leaks.action: drop leaves no example of a label of {packed.name} in its {name} split, because all of them "
                "are in a test. Train on other data, or set leaks.action to report (metrics/leaks/pairs.csv lists the pairs)."
            )
        whole = contracts.load(split, packed.modality, task, names, preprocessing, device)
        loaded[name] = whole if len(rows) == len(split.labels) else contracts.part(whole, rows)
    return Data(**loaded), names


def require_fit(packed: DataCard, start: ModelCard) -> None:
    """Raise a UserError if the data were packed differently from the starting point's training inputs."""
    if packed.modality != start.modality:
        raise UserError(f"{prepared(packed.name)} holds {packed.modality} data, and {start.name} takes {start.modality}.")
    mismatch = plugins.load("modalities", packed.modality, "inputs").mismatch(packed.packing, start.preprocessing)
    for name, (given, wanted) in mismatch.items():
        raise UserError(
            f"{prepared(packed.name)} was packed with {name} {given} (as {packed.preprocessing_of} wants it), but "
            f"models/{start.name} was trained with {wanted}. Give the dataset that source as its `preprocessing`, or start from "
            "one that agrees."
        )


def key_of(training: Training, recipe: Recipe, start: ModelCard, values: dict[str, Any]) -> str:
    """Hash of everything that a training depends on: values, its code, and the libraries that it uses."""
    code = closure.files(Path(__file__), *plugin_code(recipe.strategy, recipe.task, start.modality))
    libraries = {name: version(name) for name in LIBRARIES}
    return closure.key(code, values | {"kind": training.kind, "name": training.name, "libraries": libraries})


@contextmanager
def opened(
    fabric: Any, watch: Watch, training: Training, key: str, settings: dict[str, Any], phases: Sequence[int], told: set[str]
) -> Iterator[Session]:
    """The session of a training; with several processes the first one opens it and tells the others where to resume."""
    if not fabric.is_global_zero:
        yield Session(fabric.broadcast(None), lambda state: None, lambda row: None)
        return
    with watch(training.label, training.kind, key, settings, phases) as session:
        state = fabric.broadcast(session.state)
        if state:
            print(f"{training.label} resumes after epoch {len(state['history'])}.", file=sys.stderr)

        def save(state: dict[str, Any]) -> None:
            session.save(state)
            session.log(state["history"][-1])
            warn(training.label, [warning for warning in state["warnings"] if warning not in told])
            told.update(state["warnings"])

        for row in state["history"] if state else []:
            session.log(row)  # if it was killed, the last epoch may have been saved but not logged
        yield session._replace(state=state, save=save)


def warn(label: str, warnings: list[str]) -> None:
    """Print warnings immediately."""
    for warning in warnings:
        print(f"WARNING, {label}: {warning}", file=sys.stderr)


def write_metrics(
    training: Training,
    setup: setups.Setup,
    trained: Trained,
    warnings: list[str],
    key: str,
    settings: dict[str, Any],
    card: ModelCard,
) -> None:
    """Write the history, the certificate, the layers, the strategy's own tables, and a summary of the run with the sha256 of the
    weights that it made and of those that it started from, by which later stages tell whether results belong together."""
    folder = training.metrics
    folder.mkdir(parents=True, exist_ok=True)
    history = trained.history.drop(columns="time_ms", errors="ignore")  # with times, identical runs would differ
    tables = {"history": history, "certificate": trained.certificate, "layers": setup.layers} | trained.tables
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    cards.write_json(folder / "run.json", {
        "key": key, "name": training.label, "stage": training.kind, "settings": settings, "warnings": warnings,
        "deterministic": card.deterministic, "best": trained.best, "model": card.sha256,
        "parent": card.parent.model_dump() if card.parent else None,
    })  # fmt: skip
