"""One transfer: load a starting point, fit a new head, train by a strategy, prove what moved, write a model."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from stages.lib import artifacts, backbones, checkpoints, images, tracking
from stages.lib.certificate import certify, declare, freeze, require
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.fit import fit
from stages.lib.params import plugin
from stages.lib.seeds import seed_for


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
        strategy: a plug-in of stages/lib/strategies, and `knobs`, what its `plan` takes.
        training: the keyword arguments of stages.lib.fit that are not the strategy's.
        device: the keyword arguments of stages.lib.device.launch.
        seed: decides the head's (or all) first weights, the order of the examples and their augmentation.
        out: folder of the trained model.

    Raises:
        UserError: start and data do not fit each other, or training did not do what was declared.
    """
    fabric = launch(**device)
    data_card, start_card = artifacts.read_json(data / "card.json"), artifacts.read_json(start / "card.json")
    _require_same_geometry(data, data_card, start, start_card)
    preprocessing = start_card["preprocessing"] | data_card["geometry"]

    torch.manual_seed(seed_for(seed, "weights"))
    model = backbones.build(start_card["architecture"], len(data_card["classes"]))
    if not from_random:
        backbones.load(model, artifacts.read_model(start)[0])
    if fabric.world_size > 1 and fabric.device.type == "cuda":  # on a CPU each process keeps its own batch statistics
        from timm.layers import convert_sync_batchnorm  # torch's own drops the activation that timm's BatchNormAct2d holds

        model = convert_sync_batchnorm(model)
    model.to(fabric.device, memory_format=torch.channels_last)  # faster on CPU and GPU than contiguous
    _require_that_it_takes(model, preprocessing["px"], start_card["architecture"], data_card["name"])
    phases = plugin("strategies", strategy).plan(model, **knobs)
    freeze(model, {tensor for phase in phases for tensor in phase.lrs})
    declared = declare(model)
    before = {tensor: value.detach().clone() for tensor, value in model.state_dict().items()}

    settings = {"strategy": strategy, **knobs, **training, "seed": seed}
    where = device | {"type": fabric.device.type}
    key = checkpoints.key(stage=stage, name=name, settings=settings, device=where, data=data_card, start=start_card)
    with checkpoints.hold(f"{stage}-{name}", key) if fabric.is_global_zero else nullcontext() as checkpoint:
        log = tracking.live(key, f"{stage} {name}", stage, settings) if fabric.is_global_zero else None
        state = fabric.broadcast(checkpoints.load(checkpoint) if fabric.is_global_zero else None)
        for row in state["history"] if state and log else []:
            log(row)  # the last epoch may have been saved and not logged when it was killed

        def save(state: dict) -> None:
            if fabric.is_global_zero:
                checkpoints.save(checkpoint, state)
                log(state["history"][-1])

        history = fit(
            fabric, model, phases,
            images.examples(artifacts.read_split(data, "train"), preprocessing, fabric.device),
            images.examples(artifacts.read_split(data, "val"), preprocessing, fabric.device),
            **training, seed=seed, state=state, save=save,
        )  # fmt: skip
    if not fabric.is_global_zero:
        return

    metrics = Path("metrics") / stage / name
    metrics.mkdir(parents=True, exist_ok=True)
    certificate = certify(before, model.state_dict(), declared)
    certificate.to_csv(metrics / "certificate.csv", index=False)
    require(certificate)
    best = [row for row in history if row["phase"] == len(phases) - 1 and row["best"]][-1]
    table = pd.DataFrame(history).drop(columns="time_ms")  # times would make equal runs differ
    table.to_csv(metrics / "history.csv", index=False)
    artifacts.write_json(metrics / "run.json", {"key": key, "name": f"{stage} {name}", "stage": stage, "settings": settings})
    artifacts.write_model(out, model.state_dict(), {
        "kind": stage,
        "name": name,
        "architecture": start_card["architecture"],
        "classes": data_card["classes"],
        "preprocessing": preprocessing,
        "parent": None if from_random else {"name": start_card["name"], "sha256": start_card["sha256"]},
        "chain": ([] if from_random else start_card["chain"]) + [name],
        "data": data_card["name"],
        "settings": settings,
        "licences": sorted({data_card["licence"], *([] if from_random else start_card["licences"])}),
        "best": {column: best[column] for column in ("epoch", "val_loss", "val_accuracy")},
    })  # fmt: skip


def _require_same_geometry(data: Path, data_card: dict, start: Path, start_card: dict) -> None:
    for name in ("interpolation",) if data_card["geometry"]["fit"] == "squash" else ("interpolation", "crop_pct"):
        given, wanted = data_card["geometry"][name], start_card["preprocessing"][name]
        if given != wanted:
            raise UserError(
                f"{data} was resized with {name} {given} (as {data_card['preprocessing_of']} wants it), but {start} was "
                f"trained with {wanted}. Give the dataset that source as its `preprocessing`, or start from one that agrees."
            )


def _require_that_it_takes(model: torch.nn.Module, px: int, architecture: dict, data: str) -> None:
    """Try one image before anything long begins: some networks take only the size that they were made for."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, px, px, device=device))
    except Exception as error:  # each network has its own kind
        raise UserError(
            f"{architecture['library']} {architecture['model']} does not take images of {px} px (datasets.{data}.px): {error}"
        ) from None
