"""Resolve how trainings are done, from all sections of params.yaml that say so: python -m stages recipe hops|target

So that a training depends only on what concerns it: a hyperparameter of another strategy, or an option that its own block
overrides, reruns nothing but this.
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
    """The hops and the control, which wait for nothing."""
    p = params.load("training", "intermediate", "target", "scratch")
    for name, block in p.intermediate.items():
        recipe.write(runs.hop(name, block.data).recipe, block.strategy, block.task, block, p.training)
    recipe.write(runs.scratch(0, p.target.data).recipe, runs.SCRATCH, p.target.task, p.scratch, p.training)


def target() -> None:
    """The target, after the advisor has looked at its data."""
    p = params.load("strategy", "strategies", "training", "target")
    chosen = recipe.advised(p.strategies) if p.strategy == "auto" else p.strategy
    recipe.write(runs.target("", 0, p.target.data).recipe, chosen, p.target.task, p.strategies[chosen], p.training)
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)
