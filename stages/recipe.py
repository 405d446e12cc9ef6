"""How the target is trained, resolved: the chosen strategy (for auto, the advised one) and its settings: python -m stages.recipe

So that the targets depend on what is chosen, and a knob of another strategy reruns nothing but this.
"""

import hashlib
import inspect
from pathlib import Path

from stages.lib import artifacts, command, params, plugins
from stages.lib.errors import UserError

OUT = Path("metrics/recipe.json")


def main() -> None:
    p = params.load("strategy", "strategies", "training")
    chosen = advised(p.strategies) if p.strategy == "auto" else p.strategy
    block, plugin = p.strategies[chosen], plugins.load("strategies", chosen)
    artifacts.write_json(OUT, {
        "strategy": chosen,
        "knobs": block.model_dump(include=set(plugin.Knobs.model_fields), exclude_none=True),
        "training": plugins.training(p.training, block),
        # dvc.yaml can only name the code of the strategy that stands in params.yaml, not that of the advised one
        "code": hashlib.sha256(inspect.getsource(plugin).encode()).hexdigest(),
    })  # fmt: skip
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)


def advised(blocks: dict) -> str:
    """The strategy that the stage advise ranks first of those that have a block.

    Raises:
        UserError: none has one, or the stage has not run.
    """
    ranking = [entry["strategy"] for entry in artifacts.read_json(Path("metrics/advise.json"))["ranking"]]
    for name in ranking:
        if name in blocks:
            return name
    raise UserError(
        f"strategy: auto finds no block in strategies for what can be advised ({', '.join(ranking)}). Add one of them to "
        "strategies in params.yaml, or name a strategy."
    )


if __name__ == "__main__":
    command.run(main)
