"""Put the pipeline's present state into MLflow, once: python -m stages.track

Runs at the end of every `dvc repro`. When the state is there already it ends before anything slow is imported.
"""

import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.lib import command, params, tracking
from stages.lib.errors import UserError

SHIPPED = "shipped"  # folder in the parent's run for what belongs to the model that is shipped


class Training(NamedTuple):
    """One training of the pipeline."""

    kind: str  # intermediate, target or scratch: the DVC stage
    name: str  # what stands after the stage's @
    data: str  # its dataset


def main() -> None:
    publish(anew=False)


def publish(*, anew: bool) -> None:
    """Put the present state into MLflow; with `anew` look at all of its runs, even if it is there."""
    raw = params.read()
    params.validate(raw)
    trainings = list(expand(raw))
    current = state(trainings)
    if anew or not tracking.published(current):
        children = [advice(raw), *(child(training) for training in trainings)]
        tracking.publish(current, parent(raw, trainings), children, shipped, f"{SHIPPED}/predictions.csv", judge, anew=anew)


def expand(raw: dict) -> Iterator[Training]:
    """The trainings that params.yaml asks for, in their order; files of others may still lie about."""
    for name, hop in raw["intermediate"].items():
        yield Training("intermediate", name, hop["data"])
    for init in raw["inits"]:
        for seed in raw["seeds"]:
            yield Training("target", f"{init}-{seed}", raw["target"]["data"])
    for seed in raw["seeds"]:
        yield Training("scratch", str(seed), raw["target"]["data"])


def state(trainings: list[Training]) -> str:
    """Hash of what dvc.lock says of the trainings, their evaluations and the comparison.

    What came before (downloads, preparation, sources) is in it as hashes of what they made. The check stage is not,
    because any comment in params.yaml changes it; nor are entries of blocks that are no longer in params.yaml.

    Raises:
        UserError: a stage has not run.
    """
    try:
        with open("dvc.lock", "rb") as file:
            lock = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506 (both are safe)
    except FileNotFoundError:
        raise UserError(f"dvc.lock is not here ({Path.cwd()}): nothing has run yet. Run: dvc repro") from None
    evaluate = {"intermediate": "evaluate-intermediate", "target": "evaluate", "scratch": "evaluate-scratch"}
    names = [f"{t.kind}@{t.name}" for t in trainings] + [f"{evaluate[t.kind]}@{t.name}" for t in trainings]
    names += [f"forgetting@{t.name}" for t in trainings if t.kind == "intermediate"] + ["advise", "compare"]
    missing = [name for name in names if name not in lock]
    if missing:
        raise UserError(f"These stages have not run yet: {', '.join(missing)}. Run: dvc repro")
    entries = {name: lock[name] for name in names}
    # It reads whole folders, in which results of removed blocks may still lie.
    entries["compare"] = {part: value for part, value in entries["compare"].items() if part != "deps"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=str).encode()).hexdigest()


def parent(raw: dict, trainings: list[Training]) -> tracking.Run:
    """The run of the whole pipeline."""
    compare, verdict = _read(Path("metrics/compare.json")), _there(Path("metrics/verdict.md"))
    tags = {"mlflow.note.content": verdict.read_text()}  # MLflow shows it at the top of the run's page
    if commit := _commit():
        tags["mlflow.source.git.commit"] = commit
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = experiment
    files = [(Path(name), "") for name in ("params.yaml", "dvc.lock", "metrics/compare.json")]
    files += [(verdict, ""), (_there(Path("metrics/report.html")), "")]
    files += [(_there(_evaluation("target", compare["ship"]) / name), SHIPPED) for name in ("predictions.csv", "mistakes.png")]
    seeds = ", ".join(str(seed) for seed in raw["seeds"])
    return tracking.Run(
        stage=tracking.PIPELINE,
        kind=tracking.PIPELINE,
        name=f"{raw['inits'][0]} -> {raw['target']['data']}, {raw['strategy']}, seeds {seeds}",
        tags=tags,
        params={name: value if isinstance(value, str) else json.dumps(value) for name, value in flat(raw, ".")},
        metrics={name: value for name, value in flat(compare, ".") if _is_number(value)},
        history=[],
        files=files
        + [(_there(Path("metrics/forgetting") / hop / "accuracy.csv"), f"forgetting/{hop}") for hop in raw["intermediate"]]
        + [(path, "plots") for path in sorted(Path("metrics/plots").glob("*.png"))],
        data=[_data(name) for name in dict.fromkeys(training.data for training in trainings)],
    )


