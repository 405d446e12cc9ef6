"""Resolve the settings of each training from all sections of params.yaml: python -m stages recipe hops|target

This way a training depends only on the settings that it uses: a changed hyperparameter of another strategy, or a changed option
that the training's own block overrides, reruns only this stage.
"""

import shutil

from stages.lib.core import cards, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.training import recipe


def main(which: str) -> None:
    if which not in ("hops", "target"):
        raise UserError(f"{which!r} has no recipe. Allowed: hops, target.")
    hops() if which == "hops" else target()


def hops() -> None:
    """The hops and the control, which need not wait for the advisor."""
    p = params.load("modality", "training", "intermediate", "target", "scratch")
    for name, block in p.intermediate.items():
        recipe.write(runs.hop(name, block.data).recipe, block.strategy, block.task, p.modality, block, p.training)
    recipe.write(runs.scratch(0, p.target.data).recipe, runs.SCRATCH, p.target.task, p.modality, p.scratch, p.training)


def target() -> None:
    """The target and its alternatives, once the advisor has looked at the data."""
    p = params.load("modality", "strategy", "strategies", "training", "target", "alternatives")
    chosen = recipe.advised(p.strategies) if p.strategy == "auto" else p.strategy
    shutil.rmtree(runs.RECIPES, ignore_errors=True)
    for name, block in p.alternatives.items():
        # Their stage cannot name the test's data among its deps, which may be the target's too: the hashes stand in for them.
        files = {} if block.data == p.target.data else cards.read_data_card(runs.prepared(block.data)).sha256
        files = {f"{block.data}/{file}": digest for file, digest in files.items() if not file.startswith("test/")}
        path = runs.alternative(name, 0, block.data).recipe
        recipe.write(path, block.strategy, p.target.task, p.modality, block, p.training, files)
    recipe.write(runs.target("", 0, p.target.data).recipe, chosen, p.target.task, p.modality, p.strategies[chosen], p.training)
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)
