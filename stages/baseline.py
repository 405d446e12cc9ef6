"""Measure a control without a network, such as TF-IDF, on the target's data: python -m stages baseline NAME

It learns from the training examples and is tuned on validation, as the target is, and predicts the same test examples.
"""

from stages.lib.core import cards, plugins, runs
from stages.lib.core.contracts import scale_of
from stages.lib.evaluation import measure
from stages.lib.params import read as params


def main(name: str) -> None:
    p = params.load("target", "evaluate", "baselines")
    block, plugin = params.block(p.baselines, "baselines", name), plugins.load("baselines", name)
    control, folder = runs.baseline(name, p.target.data), runs.prepared(p.target.data)
    predictions, names = measure.baseline(plugin, plugins.arguments(block, plugin), folder, p.target.task)
    report = measure.report(predictions, p.target.task, names, cards.read_data_card(folder), p.evaluate)
    report["title"] = plugin.TITLE
    measure.write(control.evaluation, predictions, report, p.target.task, names, p.evaluate)
    primary, scale = scale_of(report)
    print(f"{plugin.TITLE} on {p.target.data}: {primary.replace('_', ' ')} {scale.interval(report['metrics'][primary])}, "
          f"{p.evaluate.confidence:.0%} interval, {report['num_examples']} test examples")  # fmt: skip
