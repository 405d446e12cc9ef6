"""How the target is trained, resolved: the chosen strategy (for auto, the advised one) and its settings: python -m stages.recipe

So that the targets depend on what is chosen, and a knob of another strategy reruns nothing but this.
"""

import hashlib
import inspect
from pathlib import Path

from stages.lib import artifacts, command, params
from stages.lib.errors import UserError

OUT = Path("metrics/recipe.json")


def main() -> None:
    p = params.load("strategy", "strategies", "training")
    chosen = p.strategy
    if chosen == "auto":
        advised = [entry["strategy"] for entry in artifacts.read_json(Path("metrics/advise.json"))["ranking"]]
        chosen = next((name for name in advised if name in p.strategies), None)
        if chosen is None:
            raise UserError(
                f"strategy: auto finds no block in strategies for what can be advised ({', '.join(advised)}). Add one of them to "
                "strategies in params.yaml, or name a strategy."
            )
    block, plugin = p.strategies[chosen], params.plugin("strategies", chosen)
    artifacts.write_json(OUT, {
        "strategy": chosen,
        "knobs": block.model_dump(include=set(plugin.Knobs.model_fields), exclude_none=True),
        "training": params.training(p.training, block),
        # dvc.yaml can only name the code of the strategy that stands in params.yaml, not that of the advised one
        "code": hashlib.sha256(inspect.getsource(plugin).encode()).hexdigest(),
    })  # fmt: skip
    print(f"{p.strategy}: {chosen}" if p.strategy == "auto" else chosen)


if __name__ == "__main__":
    command.run(main)