def child(training: Training) -> tracking.Run:
    """The run of one training and of its evaluation."""
    metrics = Path("metrics") / training.kind / training.name
    evaluation = _evaluation(training.kind, training.name)
    run, report = _read(metrics / "run.json"), _read(evaluation / "report.json")
    with open(_there(metrics / "history.csv"), newline="") as file:
        history = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]
    files = [(_there(metrics / name), "") for name in ("history.csv", "certificate.csv", "layers.csv")]
    files += [(path, "") for path in [metrics / "alpha.csv"] if path.exists()]  # what wise_ft has to show
    evaluated = ["report.json", "predictions.csv", "mistakes.png"]
    evaluated += ["confusion.csv", "confusion.png", "reliability.csv", "reliability.png"]
    return tracking.Run(
        stage=run["name"],
        kind=training.kind,
        name=f"{run['name']}: {run['settings']['strategy']} on {training.data}",
        tags={"transfer.key": run["key"], "mlflow.note.content": _note(training, run, history, report)},
        params=run["settings"],
        metrics=figures(report),
        history=history,
        files=files + [(_there(evaluation / name), "evaluate") for name in evaluated],
        data=[_data(training.data)],
    )


def figures(report: dict) -> dict[str, float]:
    """What evaluate measured, by the names that MLflow shows."""
    return {f"test_{name}": value for name, value in flat(report["metrics"], "_") if _is_number(value)}


def advice(raw: dict) -> tracking.Run:
    """The run of the look at the target's images, which was made before any training on them."""
    path = Path("metrics/advise.json")
    told = _read(path)
    lines = [f"{entry['strategy']}: {entry['expected']:.1%} expected, {entry['why']}" for entry in told["ranking"]]
    lines += [f"Unsure: {told['unsure']}"] if told["unsure"] else []
    return tracking.Run(
        stage="advise",
        kind="advise",
        name=f"advise: {told['choice']} for {raw['target']['data']}",
        tags={"transfer.key": told["key"], "mlflow.note.content": "\n\n".join(lines + told["warnings"])},
        params=told["settings"],
        metrics=told["figures"],
        history=[],
        files=[(path, "")],
        data=[_data(raw["target"]["data"])],
    )


def shipped() -> dict[str, Any]:
    """The model that the comparison chose, for MLflow."""
    from stages.lib import serving  # imports torch and mlflow

    folder = Path("models/target") / _read(Path("metrics/compare.json"))["ship"]
    return serving.package(_there(folder / "card.json").parent)


def judge(champion: Path | None) -> tuple[bool, str]:
    """Whether the model that is shipped now is better than the registered one, on the same test images, beyond chance.

    Args:
        champion: the table of what that one answered, as evaluate writes it.

    Returns:
        Whether it is, and a sentence that says why.
    """
    from stages import compare  # imports matplotlib

    if champion is None:
        return False, "its answers on the test images are gone, so the two cannot be compared."
    p, ship = params.load("compare"), _read(Path("metrics/compare.json"))["ship"]
    classes = _read(Path("models/target") / ship / "card.json")["classes"]
    return compare.against(champion, _evaluation("target", ship) / "predictions.csv", classes, p.compare)


def flat(value: Any, separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts by their path; {"accuracy": {"value": 0.9, "lower": 0.8}} gives accuracy, accuracy_lower.

    A dict whose keys are no names (patterns of layers) is a leaf: MLflow takes no such params.
    """
    if not isinstance(value, dict) or not value or not all(str(name).isidentifier() for name in value):
        yield prefix, value
        return
    for name, inner in value.items():
        path = f"{prefix}{separator}{name}" if prefix else str(name)
        yield from flat(inner, separator, prefix if name == "value" and prefix else path)


def _note(training: Training, run: dict, history: list[dict], report: dict) -> str:
    """What MLflow shows at the top of a training's page."""
    starts = {"intermediate": "One hop of the chain", "target": "The target", "scratch": "The control, from random weights"}
    figures = report["metrics"]["accuracy"]
    num_epochs = sum(not math.isnan(row["train_loss"]) for row in history)
    lines = [
        f"{starts[training.kind]}, trained on {training.data} by {run['settings']['strategy']}.",
        f"Test accuracy {figures['value']:.1%} ({figures['lower']:.1%} to {figures['upper']:.1%}).",
        f"{num_epochs} epochs; kept: epoch {run['best']['epoch']}." if num_epochs else "Computed from features, not trained.",
        "",
        "Artifacts: `layers.csv` which layers train at which rate, `certificate.csv` what moved and what did not, "
        "`evaluate/mistakes.png` on which images it was most surely wrong.",
    ]
    return "\n".join(lines)


def _data(name: str) -> tracking.Data:
    path = Path("data/prepared") / name / "card.json"
    card = _read(path)  # holds the sha256 of every file of the dataset, so its own stands for all of them
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    return tracking.Data(name, digest, json.dumps({"uri": path.parent.as_posix()}), json.dumps(card["counts"]))


def _evaluation(kind: str, name: str) -> Path:
    return Path("metrics/evaluate") / f"{kind}-{name}"


def _commit() -> str | None:
    if not shutil.which("git"):
        return None
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else None


def _read(path: Path) -> Any:
    return json.loads(_there(path).read_text())


def _there(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing. Make it anew with: dvc repro")
    return path


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> float:
    """A cell of history.csv, exactly as it was written; an empty one is what pandas makes of not-a-number."""
    return {"True": 1.0, "False": 0.0, "": float("nan")}[text] if text in ("True", "False", "") else float(text)


if __name__ == "__main__":
    command.run(main)
