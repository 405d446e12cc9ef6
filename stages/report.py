"""Write one page with all results, to send to a colleague: python -m stages report

metrics/report.html embeds its plots and images, so it opens without internet access.
"""

import os
import platform
from importlib.metadata import version

from stages.lib.core import cards, plugins, runs
from stages.lib.evaluation import comparison
from stages.lib.params import read as params
from stages.lib.reporting import page

LIBRARIES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "dvc", "mlflow")


def main() -> None:
    p = params.load("compare", "intermediate", "target", "inits", "seeds", "alternatives")
    trainings = [runs.hop(name, hop.data) for name, hop in p.intermediate.items()]
    arms = runs.arms(p.inits, {name: block.data for name, block in p.alternatives.items()}, p.seeds, p.target.data)
    trainings += [each for arm in arms.values() for each in arm]
    comparison.require_current(trainings, {}, {})
    trained_on = [each.data for each in trainings]
    ship = cards.read_json(runs.COMPARISON)["ship"]
    shipped = cards.read_model_card(runs.Training("target", ship, p.target.data).model)
    metric = comparison.metric_of(shipped, p.compare.metric)
    chain = page.steps(p, arms, shipped)
    text = page.render(
        runs.VERDICT.read_text(encoding="utf-8"),
        chain=chain,
        waterfall=page.waterfall(p.compare.metric.replace("_", " "), metric, chain),
        metric=p.compare.metric.replace("_", " "),
        text=metric.text,
        change=metric.change,
        data=[cards.read_data_card(runs.prepared(name)) for name in dict.fromkeys([*trained_on, p.target.test])],
        trainings=[page.about(training) for training in trainings],
        advice=cards.read_json(runs.ADVICE),
        ship=ship,
        shipped=shipped,
        plots=page.plots_of(p.target.task),
        caption=plugins.load("modalities", shipped.modality).CAPTION,
        machine={"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
                 "processors": os.cpu_count()} | {name: version(name) for name in LIBRARIES},
    )  # fmt: skip
    runs.REPORT.write_text(text, encoding="utf-8")
    print(f"{runs.REPORT}: {len(text) / 1e6:.1f} MB")
