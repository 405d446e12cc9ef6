"""Resolve the settings of each training from all sections of params.yaml: python -m stages recipe hops|target

This way a training depends only on the settings that it uses: a changed hyperparameter of another strategy, or a changed option
that the training's own block overrides, reruns only this stage.
"""

import shutil
from typing import Any

from stages.lib.core import cards, plugins, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.params.schema import Target
from stages.lib.training import recipe


def main(which: str) -> None:
    if which not in ("hops", "target"):
        raise UserError(f"{which!r} has no recipe. Allowed: hops, target.")
    hops() if which == "hops" else target()


def hops() -> None:
    """The hops and the control, which need not wait for the advisor."""
    p = params.load("modality", "training", "intermediate", "target", "scratch")
    for name, block in p.intermediate.items():
        path, beside = runs.hop(name, block.data).recipe, {"left_out": left_out(block.data)}
        recipe.write(path, block.strategy, block.task, p.modality, block, p.training, **beside)
    beside = another(p.target, p.target.data, runs.SCRATCH)
    recipe.write(runs.scratch(0, p.target.data).recipe, runs.SCRATCH, p.target.task, p.modality, p.scratch, p.training, **beside)


def target() -> None:
    """The target and its alternatives, once the advisor has looked at the data."""
    p = params.load("modality", "strategy", "strategies", "training", "target", "alternatives")
    chosen = recipe.advised(p.strategies) if p.strategy == "auto" else p.strategy
    shutil.rmtree(runs.RECIPES, ignore_errors=True)
    for name, block in p.alternatives.items():
        path, beside = runs.alternative(name, 0, block.data).recipe, another(p.target, block.data, block.strategy)
        recipe.write(path, block.strategy, p.target.task, p.modality, block, p.training, **beside)
    path, beside = runs.target("", 0, p.target.data).recipe, another(p.target, p.target.data, chosen)
    recipe.write(path, chosen, p.target.task, p.modality, p.strategies[chosen], p.training, **beside)
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)


def another(target: Target, data: str, strategy: str) -> dict[str, Any]:
    """What a training takes from the data that the target is tested on, where they are not those that it is trained on.

    Its stage cannot name them among its deps, because they may be the target's too: the hashes stand in for them.

    Args:
        data: what it is trained on.
    """
    if data == target.data == target.test:
        return {"left_out": left_out(data)}
    test = cards.read_data_card(runs.prepared(target.test))
    if data == target.test:
        read = [file for file in test.sha256 if not file.startswith("test/")]
        return {"files": {f"{data}/{file}": test.sha256[file] for file in read}, "left_out": left_out(data)}
    adapts = getattr(plugins.load("strategies", strategy), "UNLABELLED", False)
    read = [f"{split}/inputs.npy" for split in ("train", "val")] if adapts else []
    files = {f"{target.test}/{file}": test.sha256[file] for file in read}
    unseen = left_out(data, *([target.test] if adapts else []))
    return {"files": files, "packing": test.packing, "unlabelled": target.test if adapts else None, "left_out": unseen}


def left_out(*data: str) -> dict[str, dict[str, list[int]]]:
    """The examples of these datasets that no training may see, because they are in a test (leaks.action: drop)."""
    found = cards.read_json(runs.LEAKS / "leaks.json")["left_out"]
    return {name: found[name] for name in data if name in found}
