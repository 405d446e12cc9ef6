"""Train the target from one starting point with one seed: python -m stages target INIT SEED"""

from stages.lib.core import runs
from stages.lib.core.seeds import seed_for
from stages.lib.params import read as params
from stages.lib.training import hop, recipe


def main(init: str, seed: str, *, watch: runs.Watch) -> None:
    p = params.load("seed", "checks", "device", "target")
    training = runs.target(init, seed, p.target.data)
    hop.run(
        training,
        recipe.read(training.recipe),
        start=runs.starting_point(init),
        from_random=False,
        checks=p.checks,
        device=p.device,
        seed=seed_for(p.seed, "target", seed),  # the same for every starting point: the comparison is paired
        watch=watch,
    )
