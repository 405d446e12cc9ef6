"""One page that tells it all, to be sent to a colleague: python -m stages.report

metrics/report.html holds its pictures in itself and needs no internet.
"""

import base64
import io
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from stages import compare, track
from stages.lib import artifacts, command, params, pictures, statistics
from stages.lib.seeds import seed_for

METRICS = Path("metrics")
TEMPLATE = Path(__file__).parent / "lib/report.html"
LIBRARIES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "dvc", "mlflow")


def main() -> None:
    p = params.load("compare", "intermediate", "target", "inits", "seeds")
    trainings = list(track.expand(params.read()))
    ship = artifacts.read_json(METRICS / "compare.json")["ship"]
    shipped = artifacts.read_json(Path("models/target") / ship / "card.json")
    chain = steps(p, shipped)
    drawn = io.BytesIO()
    pictures.waterfall(drawn, p.compare.metric.replace("_", " "), chain)
    # Whatever stands in names, labels and file names is escaped; StrictUndefined makes a misspelt name an error.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    verdict, *sections = (METRICS / "verdict.md").read_text().split("\n## ")
    page = environment.from_string(TEMPLATE.read_text()).render(
        title=verdict.splitlines()[0].removeprefix("# Verdict: ").replace("->", "→"),
        verdict=html(verdict.partition("\n")[2]),
        sections=[(title, html(text)) for title, _, text in (section.partition("\n") for section in sections)],
        chain=chain,
        waterfall=embedded(drawn.getvalue()),
        metric=p.compare.metric.replace("_", " "),
        data=[artifacts.read_json(Path("data/prepared") / name / "card.json") for name in datasets(trainings)],
        trainings=[about(training) for training in trainings],
        advice=artifacts.read_json(METRICS / "advise.json"),
        ship=ship,
        shipped=shipped,
        machine={"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
                 "processors": os.cpu_count()} | {name: version(name) for name in LIBRARIES},
        picture=lambda path: embedded(Path(path).read_bytes()) if Path(path).exists() else None,
    )  # fmt: skip
    (METRICS / "report.html").write_text(page)
    print(f"{METRICS / 'report.html'}: {len(page) / 1e6:.1f} MB")


def datasets(trainings: list[track.Training]) -> list[str]:
    """The data of the trainings, each once, in the order of the chain."""
    return list(dict.fromkeys(training.data for training in trainings))


def steps(p, card: dict) -> list[dict[str, Any]]:
    """What each starting point along the proposal's chain added, from random weights on.

    Args:
        card: of any target, for the classes.

    Returns:
        For random weights, and each name of the chain that the target was trained from: name, value, and against the one before
        difference, lower, upper, verdict; and seen, on how many images its own training looked (0 for what is downloaded).
    """
    chain = artifacts.read_json(Path(f"models/target/{p.inits[0]}-{p.seeds[0]}/card.json"))["chain"][:-1]
    names = [compare.SCRATCH, *(name for name in chain if name in p.inits)]
    test, arms = compare.read_arms(p.inits, p.seeds, card)
    how = p.compare.model_dump(exclude={"metric"}) | {"seed": seed_for(0, "compare", "bootstrap")}
    found = []
    for before, name in zip([None, *names], names, strict=False):
        value = statistics.mean_over_seeds(p.compare.metric, arms[name], test.labels, test.groups, **how)["value"]
        gained = {"difference": None}
        if before:
            gained = statistics.paired_difference(p.compare.metric, arms[name], arms[before], test.labels, test.groups, **how)
        hop = METRICS / "intermediate" / name
        seen = images_seen(hop, p.intermediate[name].data) if name in p.intermediate else 0
        found.append({"name": name, "value": value, "seen": seen, **gained})
    return found


def images_seen(metrics: Path, data: str) -> int:
    """On how many images a training looked, each epoch anew: its cost, which unlike minutes is the same on every machine."""
    counts = artifacts.read_json(Path("data/prepared") / data / "card.json")["counts"]["train"]
    return num_epochs(metrics) * sum(counts.values())


def num_epochs(metrics: Path) -> int:
    """How many epochs a training had; a strategy that trains nothing has a row without a training loss."""
    return int(artifacts.read_table(metrics / "history.csv").train_loss.count())


def about(training: track.Training) -> dict[str, Any]:
    """What one training declared and did."""
    folder = METRICS / training.kind / training.name
    run, proof = artifacts.read_json(folder / "run.json"), artifacts.read_table(folder / "certificate.csv")
    report = artifacts.read_json(METRICS / "evaluate" / f"{training.kind}-{training.name}" / "report.json")
    whole = proof[proof.phase.astype(str) == "all"]  # from the start of the first phase to the end of the last
    return {
        "name": run["name"],
        "data": training.data,
        "strategy": run["settings"]["strategy"],
        "accuracy": report["metrics"]["accuracy"],
        "epochs": num_epochs(folder),
        "moved": int(whole.moved.sum()),
        "tensors": len(whole),
        "ok": bool((proof.verdict == "ok").all()),
        "seen": images_seen(folder, training.data),
    }


def html(markdown: str) -> Markup:
    """Markdown as HTML; tags in it are shown as text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 (html is off)


def embedded(png: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


if __name__ == "__main__":
    command.run(main)
