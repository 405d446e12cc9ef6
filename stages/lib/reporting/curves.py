"""The curves of all trainings for the report: losses, and the metric on validation."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stages.lib.core import cards, contracts, runs
from stages.lib.core.runs import Training
from stages.lib.plots import svg


def curves(hops: Sequence[Training], arms: Mapping[str, Sequence[Training]], task: str) -> Markup:
    """Charts of the hops, whose data are others, and of the targets."""
    groups = [("Hops", {f"hop {hop.name}": [hop] for hop in hops}),
              ("Target", {runs.shown(name): list(arm) for name, arm in arms.items()})]  # fmt: skip
    return Markup("\n").join(_group(title, some, task) for title, some in groups if some)


def _group(title: str, arms: Mapping[str, Sequence[Training]], task: str) -> Markup:
    primary, metric = contracts.primary(task)
    losses, values = list[svg.Line](), list[svg.Line]()
    colours = {name: "dark" if name == runs.shown(runs.SCRATCH) else svg.colour(index) for index, name in enumerate(arms)}
    for name, arm in arms.items():
        for training in arm:
            table = cards.read_table(training.metrics / "history.csv")
            best = cards.read_json(training.metrics / "run.json")["best"]["epoch"]
            epochs, kept = table.epoch.tolist(), table.epoch.tolist().index(best)
            losses.append(svg.Line(epochs, table.train_loss.tolist(), colours[name], dotted=True))
            losses.append(svg.Line(epochs, table.val_loss.tolist(), colours[name], kept=kept))
            if f"val_{primary}" in table:
                values.append(svg.Line(epochs, table[f"val_{primary}"].tolist(), colours[name], kept=kept))
    title_of, unit = primary.replace("_", " "), ", %" if metric.fraction else ""
    charts = [svg.lines(f"{title}: loss (dotted: training)", losses, x="epoch", percent=False),
              svg.lines(f"{title}: {title_of} on validation{unit}", values, x="epoch", percent=metric.fraction)]  # fmt: skip
    names = svg.legend(list(colours.items()))
    return Markup('<div>{}<div class="two">{}{}</div></div>').format(names, *charts)
