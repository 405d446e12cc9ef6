"""The page metrics/report.html: its parts, and how they are put together."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from stages.lib.core import cards, plugins, runs
from stages.lib.core.cards import ModelCard
from stages.lib.core.contracts import Metric
from stages.lib.core.runs import Training
from stages.lib.evaluation import comparison, statistics
from stages.lib.plots import trainings as plots

TEMPLATE = Path(__file__).parent / "report.html"


def render(verdict: str, **parts: Any) -> str:
    """The page as HTML.

    Args:
        verdict: the text of verdict.md.
        parts: what the template shows.
    """
    # Whatever stands in names, labels and file names is escaped; StrictUndefined makes a misspelt name an error.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    top, *sections = verdict.split("\n## ")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=top.splitlines()[0].removeprefix("# Verdict: ").replace("->", "→"),
        verdict=html(top.partition("\n")[2]),
        sections=[(title, html(text)) for title, _, text in (section.partition("\n") for section in sections)],
        picture=lambda path: embedded(Path(path).read_bytes()) if Path(path).exists() else None,
        **parts,
    )


def steps(p: SimpleNamespace, arms: Mapping[str, Sequence[Training]], card: ModelCard) -> list[dict[str, Any]]:
    """What each starting point along the proposal's chain added, from random weights on.

    Args:
        p: the sections `compare`, `intermediate` and `inits` of params.yaml.
        card: of any target, for its task and outputs.

    Returns:
        For random weights, and each name of the chain that the target was trained from: name, value, and against the one before
        difference, lower, upper, verdict; and seen, on how many examples its own training looked (0 for what is downloaded).
    """
    chain = cards.read_model_card(arms[p.inits[0]][0].model).ancestors
    names = [runs.SCRATCH, *(name for name in chain if name in p.inits)]
    test, predictions = comparison.read_arms(arms, card)
    metric, how = comparison.metric_of(card, p.compare.metric), comparison.bootstrap(p.compare)
    found = []
    for before, name in zip([None, *names], names, strict=False):
        value = statistics.mean_over_seeds(metric, predictions[name], test.targets, test.groups, **how)["value"]
        gained: Mapping[str, Any] = {"difference": None}
        if before:
            gained = statistics.paired_difference(
                metric, predictions[name], predictions[before], test.targets, test.groups, **how
            )
        seen = examples_seen(runs.hop(name, p.intermediate[name].data)) if name in p.intermediate else 0
        found.append({"name": runs.shown(name), "value": value, "seen": seen, **gained})
    return found


def waterfall(name: str, metric: Metric, chain: list[dict[str, Any]]) -> str:
    """The plot of the steps, as an address that holds it."""
    drawn = io.BytesIO()
    plots.waterfall(drawn, name, metric, chain)
    return embedded(drawn.getvalue())


def examples_seen(training: Training) -> int:
    """On how many examples a training looked, in all epochs: its cost, which unlike minutes is the same on every machine."""
    return num_epochs(training) * cards.read_data_card(runs.prepared(training.data)).num("train")


def num_epochs(training: Training) -> int:
    """How many epochs a training had; a strategy that trains nothing has a row without a training loss."""
    return int(cards.read_table(training.metrics / "history.csv").train_loss.count())


def about(training: Training) -> dict[str, Any]:
    """What one training declared and did."""
    run, proof = cards.read_json(training.metrics / "run.json"), cards.read_table(training.metrics / "certificate.csv")
    report = cards.read_json(training.evaluation / "report.json")
    primary = plugins.load("tasks", report["task"]).PRIMARY
    metric: Metric = plugins.load("tasks", report["task"], "measures").METRICS[primary]
    figure = report["metrics"][primary]
    whole = proof[proof.phase.astype(str) == "all"]  # from the start of the first phase to the end of the last
    return {
        "name": run["name"],
        "data": training.data,
        "strategy": run["settings"]["strategy"],
        "primary": primary,
        "figure": f"{metric.text(figure['value'])} ({metric.text(figure['lower'])} to {metric.text(figure['upper'])})",
        "epochs": num_epochs(training),
        "moved": int(whole.moved.sum()),
        "tensors": len(whole),
        "ok": bool((proof.verdict == "ok").all()),
        "seen": examples_seen(training),
    }


def plots_of(task: str) -> list[str]:
    """The task's own plots of the shipped model, as paths."""
    return [str(runs.PLOTS / name) for name in plugins.load("tasks", task, "measures").PLOTS]


def html(markdown: str) -> Markup:
    """Markdown as HTML; tags in it are shown as text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 (html is off)


def embedded(png: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
