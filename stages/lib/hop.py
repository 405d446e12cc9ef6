"""One transfer: load a starting point, fit a new head, train by a strategy, prove what moved, write a model."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.lib import artifacts, checkpoints, images, live, transfer
from stages.lib.device import launch
from stages.lib.errors import UserError


def run(
    stage: str,
    name: str,
    *,
    start: Path,
    from_random: bool,
    data: Path,
    strategy: str,
    knobs: dict[str, Any],
    training: dict[str, Any],
    checks: dict[str, Any],
    device: dict[str, Any],
    seed: int,
    out: Path,
) -> None:
    """Train one model and write it to `out`, and what happened to metrics/<stage>/<name>.

    Args:
        stage, name: what this is called, in MLflow and in the checkpoint's folder.
        start: folder of the model to start from.
        from_random: take only the architecture and the preprocessing from `start`, and random weights.
        data: folder of the prepared data; its test split is not opened.
        strategy: a plug-in of stages/lib/strategies, and `knobs`, its own.
        training: the section `training`, with what the strategy's block overrides.
        checks: the section `checks`.
        device: the keyword arguments of stages.lib.device.launch.
        seed: decides the head's (or all) first weights, the order of the examples and their augmentation.
        out: folder of the trained model.

    Raises:
        UserError: start and data do not fit each other, or training did not do what was declared.
    """
    fabric = launch(**device)
    data_card, start_card = artifacts.read_json(data / "card.json"), artifacts.read_json(start / "card.json")
    require_same_geometry(data, data_card, start, start_card)
    preprocessing = start_card["preprocessing"] | data_card["geometry"]
    train, val = (images.examples(artifacts.read_split(data, split), preprocessing, fabric.device) for split in ("train", "val"))
    prepared = transfer.prepare(
        fabric, None if from_random else artifacts.read_model(start)[0], start_card["architecture"], len(data_card["classes"]),
        strategy=strategy, knobs=knobs, head={"kind": "linear", **training["head"]}, num_examples=len(train.labels), seed=seed,
    )  # fmt: skip
    transfer.require_that_it_takes(prepared, preprocessing["px"], data_card["name"])
    tell, warnings = _teller(f"{stage} {name}"), []
    if start_card.get("pretrained", True) and not from_random:  # from random weights everything is trained by intention
        warnings = transfer.foreseen(prepared, len(train.labels), checks["params_per_example"])
    if fabric.is_global_zero:
        print(prepared.layers.to_string(index=False))
        tell(warnings)

    used = {option: value for option, value in training.items() if option not in getattr(prepared.plugin, "UNUSED", ())}
    settings = _flat({"strategy": strategy, **knobs, **used, "seed": seed})
    where = device | {"type": fabric.device.type}
    inputs = {"settings": settings, "device": where, "data": data_card, "start": start_card, "loss_jump": checks["loss_jump"]}
    key = checkpoints.key(stage=stage, name=name, **inputs)
    with _observed(fabric, stage, name, key, settings, tell) as (state, save):
        trained = transfer.train(
            fabric, prepared, train, val, training=training, loss_jump=checks["loss_jump"], seed=seed, state=state, save=save
        )
    if not fabric.is_global_zero:
        return

    metrics = Path("metrics") / stage / name
    metrics.mkdir(parents=True, exist_ok=True)
    history = trained.history.drop(columns="time_ms", errors="ignore")  # times would make equal runs differ
    history.to_csv(metrics / "history.csv", index=False)
    trained.certificate.to_csv(metrics / "certificate.csv", index=False)
    prepared.layers.to_csv(metrics / "layers.csv", index=False)
    for file, table in trained.tables.items():
        table.to_csv(metrics / f"{file}.csv", index=False)
    warnings += trained.warnings
    tell(warnings)
    artifacts.write_json(metrics / "run.json", {
        "key": key, "name": f"{stage} {name}", "stage": stage, "settings": settings, "warnings": warnings,
        "best": trained.best,
    })  # fmt: skip
    artifacts.write_model(out, prepared.model.state_dict(), {
        "kind": stage,
        "name": name,
        "architecture": prepared.architecture,
        "classes": data_card["classes"],
        "preprocessing": preprocessing,
        "parent": None if from_random else {"name": start_card["name"], "sha256": start_card["sha256"]},
        "chain": ([] if from_random else start_card["chain"]) + [name],
        "data": data_card["name"],
        "settings": settings,
        "licences": sorted({data_card["licence"], *([] if from_random else start_card["licences"])}),
        "best": trained.best,
    })  # fmt: skip
    checkpoints.end(f"{stage}-{name}", key)


def _teller(title: str) -> Callable[[list[str]], None]:
    """Prints warnings as soon as they are known, each once."""
    told = set()

    def tell(warnings: list[str]) -> None:
        for warning in dict.fromkeys(warnings):
            if warning not in told:
                print(f"WARNING, {title}: {warning}", file=sys.stderr)
        told.update(warnings)

    return tell


@contextmanager
def _observed(
    fabric, stage: str, name: str, key: str, settings: dict[str, Any], tell: Callable[[list[str]], None]
) -> Iterator[tuple[dict | None, Callable]]:
    """Where a training goes on, and what saves and shows its epochs; of several processes the first one does both."""
    if not fabric.is_global_zero:
        yield fabric.broadcast(None), lambda state: None
        return
    with checkpoints.hold(f"{stage}-{name}", key) as path, live.training(key, f"{stage} {name}", stage, settings) as log:
        state = fabric.broadcast(checkpoints.load(path))
        if state:
            print(f"{stage} {name} goes on after epoch {len(state['history'])}, where it stopped before.", file=sys.stderr)
        for row in state["history"] if state else []:
            log(row)  # the last epoch may have been saved and not logged when it was killed

        def save(state: dict) -> None:
            checkpoints.save(path, state)
            log(state["history"][-1])
            tell(state["warnings"])

        yield state, save


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names with dots, as MLflow shows params; patterns, which it takes for no names, stay a dict."""
    flat = {}
    for name, value in values.items():
        value = value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
        named = isinstance(value, dict) and value and all(key.isidentifier() for key in value)
        flat |= _flat(value, f"{prefix}{name}.") if named else {f"{prefix}{name}": value}
    return flat


def require_same_geometry(data: Path, data_card: dict, start: Path, start_card: dict) -> None:
    """Raise a UserError if the data were resized otherwise than the images that the starting point knows."""
    for name in ("interpolation",) if data_card["geometry"]["fit"] == "squash" else ("interpolation", "crop_pct"):
        given, wanted = data_card["geometry"][name], start_card["preprocessing"][name]
        if given != wanted:
            raise UserError(
                f"{data} was resized with {name} {given} (as {data_card['preprocessing_of']} wants it), but {start} was "
                f"trained with {wanted}. Give the dataset that source as its `preprocessing`, or start from one that agrees."
            )
