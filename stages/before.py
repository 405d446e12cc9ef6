"""Measure a hop as it is on the target's test split, before any training on the target: python -m stages before HOP

Only where the hop already answers what the target asks (the same task, and the same outputs); else it writes why not.
"""

from stages.lib.core import cards, runs
from stages.lib.core.contracts import scale_of
from stages.lib.evaluation import measure
from stages.lib.params import read as params


def main(name: str) -> None:
    p = params.load("device", "evaluate", "target")
    before, folder = runs.before(name, p.target.data), runs.prepared(p.target.data)
    tensors, card = cards.read_model(runs.starting_point(name))
    reason = measure.why_not(card, p.target.task, folder)
    if reason:
        cards.write_json(before.evaluation / "report.json", {"reason": reason})
        print(f"{name} as it is cannot be measured on {p.target.data}: {reason}")
        return
    names = card.output_names or []
    predictions = measure.predictions(*measure.network(tensors, card, p.device), card, folder, p.evaluate.batch_size)
    report = measure.report(predictions, card.trained_for, names, cards.read_data_card(folder), p.evaluate)
    measure.write(before.evaluation, predictions, report, card.trained_for, names, p.evaluate)
    primary, scale = scale_of(report)
    print(f"{name} as it is on {p.target.data}: {primary.replace('_', ' ')} {scale.interval(report['metrics'][primary])}")
