"""Rank strategies for the target's data and check its preprocessing before any training: python -m stages advise

Works on features of the frozen starting point. Writes the ranking, the warnings and the figures behind them to
metrics/advise.json.
"""

import sys
import time
from typing import Any

from stages.lib.advice import power
from stages.lib.advice.look import Look
from stages.lib.core import cards, closure, plugins, runs
from stages.lib.errors import UserError
from stages.lib.networks.device import launch
from stages.lib.params import read as params

NOTHING: dict[str, Any] = {"choice": "", "unsure": "", "ranking": [], "facts": {}, "knn_accuracy": None, "probe": None,
                           "smallest_difference": "", "preprocessing": [], "statistics": [], "decided": False,
                           "warnings": []}  # fmt: skip


def main(*, watch: runs.Watch) -> None:
    p = params.load("device", "target", "inits", "seeds", "advise", "compare")
    card = cards.read_model_card(runs.starting_point(p.inits[0]))
    data = cards.read_data_card(runs.prepared(p.target.data))
    settings = p.advise.model_dump() | {"init": p.inits[0], "data": p.target.data}
    planned = {"num_seeds": len(p.seeds), "confidence": p.compare.confidence}
    values = {"stage": "advise", "settings": settings | planned, "data": data.model_dump(), "start": card.model_dump()}
    doors = closure.plugin("modalities", card.modality) + closure.plugin("tasks", p.target.task)
    key = closure.key(closure.files(closure.STAGES / "advise.py", *doors), values)
    told, advised = NOTHING, plugins.load("tasks", p.target.task).ADVISED
    if advised:  # the labels are classes
        fabric = launch(accelerator=p.device.accelerator, devices=1, num_nodes=1, precision="32-true", deterministic=True)
        look = Look(p.inits[0], p.target.data, p.target.task, p.advise, fabric.device)
        told = told | look.advice(ranked=card.modality in advised)
        if p.target.test == p.target.data:  # the card of another test is not here
            told["smallest_difference"] = power.sentence(told["facts"]["probe_accuracy"], data.num("test"), **planned)
        if plugins.has("modalities", card.modality, "variants"):
            told = told | look.preprocessing()
    with watch("advise", "advise", key, settings, []) as session:
        session.log({"epoch": 0, "time_ms": int(time.time() * 1000), **figures(told)})
        cards.write_json(runs.ADVICE, cards.rounded(told | {"figures": figures(told)}) | {"key": key, "settings": settings})
        say(told, p.inits[0], p.target.data, p.target.task)
        for warning in told["warnings"]:
            print(f"WARNING, preprocessing: {warning}", file=sys.stderr)
        if told["warnings"] and p.advise.preprocessing == "error":
            raise UserError("The preprocessing looks wrong, see above. Set advise.preprocessing to warn to continue anyway.")


def figures(told: dict[str, Any]) -> dict[str, float]:
    """The numbers that MLflow shows as metrics."""
    if not told["facts"]:
        return {}
    numbers = {name: value for name, value in told["facts"].items() if isinstance(value, int | float)}
    expected = {f"expected_{entry['strategy']}": entry["expected"] for entry in told["ranking"]}
    return numbers | {"knn_accuracy": told["knn_accuracy"]} | expected


def say(told: dict[str, Any], init: str, data: str, task: str) -> None:
    """Print the advice."""
    known = told["facts"]
    if not known:
        print(f"{data} from {init}: the advisor has not been measured on the task {task}, so it gives no advice.")
        return
    print(f"{data} from {init}: {known['num_examples']} training examples of {known['num_classes']} classes ({known['min']} to "
          f"{known['max']} each); on frozen features nearest neighbours {told['knn_accuracy']:.1%}, linear probe "
          f"{known['probe_accuracy']:.1%} (the largest class alone {known['chance']:.1%})")  # fmt: skip
    print(f"on the {told['probe']['num_val']} validation examples the probe is right for {told['probe']['accuracy']:.1%}: "
          "training should do better")  # fmt: skip
    if told["smallest_difference"]:
        print(told["smallest_difference"])
    for entry in told["ranking"]:
        print(f"  {entry['strategy']:20} {entry['expected']:.1%} expected: {entry['why']}")
    if told["ranking"]:
        print(f"advice: {told['choice']}" + (f", unsure: {told['unsure']}" if told["unsure"] else ""))
    else:
        print("The advisor has not been measured on inputs of this kind, so it gives no advice.")
