"""The page metrics/report.html: its parts and how they are rendered."""

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
from stages.lib.core.contracts import Metric, scale_of
from stages.lib.core.runs import Training
from stages.lib.evaluation import comparison, pairing, verdicts
from stages.lib.plots import trainings as plots

TEMPLATE = Path(__file__).parent / "report.html"


def render(verdict: str, **parts: Any) -> str:
    """The page as HTML.

    Args:
        verdict: the text of verdict.md.
        parts: the values that the template shows.
    """
    # Names, labels and file names are escaped; StrictUndefined makes a misspelt name an error.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    top, *sections = verdict.split("\n## ")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=top.splitlines()[0].removeprefix("# Verdict: ").replace("->", "→"),
        verdict=html(top.partition("\n")[2]),
        sections=[(title, html(text)) for title, _, text in (section.partition("\n") for section in sections)],
        picture=lambda path: embedded(Path(path).read_bytes()) if Path(path).exists() else None,
        fragment=lambda path: Markup(Path(path).read_text("utf-8")) if Path(path).exists() else "",  # noqa: S704 (escaped by the modality)
        **parts,
    )


def steps(p: SimpleNamespace, arms: Mapping[str, Sequence[Training]], card: ModelCard) -> list[dict[str, Any]]:
    """What each starting point along the proposal's chain added, beginning with random weights.

    Args:
        p: the sections `compare`, `intermediate`, `inits` and `seeds` of params.yaml.
        card: of any target; gives the task and the outputs.

    Returns:
        For random weights, and for each name in the chain that the target was trained from: name and value; difference, lower and
        upper against the previous one (each interval by itself; verdicts are in compare.json alone); and seen, the number of
        examples processed in its own training (0 for downloaded weights).
    """
    chain = cards.read_model_card(arms[p.inits[0]][0].model).ancestors
    names = [runs.SCRATCH, *(name for name in chain if name in p.inits)]
    test, predictions = comparison.read_arms(runs.evaluations(arms), card)
    metric = comparison.metric_of(card, p.compare.metric)
    how = comparison.bootstrap(p.compare) | {"confidence": verdicts.at_this_look(p.compare, len(p.seeds))}
    found = []
    for before, name in zip([None, *names], names, strict=False):
        value = pairing.mean_over_seeds(metric, predictions[name], test.targets, test.groups, **how)["value"]
        gained: Mapping[str, Any] = {"difference": None}
        if before:
            gained = pairing.paired_difference(metric, predictions[name], predictions[before], test.targets, test.groups, **how)
        seen = examples_seen(runs.hop(name, p.intermediate[name].data)) if name in p.intermediate else 0
        found.append({"name": runs.shown(name), "value": value, "seen": seen, **gained})
    return found


def waterfall(name: str, metric: Metric, chain: list[dict[str, Any]]) -> str:
    """The plot of the steps, as a data URL."""
    drawn = io.BytesIO()
    plots.waterfall(drawn, name, metric, chain)
    return embedded(drawn.getvalue())


def examples_seen(training: Training) -> int:
    """Number of examples processed in all epochs of a training: its cost, which unlike time does not depend on the machine."""
    return num_epochs(training) * cards.read_data_card(runs.prepared(training.data)).num("train")


def num_epochs(training: Training) -> int:
    """Number of epochs of a training; a strategy that trains nothing has one row without a training loss."""
    return int(cards.read_table(training.metrics / "history.csv").train_loss.count())


def about(training: Training) -> dict[str, Any]:
    """Summary of one training: what was declared and what happened."""
    run, proof = cards.read_json(training.metrics / "run.json"), cards.read_table(training.metrics / "certificate.csv")
    report = cards.read_json(training.evaluation / "report.json")
    primary, scale = scale_of(report)
    found = report["metrics"][primary]
    whole = proof[proof.phase.astype(str) == "all"]  # from the start of the first phase to the end of the last
    return {
        "name": run["name"],
        "data": training.data,
        "strategy": run["settings"]["strategy"],
        "primary": primary.replace("_", " "),
        # The verdict has the interval of an arm, by its own resamples: a second one here would be another by a hair.
        "figure": scale.interval(found) if training.kind == "intermediate" else scale.text(found["value"]),
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
    """Convert Markdown to HTML; HTML tags in it are shown as text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 (html is off)


def embedded(png: bytes) -> str:
    """An image as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
