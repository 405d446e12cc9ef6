"""Measure what needs no training on the target, on its test split: python -m stages controls

The first of `inits` as it is, if it is a hop that already answers what the target asks, and the controls without a network
(`baselines`), which learn from the target's training examples and are tuned on validation, as the target is.
"""

import shutil

from stages.lib.core import cards, plugins, runs
from stages.lib.core.contracts import scale_of
from stages.lib.evaluation import measure
from stages.lib.params import read as params


def main() -> None:
    p = params.load("device", "evaluate", "target", "inits", "baselines")
    folder, test, task = runs.prepared(p.target.data), runs.prepared(p.target.test), p.target.task
    packed, titles = cards.read_data_card(test), dict[str, str]()
    shutil.rmtree(runs.CONTROLS, ignore_errors=True)

    def measured(arm: str, title: str, found: measure.Predictions, names: list[str], model: str | None) -> None:
        report, out = measure.report(found, task, names, packed, p.evaluate, model), runs.control(arm)
        measure.write(out, found, report, task, names, p.evaluate)
        primary, scale = scale_of(report)
        figure = scale.interval(report["metrics"][primary])
        print(f"{title} on {packed.name}: {primary.replace('_', ' ')} {figure}, {100 * p.evaluate.confidence:g} % interval")
        titles[arm] = title

    start = runs.starting_point(p.inits[0])
    card = cards.read_model_card(start)
    if card.task and (reason := measure.why_not(card, task, folder)):
        print(f"{card.name} as it is cannot be measured on {packed.name}: {reason}")
    elif card.task:
        model, device = measure.network(cards.read_model(start)[0], card, p.device)
        predictions = measure.predictions(model, device, card, test, p.evaluate.batch_size)
        measured(runs.as_is(card.name), runs.as_is(card.name), predictions, card.output_names or [], card.sha256)
    for name, block in p.baselines.items():
        plugin = plugins.load("baselines", name)
        measured(name, plugin.TITLE, *measure.baseline(plugin, plugins.arguments(block, plugin), folder, test, task), None)
    cards.write_json(runs.CONTROLS / "controls.json", titles)
    seen = {name: getattr(plugins.load("baselines", name), "SHORTCUT", None) for name in p.baselines}
    cards.write_json(runs.CONTROLS / "shortcuts.json", {name: what for name, what in seen.items() if what})
