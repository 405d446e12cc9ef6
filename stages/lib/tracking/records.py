"""The contents of the MLflow runs: the pipeline's current state, read from the files that the stages have written."""

import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from stages.lib.core import runs
from stages.lib.core.contracts import scale_of
from stages.lib.core.runs import Training
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.params.validate import validate
from stages.lib.shell import progress
from stages.lib.tracking import figures, ledger, mixed, registry, store, tried
from stages.lib.tracking import publish as publishing
from stages.lib.tracking.files import read, there
from stages.lib.tracking.publish import PIPELINE, Data, Run

LOCK = Path("dvc.lock")
JUST_MADE_S = 60  # between the end of a stage and the time of its files, which DVC copies
CARD = runs.REPORT.with_name(registry.CARD)
SHIPPED = "shipped"  # folder in the parent run for the files of the shipped model


def publish(*, again: bool) -> tuple[str, str] | None:
    """Record the current state in MLflow; with `again`, check all of its runs even if it is already recorded.

    Returns:
        The ids of the experiment and of the run of the whole pipeline; None if the store could not be used.

    Raises:
        UserError: a stage has not run, or what the stages wrote does not belong together.
    """
    raw = params.read()
    validate(raw)
    trainings = runs.expected(raw)
    current = state(trainings)
    done = None if again else publishing.published(current)
    if done is None:
        if found := inconsistent(raw, trainings):
            raise UserError("\n".join(["Not recorded in MLflow, because these results do not belong together:",
                                       *(f"  {line}" for line in found), "Run: dvc repro"]))  # fmt: skip
        children = [advice(raw), *(child(training) for training in trainings)]
        predictions = f"{SHIPPED}/predictions.csv"
        done = publishing.publish(current, parent(raw, trainings), children, shipped, predictions, judge, again=again)
    return done


def state(trainings: list[Training]) -> str:
    """Hash of the entries in dvc.lock for the trainings, their evaluations and the comparison.

    Earlier stages (download, prepare, source) are included through the hashes of their outputs. The stage check is not
    included, because any comment in params.yaml changes it; nor are entries of blocks that are no longer in params.yaml.

    Raises:
        UserError: a stage has not run.
    """
    try:
        with open(LOCK, "rb") as file:
            lock = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506 (both are safe)
    except FileNotFoundError:
        raise UserError(f"{LOCK} is not here ({Path.cwd()}): nothing has run yet. Run: dvc repro") from None
    names = stages_of(trainings)
    missing = [name for name in names if name not in lock]
    if missing:
        raise UserError(f"These stages have not run yet: {', '.join(missing)}. Run: dvc repro")
    entries = {name: lock[name] for name in names}
    # It reads whole folders, which may still contain results of removed blocks.
    entries["compare"] = {part: value for part, value in entries["compare"].items() if part != "deps"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=str).encode()).hexdigest()


def stages_of(trainings: list[Training]) -> list[str]:
    """The stages whose results make up a state of the pipeline."""
    names = [training.stage for training in trainings] + [training.evaluation_stage for training in trainings]
    return names + [f"forgetting@{each.name}" for each in trainings if each.kind == "intermediate"] + ["advise", "compare"]


def inconsistent(raw: dict[str, Any], trainings: list[Training]) -> list[str]:
    """What does not belong together in dvc.lock and in the reports, one line each."""
    lines = mixed.in_lock(params.read(LOCK)["stages"], [*stages_of(trainings), "report"], raw)
    try:
        return lines + mixed.in_files(trainings)
    except UserError as error:
        if not lines:
            raise
        return [*lines, str(error)]


def parent(raw: dict[str, Any], trainings: list[Training]) -> Run:
    """The run of the whole pipeline."""
    compare, verdict = read(runs.COMPARISON), there(runs.VERDICT)
    shipped, run = _shipped(raw).evaluation, read(_shipped(raw).metrics / "run.json")
    tags = {"mlflow.note.content": verdict.read_text(encoding="utf-8"),  # MLflow shows it at the top of the run's page
            "transfer.model": read(shipped / "report.json")["model"], "transfer.use": compare["use"],
            "transfer.tried": tried.counts(ledger.trials(raw["target"]["test"]), tried.arms(compare["measured"])),
            registry.NAME: registry.model_name(raw["target"]["test"])}  # fmt: skip
    if commit := _commit():
        tags["mlflow.source.git.commit"] = commit
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = experiment
    tested = raw["target"]["test"]
    files = [(path, "") for path in (params.PATH, LOCK, runs.COMPARISON, verdict, there(runs.REPORT), there(CARD))]
    files += [(there(shipped / "predictions.csv"), SHIPPED)]
    files += [(path, SHIPPED) for path in sorted(shipped.glob("mistakes.*"))]
    used = raw | {"strategies": {name: raw["strategies"][name] for name in {raw["strategy"], run["settings"]["strategy"]}
                                 if name in raw["strategies"]}}  # fmt: skip
    return Run(
        stage=PIPELINE,
        kind=PIPELINE,
        name=figures.name_of(raw, run["settings"]["strategy"], read(shipped / "report.json")),
        tags=tags,
        params={name: value if isinstance(value, str) else json.dumps(value) for name, value in figures.flat(used, ".")},
        metrics=figures.headline(raw["compare"]["metric"], compare),
        history=[],
        files=files
        + [(there(runs.forgetting(hop) / "forgetting.csv"), f"forgetting/{hop}") for hop in raw["intermediate"]]
        + [(path, "plots") for path in sorted(runs.PLOTS.glob("*.png"))],
        data=[_data(name) for name in dict.fromkeys([*(each.data for each in trainings if each.data != tested), tested])],
    )


