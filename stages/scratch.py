"""The control: the target's network trained on the target's data from random weights: python -m stages.scratch SEED"""

from pathlib import Path

from stages.lib import command, hop, params, plugins
from stages.lib.seeds import seed_for


def main(seed: str) -> None:
    p = params.load("seed", "training", "checks", "device", "target", "scratch")
    hop.run(
        "scratch",
        seed,
        start=Path("models") / p.scratch.like,
        from_random=True,
        data=Path("data/prepared") / p.target.data,
        strategy="scratch",
        knobs=plugins.knobs(p.scratch, plugins.load("strategies", "scratch")),
        training=plugins.training(p.training, p.scratch),
        checks=p.checks.model_dump(),
        device=p.device.model_dump(),
        seed=seed_for(p.seed, "target", seed),  # as the target's: the same order of examples in each epoch
        out=Path("models/scratch") / seed,
    )


if __name__ == "__main__":
    command.run(main)
