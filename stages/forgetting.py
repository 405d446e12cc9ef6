"""Measure how much later training forgot of a hop's task: python -m stages forgetting HOP DATA

Evaluates the backbone of every later model with the hop's original head on the hop's own test examples.
"""

from types import SimpleNamespace

import pandas as pd

from stages.lib.core import cards, runs
from stages.lib.evaluation import forgetting
from stages.lib.params import read as params


def main(hop: str, data: str) -> None:
    p = params.load("device", "evaluate", "intermediate", "inits", "seeds")
    earlier = forgetting.Earlier.of(runs.hop(hop, data), p.device, p.evaluate)
    table = pd.DataFrame(columns=["model", "sha256", "before", "after", "change", "lower", "upper", "only", "metric", "chance"])
    chance = earlier.chance()
    curves = []
    for name, training in later_trainings(hop, p).items():
        tensors, card = cards.read_model(training.model)
        table.loc[len(table)] = [name, card.sha256, *earlier.change(tensors), earlier.name, chance]
        before, after = (earlier.metric.text(value) for value in table.iloc[-1][["before", "after"]])
        only = table.iloc[-1]["only"]
        print(f"{hop} after {name}: {earlier.name.replace('_', ' ')} went from {before} to {after}"
              + (f"; it answers '{only}' to everything" if only else ""))  # fmt: skip
        if card.parent and (training.metrics / "alpha.csv").exists():  # as wise_ft writes it
            alphas = cards.read_table(training.metrics / "alpha.csv")
            start = cards.read_model(runs.starting_point(card.parent.name))[0]
            curves += forgetting.along(name, alphas, start, tensors, earlier.value)
    out = runs.forgetting(hop)
    out.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(out / "forgetting.csv", index=False)
    if curves:
        pd.DataFrame(curves).round(6).to_csv(out / "alpha.csv", index=False)


def later_trainings(hop: str, p: SimpleNamespace) -> dict[str, runs.Training]:
    """The trainings whose chain includes the hop, by name."""
    found = {name: runs.hop(name, block.data) for name, block in p.intermediate.items()}
    found |= {each.label: each for init in p.inits for each in (runs.target(init, seed, "") for seed in p.seeds)}
    return {name: each for name, each in found.items() if hop in cards.read_model_card(each.model).ancestors}
