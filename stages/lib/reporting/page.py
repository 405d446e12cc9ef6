"""The page metrics/report.html: its parts and how they are rendered."""

import base64
import hashlib
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
from stages.lib.plots import svg
from stages.lib.reporting.verdict import spent
from stages.lib.reporting.verdict.spent import Spent

FOLDER = Path(__file__).parent
MODEL_CARD = runs.METRICS / "MODEL_CARD.md"
CONTENTS = (("help", "did it help"), ("predictions", "predictions"), ("mistakes", "mistakes"), ("chain", "chain"),
            ("data", "data"), ("training", "training"), ("forgetting", "forgetting"), ("warnings", "warnings"),
            ("intervals", "intervals"), ("proof", "proof"), ("origin", "origin"), ("words", "words"))  # fmt: skip


def render(verdict: str, **parts: Any) -> str:
    """The page as HTML.

    Args:
        verdict: the text of verdict.md.
        parts: the values that the template shows.
    """
    return filled(
        _own("report.html"),
        sections=sections(verdict),
        script=Markup(_own("report.js")),  # noqa: S704 (our own)
        identity=identity(),
        contents=CONTENTS,
        picture=lambda path: embedded(Path(path).read_bytes()) if Path(path).exists() else None,
        fragment=lambda path: Markup(Path(path).read_text("utf-8")) if Path(path).exists() else "",  # noqa: S704 (escaped by the modality)
        **parts,
    )


def filled(template: str, **parts: Any) -> str:
    """A page of the report's look: a template (Jinja) with its parts, in which names, labels and file names are escaped."""
    # StrictUndefined makes a misspelt name an error.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(css=Markup(_own("report.css")), **parts)  # noqa: S704 (our own)


def sections(verdict: str) -> dict[str, Markup]:
    """The sections of verdict.md as HTML, by title."""
    _, *found = verdict.split("\n## ")
    return {title: html(text.replace(" -> ", " → ")) for title, _, text in (section.partition("\n") for section in found)}


def identity() -> str:
    """Which results the page is of: run.js, which tells of one run, is ignored by pages of others."""
    return hashlib.sha256(runs.COMPARISON.read_bytes()).hexdigest()


def steps(p: SimpleNamespace, arms: Mapping[str, Sequence[Training]], card: ModelCard) -> list[dict[str, Any]]:
    """What each starting point along the proposal's chain added, beginning with random weights.

    Args:
        p: the sections `compare`, `intermediate`, `inits` and `seeds` of params.yaml.
        card: of any target; gives the task and the outputs.

    Returns:
        For random weights, and for each name in the chain that the target was trained from: name and value; difference, lower and
        upper against the previous one (each interval by itself; verdicts are in compare.json alone); seen, the number of
        examples processed in its own training (0 for downloaded weights); and stages, whose minutes are those of the hop.
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
        hop = runs.hop(name, p.intermediate[name].data) if name in p.intermediate else None
        found.append({"name": runs.shown(name), "value": value, "seen": seen(hop).examples if hop else 0,
                      "stages": [stage_file(hop)] if hop else [], **gained})  # fmt: skip
    return found


def seen(training: Training) -> Spent:
    """What a training saw; unlike time it does not depend on the machine."""
    return spent.spent(training, cards.read_data_card(runs.prepared(training.data)).num("train"))


def stage_file(training: Training) -> str:
    """The name under which run.js has the seconds of a training."""
    return f"{training.kind}-{training.name}"


def bars(metric: Metric, chain: Sequence[Mapping[str, Any]], noun: str) -> list[svg.Row]:
    """The steps as a waterfall: random weights from 0, then what each step added or took away, and what the hop cost."""
    rows, before = list[svg.Row](), 0.0
    for step in chain:
        text, colour = metric.text(step["value"]), "dark"
        if rows:
            change, lower, upper = (metric.change(step[end]) for end in ("difference", "lower", "upper"))
            text = f"{change} ({lower} to {upper}) → {text}"
            colour = "c0" if (step["difference"] > 0) == metric.higher_is_better else "c5"
        note = Markup('{:,} {}s seen, minutes: <span data-stages="{}">not recorded</span>')
        cost = note.format(step["seen"], noun, " ".join(step["stages"])) if step["stages"] else ""
        rows.append(svg.Row(step["name"], text, step["value"], before, None, colour, cost))
        before = step["value"]
    return rows


def about(training: Training) -> dict[str, Any]:
    """Summary of one training: what was declared and what happened."""
    run, proof = cards.read_json(training.metrics / "run.json"), cards.read_table(training.metrics / "certificate.csv")
    report = cards.read_json(training.evaluation / "report.json")
    primary, scale = scale_of(report)
    found, (epochs, examples) = report["metrics"][primary], spent.told([seen(training)])
    whole = proof[proof.phase.astype(str) == "all"]  # from the start of the first phase to the end of the last
    return {
        "name": run["name"],
        "stage": stage_file(training),
        "data": training.data,
        "strategy": run["settings"]["strategy"],
        "primary": primary.replace("_", " "),
        # The verdict has the interval of an arm, by its own resamples: a second one here would be another by a hair.
        "figure": scale.interval(found) if training.kind == "intermediate" else scale.text(found["value"]),
        "epochs": epochs,
        "moved": int(whole.moved.sum()),
        "tensors": len(whole),
        "ok": bool((proof.verdict == "ok").all()),
        "seen": examples,
    }


def plots_of(task: str) -> list[str]:
    """The task's own plots of the shipped model, as paths."""
    return [str(runs.PLOTS / name) for name in plugins.load("tasks", task, "measures").PLOTS]


def own_section(training: Training, report: Mapping[str, Any]) -> Markup:
    """The task's own section on the shipped model; empty if it has none, and its plots are shown instead."""
    if not plugins.has("tasks", report["task"], "page"):
        return Markup("")
    found: Markup = plugins.load("tasks", report["task"], "page").section(training.evaluation, report)
    return found


def html(markdown: str) -> Markup:
    """Convert Markdown to HTML; HTML tags in it are shown as text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 (html is off)


def embedded(png: bytes) -> str:
    """An image as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _own(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
