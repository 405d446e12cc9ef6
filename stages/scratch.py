"""Train the control, the target's network from random weights, with one seed: python -m stages scratch SEED"""

from stages.lib.core import runs
from stages.lib.core.seeds import seed_for
from stages.lib.params import read as params
from stages.lib.training import hop, recipe


def main(seed: str, *, watch: runs.Watch) -> None:
    p = params.load("seed", "checks", "device", "target", "scratch")
    training = runs.scratch(seed, p.target.data)
    hop.run(
        training,
        recipe.read(training.recipe),
        start=runs.starting_point(p.scratch.like),
        from_random=True,
        checks=p.checks,
        device=p.device,
        seed=seed_for(p.seed, "target", seed),  # as for the target: the same order of examples in each epoch
        watch=watch,
    )
