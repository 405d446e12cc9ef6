"""Train the target from one starting point with one seed: python -m stages.target INIT SEED"""

from pathlib import Path

from stages.lib import artifacts, command, hop, params, plugins
from stages.lib.seeds import seed_for


def main(init: str, seed: str) -> None:
    p = params.load("seed", "checks", "device", "target")
    recipe = artifacts.read_json(Path("metrics/recipe.json"))
    plugin = plugins.load("strategies", recipe["strategy"])
    hop.run(
        "target",
        f"{init}-{seed}",
        start=Path("models") / init,
        from_random=False,
        data=Path("data/prepared") / p.target.data,
        strategy=recipe["strategy"],
        knobs=plugins.knobs(plugin.Knobs.model_validate(recipe["knobs"]), plugin),
        training=recipe["training"],
        checks=p.checks.model_dump(),
        device=p.device.model_dump(),
        seed=seed_for(p.seed, "target", seed),  # every starting point has the same: the comparison is paired
        out=Path("models/target") / f"{init}-{seed}",
    )


if __name__ == "__main__":
    command.run(main)
