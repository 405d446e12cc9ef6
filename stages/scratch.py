"""The control: the target's network trained on the target's data from random weights: python -m stages.scratch SEED"""

from pathlib import Path

from stages.lib import errors, hop, params
from stages.lib.seeds import seed_for


def main(seed: str) -> None:
    p = params.load("seed", "device", "target", "scratch")
    hop.run(
        "scratch",
        seed,
        start=Path("models") / p.scratch.like,
        from_random=True,
        data=Path("data/prepared") / p.target.data,
        strategy="full",
        knobs=params.knobs(p.scratch, params.plugin("strategies", "full")),
        training=params.training(p.scratch),
        device=p.device.model_dump(),
        seed=seed_for(p.seed, "target", seed),  # as the target's: the same order of examples in each epoch
        out=Path("models/scratch") / seed,
    )


if __name__ == "__main__":
    errors.run(main)
