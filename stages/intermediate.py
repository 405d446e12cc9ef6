"""One hop of the chain between source and target: python -m stages.intermediate HOP"""

from pathlib import Path

from stages.lib import command, hop, params, plugins
from stages.lib.seeds import seed_for


def main(name: str) -> None:
    p = params.load("seed", "training", "checks", "device", "intermediate")
    block = params.block(p.intermediate, "intermediate", name)
    hop.run(
        "intermediate",
        name,
        start=Path("models") / block.init,
        from_random=False,
        data=Path("data/prepared") / block.data,
        strategy=block.strategy,
        knobs=plugins.knobs(block, plugins.load("strategies", block.strategy)),
        training=plugins.training(p.training, block),
        checks=p.checks.model_dump(),
        device=p.device.model_dump(),
        seed=seed_for(p.seed, "intermediate", name),
        out=Path("models") / name,
    )


if __name__ == "__main__":
    command.run(main)
