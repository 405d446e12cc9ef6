"""Train one hop of the chain between source and target: python -m stages intermediate HOP"""

from stages.lib.core import runs
from stages.lib.core.seeds import seed_for
from stages.lib.params import read as params
from stages.lib.training import hop, recipe


def main(name: str, *, watch: runs.Watch) -> None:
    p = params.load("seed", "checks", "device", "intermediate")
    block = params.block(p.intermediate, "intermediate", name)
    training = runs.hop(name, block.data)
    hop.run(
        training,
        recipe.read(training.recipe),
        start=runs.starting_point(block.init),
        from_random=False,
        checks=p.checks,
        device=p.device,
        seed=seed_for(p.seed, "intermediate", name),
        watch=watch,
    )