def child(training: Training) -> Run:
    """The run of one training and of its evaluation."""
    metrics, evaluation = training.metrics, training.evaluation
    run, report = read(metrics / "run.json"), read(evaluation / "report.json")
    with open(there(metrics / "history.csv"), newline="", encoding="utf-8") as file:
        history = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]
    needed = [there(metrics / name) for name in ("history.csv", "certificate.csv", "layers.csv", "run.json")]
    needed += [there(training.model / "card.json")]
    files = [(path, "") for path in dict.fromkeys([*needed, *sorted(metrics.glob("*.csv"))])]  # a strategy may add tables
    note = _note(training, run, history, report)
    return Run(
        stage=run["name"],
        kind=training.kind,
        name=f"{run['name']}: {run['settings']['strategy']} on {training.data}",
        tags={"transfer.key": run["key"], "transfer.model": report["model"], "mlflow.note.content": note},
        params=run["settings"] | {"best_epoch": run["best"]["epoch"]} | figures.beside(report),
        metrics=figures.of_test(report),
        history=history,
        times=_times(f"{training.kind}-{training.name}", metrics / "run.json"),
        files=files + [(path, "evaluate") for path in sorted(evaluation.iterdir()) if path.is_file()],
        data=[_data(training.data)],
    )


def advice(raw: dict[str, Any]) -> Run:
    """The run of the stage advise, which analyses the target's data before any training."""
    told = read(runs.ADVICE)
    lines = [f"{entry['strategy']}: {entry['expected']:.1%} expected, {entry['why']}" for entry in told["ranking"]]
    lines += [f"Unsure: {told['unsure']}"] if told["unsure"] else []
    return Run(
        stage="advise",
        kind="advise",
        name=f"advise: {told['choice'] or 'nothing'} for {raw['target']['data']}",
        tags={"transfer.key": told["key"], "mlflow.note.content": "\n\n".join(lines + told["warnings"])},
        params=told["settings"],
        metrics={store.chart(name): value for name, value in told["figures"].items()},
        history=[],
        times=_times("advise", runs.ADVICE),
        files=[(runs.ADVICE, "")],
        data=[_data(raw["target"]["data"])],
    )


def shipped() -> dict[str, Any]:
    """The model that the comparison chose, for MLflow."""
    from stages.lib.tracking import serving  # imports torch and mlflow

    packed = serving.package(there(_shipped(params.read()).model / "card.json").parent)
    return packed | {"artifacts": packed["artifacts"] | {"card": there(CARD).resolve().as_uri()}}


def judge(champion: Path | None) -> tuple[bool, str]:
    """Whether the model shipped now is better than the registered one, on the same test examples and beyond chance.

    Args:
        champion: the registered model's table of predictions, as evaluate writes it.

    Returns:
        Whether it is better, and a sentence that says why.
    """
    from stages.lib.core import cards
    from stages.lib.evaluation import comparison  # imports torch

    if champion is None:
        return False, "its answers on the test examples are gone, so the two cannot be compared."
    now = _shipped(params.read())
    card = cards.read_model_card(now.model)
    return comparison.against(champion, now.evaluation / "predictions.csv", card, params.load("compare").compare)


def _note(training: Training, run: dict[str, Any], history: list[dict[str, float]], report: dict[str, Any]) -> str:
    """The text at the top of a training's page in MLflow."""
    starts = {"intermediate": "One hop of the chain", "target": "The target", "alternative": "The target, trained in another way",
              "scratch": "The control, from random weights"}  # fmt: skip
    name, scale = scale_of(report)
    num_epochs = sum(not math.isnan(row["train_loss"]) for row in history)
    lines = [
        f"{starts[training.kind]}, trained on {training.data} by {run['settings']['strategy']}.",
        f"Test {name.replace('_', ' ')} {scale.interval(report['metrics'][name])}."
        + ("" if report["chance"] is None else f" Always the most frequent answer: {scale.text(report['chance'])}."),
        f"{num_epochs} epoch{'s' * (num_epochs > 1)}; kept: epoch {run['best']['epoch']}."
        if num_epochs
        else "Computed from features, not trained.",
        "",
        "Artifacts: `layers.csv`, the learning rate of each layer; `certificate.csv`, what changed; `evaluate/mistakes.*`, the "
        "most confident mistakes.",
    ]
    return "\n".join(lines)


def _data(name: str) -> Data:
    path = runs.prepared(name) / "card.json"
    card = read(path)  # contains the sha256 of every file of the dataset, so its own hash covers them all
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    return Data(name, digest, json.dumps({"uri": path.parent.as_posix()}), json.dumps(card["counts"]))


def _times(stage: str, made: Path) -> tuple[int, int] | None:
    """When a stage began and ended (ms since 1970), if what it made is from then; None if DVC has restored it since."""
    timed = progress.read_timed().get(stage)
    if timed is None or abs(timed.ended - made.stat().st_mtime) > JUST_MADE_S:
        return None
    return int(1000 * (timed.ended - timed.seconds)), int(1000 * timed.ended)


def _shipped(raw: dict[str, Any]) -> Training:
    """The target that the comparison chose."""
    return Training("target", read(runs.COMPARISON)["ship"], raw["target"]["data"])


def _commit() -> str | None:
    if not shutil.which("git"):
        return None
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else None


def _number(text: str) -> float:
    """The number in a cell of history.csv, exactly as written; pandas writes NaN as an empty cell."""
    return {"True": 1.0, "False": 0.0, "": float("nan")}[text] if text in ("True", "False", "") else float(text)
