"""Train the target from one starting point with one seed: python -m stages.target INIT SEED"""

from pathlib import Path

from stages.lib import errors, hop, params
from stages.lib.seeds import seed_for


def main(init: str, seed: str) -> None:
    p = params.load("seed", "strategy", "strategies", "device", "target")
    block = p.strategies[p.strategy]
    hop.run(
        "target",
        f"{init}-{seed}",
        start=Path("models") / init,
        from_random=False,
        data=Path("data/prepared") / p.target.data,
        strategy=p.strategy,
        knobs=params.knobs(block, params.plugin("strategies", p.strategy)),
        training=params.training(block),
        device=p.device.model_dump(),
        seed=seed_for(p.seed, "target", seed),  # every starting point has the same: the comparison is paired
        out=Path("models/target") / f"{init}-{seed}",
    )


if __name__ == "__main__":
    errors.run(main)
