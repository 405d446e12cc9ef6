"""Restore the code, params and data of a run in MLflow, and check its figures: python -m stages restore RUN_ID [--into FOLDER]

Prints which code, params and data the run used, and how to get them back. With --into FOLDER, does so: it makes a clone at the
run's commit, with the run's own params.yaml and dvc.lock, and the data and models from DVC's cache or remote; there it
evaluates every model again and compares every figure with the run's.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.lib.core import runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.tracking import figures, store

TIMEOUT_S = 60
RECORDED = ("params.yaml", "dvc.lock")  # every pipeline run keeps a copy of these
SAME = 1e-6  # reports are rounded to six digits


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages restore", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("run_id", help="of any run of this pipeline, as MLflow's page shows it")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="a new folder in which to restore and evaluate it")
    asked = parser.parse_args(words)
    root = runs.state_folder().parent
    if asked.into and (asked.into.is_file() or (asked.into.is_dir() and any(asked.into.iterdir()))):
        raise UserError(f"--into {asked.into}: this folder is not empty. Name a new one.")
    try:
        client, _ = store.connect(TIMEOUT_S)
        run = pipeline_of(client, asked.run_id)
        found = store.search(client, run.info.experiment_id, state=state(run))
        recorded = {each.data.tags["transfer.stage"]: each for each in found}
        commit = run.data.tags.get("mlflow.source.git.commit")
        print(f"{run.info.run_name}\n  commit {commit or 'unknown: it ran outside git'}\n  state  {state(run)}")
        for entry in run.inputs.dataset_inputs:
            print(f"  data   {entry.dataset.name}, version {entry.dataset.digest}")
        folder = asked.into or Path("restored")
        by_hand = ["git", "clone", str(root), str(folder)], ["git", "-C", str(folder), "checkout", commit or "COMMIT"]
        print("\nBy hand:", *(f"  {shlex.join(line)}" for line in by_hand), sep="\n")
        print(f"  copy {' and '.join(RECORDED)} of the run (Artifacts, in MLflow's page) there, then, in it: dvc pull")
        if not asked.into:
            print(f"\nOr at once, and checked: python -m stages restore {asked.run_id} --into {folder}")
            return
        if commit is None:
            raise UserError(f"Run {run.info.run_id} has no git commit, so its code cannot be restored.")
        clone(root, commit, folder)
        for name in RECORDED:
            client.download_artifacts(run.info.run_id, name, str(folder))
    except Exception as error:
        if isinstance(error, UserError) or not store.expected(error):
            raise
        raise store.unread(error) from None
    for path in changed_code(folder):
        print(f"WARNING: {path} differs from the code of the run, which had uncommitted changes.")
    fetch(root, folder)
    wrong, num = evaluate(folder, recorded)
    for line in wrong:
        print(line)
    print(f"\n{folder}: {num} figures evaluated again, {len(wrong)} differ from the run's.")
    if wrong:
        sys.exit(1)


def pipeline_of(client: Any, run_id: str) -> Any:
    """The pipeline's run, given its id or that of one of its child runs."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        if run.data.tags.get("transfer.kind") != "pipeline" and "mlflow.parentRunId" in run.data.tags:
            run = client.get_run(run.data.tags["mlflow.parentRunId"])
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UserError(f"The MLflow store has no run {run_id}. MLflow's page shows a run's id under its name.") from None
    if run.data.tags.get("transfer.kind") != "pipeline":
        raise UserError(f"Run {run_id} belongs to no finished pipeline, so there is no state to restore (see the command audit).")
    return run


def state(run: Any) -> str:
    found: str = run.data.tags["transfer.state"]
    return found


def clone(root: Path, commit: str, folder: Path) -> None:
    """Clone the repository at a commit."""
    command("git", "clone", "-q", "--no-checkout", str(root), str(folder))
    try:
        command("git", "-C", str(folder), "checkout", "-q", commit)
    except UserError:
        raise UserError(f"{root} does not have the commit {commit}. Get it with `git fetch`, then try again.") from None


def changed_code(folder: Path) -> list[str]:
    """Code in stages/ that differs from what the stages ran with, according to dvc.lock."""
    said = json.loads(command("dvc", "status", "--json", cwd=folder))
    changed = [entry.get("changed deps", {}) for entries in said.values() for entry in entries if isinstance(entry, dict)]
    return sorted({path for deps in changed for path in deps if path.startswith("stages/")})


def fetch(root: Path, folder: Path) -> None:
    """Get the data and models that dvc.lock names from the repository's own cache, or else from a remote."""
    cache = command("dvc", "cache", "dir", cwd=root).strip()
    command("dvc", "cache", "dir", "--local", str((root / cache).resolve()), cwd=folder)
    try:
        command("dvc", "checkout", "-q", "--force", cwd=folder)
    except UserError as missing:
        try:
            command("dvc", "pull", "-q", "--force", cwd=folder)
        except UserError as error:
            raise UserError(
                f"Not all of its data and models are in the cache, and no remote has them. {missing} {error} "
                f"The code and params are in {folder}: `dvc repro` there makes everything again."
            ) from None


def evaluate(folder: Path, recorded: Mapping[str, Any]) -> tuple[list[str], int]:
    """Evaluate every model in the folder again and compare its figures with the recorded ones.

    Args:
        recorded: runs in MLflow, by their tag transfer.stage.

    Returns:
        One line for each figure that differs, and the number of figures.
    """
    raw = params.read(folder / "params.yaml")
    wrong, num = [], 0
    for training in runs.expected(raw):
        name = training.label
        if name not in recorded:
            wrong.append(f"{name}: MLflow has no run of it (the command audit says more)")
            continue
        data = training.data if training.kind == "intermediate" else raw["target"].get("test", training.data)  # of older commits
        words = ["stages", "evaluate"] if (folder / "stages/__main__.py").exists() else ["stages.evaluate"]  # of older commits
        command(sys.executable, "-m", *words, training.kind, training.name, data, cwd=folder)
        report = json.loads((folder / training.evaluation / "report.json").read_text(encoding="utf-8"))
        run = recorded[name].data
        known = {key: float(value) for key, value in run.params.items() if key.startswith(("test/", "calibrated/"))} | run.metrics
        for key, value in (figures.of_test(report) | figures.beside(report)).items():
            num += 1
            figure = known.get(store.metric_name(key), known.get(key.replace("/", "_", 1)))  # the second of older runs
            if figure is None or abs(figure - value) > SAME:
                wrong.append(f"{name}, {key}: {value} now, {figure} in the run")
    return wrong, num


def command(*words: str, cwd: Path | None = None) -> str:
    """Run a program; if it fails, raise a UserError with its output."""
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{words[0]} was not found. Activate the virtual environment first.") from None
    if done.returncode:
        raise UserError(f"`{shlex.join(words)}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
