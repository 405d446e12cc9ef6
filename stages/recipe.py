"""Resolve the settings of each training from all sections of params.yaml: python -m stages recipe hops|target

This way a training depends only on the settings that it uses: a changed hyperparameter of another strategy, or a changed option
that the training's own block overrides, reruns only this stage.
"""

from stages.lib.core import runs
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
    """The target, once the advisor has looked at its data."""
    p = params.load("modality", "strategy", "strategies", "training", "target")
    chosen = recipe.advised(p.strategies) if p.strategy == "auto" else p.strategy
    recipe.write(runs.target("", 0, p.target.data).recipe, chosen, p.target.task, p.modality, p.strategies[chosen], p.training)
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)
