"""Write one page with all results, to send to a colleague, and the card of the model: python -m stages report

metrics/report.html embeds its plots and images, so it opens without internet access; metrics/MODEL_CARD.md goes with the model.
"""

import os
import platform
from importlib.metadata import version

from stages.lib.core import cards, plugins, runs
from stages.lib.evaluation import comparison, current, facts
from stages.lib.params import read as params
from stages.lib.plots import svg
from stages.lib.reporting import curves, first_screen, model_card, page, verdict
from stages.lib.reporting.verdict import spent
from stages.lib.reporting.verdict.covered import percent

LIBRARIES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "dvc", "mlflow")


def main() -> None:
    p = params.load("compare", "intermediate", "target", "inits", "seeds", "alternatives")
    hops = [runs.hop(name, hop.data) for name, hop in p.intermediate.items()]
    arms = runs.arms(p.inits, {name: block.data for name, block in p.alternatives.items()}, p.seeds, p.target.data)
    trainings = [*hops, *(each for arm in arms.values() for each in arm)]
    current.require(trainings, {}, {})
    found, words = cards.read_json(runs.COMPARISON), runs.VERDICT.read_text(encoding="utf-8")
    shipped = runs.Training("target", found["ship"], p.target.data)
    card, report = cards.read_model_card(shipped.model), cards.read_json(shipped.evaluation / "report.json")
    models = {each.name: cards.read_model_card(each.model) for init in p.inits for each in arms[init]}
    data = {name: cards.read_data_card(runs.prepared(name))
            for name in dict.fromkeys([*(each.data for each in trainings), p.target.test])}  # fmt: skip
    metric, noun, name = comparison.metric_of(card, p.compare.metric), verdict.noun_of(card), p.compare.metric.replace("_", " ")
    told, order = facts.of(report, noun), [each for each in data if each != p.target.test] + [p.target.test]
    saw = spent.of_arms(arms, p.target.data)
    chips = first_screen.chips(p, metric, found, saw, report, card, cards.read_json(runs.LEAKS / "leaks.json"), noun)
    page.MODEL_CARD.write_text(
        model_card.write(card, told, report, [data[each] for each in order], [text for text, _ in chips], words, noun),
        encoding="utf-8",
    )
    text = page.render(
        words,
        told=told,
        eyebrow=first_screen.eyebrow(card, data[p.target.test], report, noun),
        reasons=first_screen.reasons(p, found, metric, card, models),
        chips=chips,
        arms=first_screen.arms(found, p.compare.metric, metric, arms, saw, noun),
        metric=name,
        num=f"{report['num_examples']:,} {noun}s",
        noun=noun,
        confidence=percent(p.compare.confidence),
        averaged=f", the mean over {len(p.seeds)} seeds" if len(p.seeds) > 1 else "",
        waterfall=svg.waterfall(page.bars(metric, page.steps(p, arms, card), noun)),
        hops=hops,
        curves=curves.curves(hops, arms, p.target.task),
        own=page.own_section(shipped, report),
        data=list(data.values()),
        trainings=[page.about(training) for training in trainings],
        advice=cards.read_json(runs.ADVICE),
        ship=found["ship"],
        shipped=card,
        plots=page.plots_of(p.target.task),
        caption=plugins.load("modalities", card.modality).CAPTION,
        machine={"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
                 "processors": os.cpu_count()} | {name: version(name) for name in LIBRARIES},
    )  # fmt: skip
    runs.REPORT.write_text(text, encoding="utf-8")
    print(f"{runs.REPORT}: {len(text.encode()) / 1e6:.1f} MB; {page.MODEL_CARD}")
