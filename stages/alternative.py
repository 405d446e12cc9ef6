"""Train the target in another way, from the first of `inits`, with one seed: python -m stages alternative NAME SEED"""

from stages.lib.core import runs
from stages.lib.core.seeds import seed_for
from stages.lib.params import read as params
from stages.lib.training import hop, recipe


def main(name: str, seed: str, *, watch: runs.Watch) -> None:
    p = params.load("seed", "checks", "device", "inits", "alternatives")
    training = runs.alternative(name, seed, params.block(p.alternatives, "alternatives", name).data)
    hop.run(
        training,
        recipe.read(training.recipe),
        start=runs.starting_point(p.inits[0]),
        from_random=False,
        checks=p.checks,
        device=p.device,
        seed=seed_for(p.seed, "target", seed),  # as for the target: the comparison is paired
        watch=watch,
    )
