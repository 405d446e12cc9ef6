"""List missing, duplicate, orphaned and mixed runs in MLflow: python -m stages audit [--fill]

Each state of the pipeline (dvc.lock) is one parent run, and each of its trainings is one child run. Lists runs that are missing
for the current state, runs that exist more than once, runs that belong to no state, models that are no longer registered, and
states (the current one, and every recorded one) whose results do not belong together; exits with 1 if it finds any. With --fill,
what is missing is added first, and runs of killed trainings that still count as running are ended; those that belong to no state
are filed under one run, "interrupted". Nothing is ever deleted: a person must decide which of two runs to keep.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stages.lib.core import runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.params.validate import validate
from stages.lib.shell import checkpoints
from stages.lib.tracking import ledger, mixed, records, registry, store
from stages.lib.tracking.publish import PIPELINE

TIMEOUT_S = 60
INTERRUPTED = "interrupted"  # tag transfer.stage of the run under which those of interrupted trainings are filed


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages audit", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--fill", action="store_true", help="add to MLflow what is missing for the present state")
    asked = parser.parse_args(words)
    raw = params.read()
    validate(raw)
    trainings = runs.expected(raw)
    state = records.state(trainings)
    try:
        inconsistent = [f"mixed: {line} (in the current state; dvc repro)" for line in records.inconsistent(raw, trainings)]
    except UserError as error:  # a file is missing
        inconsistent = [f"missing: {error}"]
    if asked.fill and not inconsistent:  # what does not belong together is not recorded
        records.publish(again=True)
    if asked.fill:
        ledger.note_reports()
        for training in (each for each in trainings if each.kind != "intermediate"):
            ledger.note_training(training)
    expected = [PIPELINE, "advise", *(training.label for training in trainings)]
    try:
        client, experiment = store.connect(TIMEOUT_S)
        if asked.fill:
            end_killed(client, everything(client, experiment))
            file_interrupted(client, experiment, everything(client, experiment))
        found = everything(client, experiment)
        lines = inconsistent + findings(found, state, expected) + ledger.faults(ledger.openings())
        lines += moved(client.get_experiment(experiment))
        lines += unregistered(client, experiment, found, state) + mixed_before(client, found)
    except Exception as error:
        if not store.expected(error):
            raise
        raise store.unread(error) from None
    for line in lines:
        print(line)
    states = {run.data.tags["transfer.state"] for run in found if "transfer.state" in run.data.tags}
    counts = ((len(found), "run"), (len(states), "state"), (len(lines), "finding"))
    runs_of, states_of, told = (f"{num} {noun}{'' if num == 1 else 's'}" for num, noun in counts)
    print(f"{runs_of} of {states_of}: {told}.")
    if lines:
        sys.exit(1)


def everything(client: Any, experiment: str) -> list[Any]:
    """All runs of the experiment that this pipeline made."""
    found, token = [], None
    while True:
        page = client.search_runs([experiment], page_token=token)
        found += [run for run in page if "transfer.stage" in run.data.tags]
        token = page.token
        if not token:
            return found


def end_killed(client: Any, found: list[Any]) -> None:
    """End the runs of killed trainings: they count as running, but no process on this machine locks their checkpoint."""
    for run in found:
        stage, key = run.data.tags["transfer.stage"], run.data.tags.get("transfer.key", "")
        lock = checkpoints.folder_of(stage.replace(" ", "-"), key) / "lock"
        if run.info.status != "RUNNING" or not lock.exists():  # without a lock, it may be running on another machine
            continue
        try:
            with FileLock(lock, timeout=0):
                client.set_terminated(run.info.run_id, "KILLED")
                print(f"ended: {stage}, run {run.info.run_id}: nothing trains there now; if it resumes, then in this run")
        except Timeout:
            pass  # it is still running


def file_interrupted(client: Any, experiment: str, found: list[Any]) -> None:
    """Put the runs of trainings that ended and belong to no state under one run; one that resumes moves to its own state."""
    loose = [run for run in found if not _placed(run) and "mlflow.parentRunId" not in run.data.tags
             and run.info.status != "RUNNING" and run.data.tags["transfer.stage"] != INTERRUPTED]  # fmt: skip
    if not loose:
        return
    kept = [run for run in found if run.data.tags["transfer.stage"] == INTERRUPTED]
    if kept:
        folder = kept[0].info.run_id
    else:
        tags = {"transfer.stage": INTERRUPTED, "transfer.kind": INTERRUPTED}
        folder = client.create_run(experiment, run_name="interrupted trainings", tags=tags).info.run_id
        client.set_terminated(folder, "FINISHED")
    for run in loose:
        client.set_tag(run.info.run_id, "mlflow.parentRunId", folder)
        print(f"filed: {run.data.tags['transfer.stage']}, run {run.info.run_id}, under the run of interrupted trainings")


def moved(experiment: Any) -> list[str]:
    """A line if MLflow would write artifacts into a folder that is not of this repository, because it was moved or copied."""
    address = experiment.artifact_location or ""
    here = (runs.state_folder().parent / "mlartifacts").as_uri()
    if not address.startswith("file:") or address == here or store.sqlite_path() != runs.state_folder().parent / "mlflow.db":
        return []
    return [f"moved: the experiment {experiment.name} writes its artifacts to {address}, and this repository is at "
            f"{here.removesuffix('/mlartifacts')}. It was moved or copied: move it back, or give its new runs an experiment of "
            "their own (MLFLOW_EXPERIMENT_NAME)"]  # fmt: skip


def findings(found: list[Any], state: str, expected: list[str]) -> list[str]:
    """The missing, duplicate and orphaned runs, one line each.

    Args:
        found: runs in MLflow, with the tags that stages.lib.tracking.store names.
        state: the pipeline's current state.
        expected: the tag transfer.stage of each run that this state should have.
    """
    lines = []
    of_state = [run for run in found if run.data.tags.get("transfer.state") == state]
    stages = Counter(run.data.tags["transfer.stage"] for run in of_state)
    lines += [f"missing: {stage} (in the current state; --fill adds it)" for stage in expected if not stages[stage]]
    lines += [
        f"unfinished: {run.data.tags['transfer.stage']}, run {run.info.run_id} is {run.info.status} (--fill completes it)"
        for run in of_state
        if run.info.status != "FINISHED"
    ]
    places = Counter((run.data.tags["transfer.state"], run.data.tags["transfer.stage"]) for run in found if _placed(run))
    for (where, stage), count in places.items():
        if count > 1:
            same = [run.info.run_id for run in found if _placed(run) and _place(run) == (where, stage)]
            lines.append(f"duplicate: {stage} of state {where[:8]} has {count} runs: {', '.join(same)}")
    parents = {run.info.run_id for run in found if run.data.tags["transfer.stage"] in (PIPELINE, INTERRUPTED)}
    for run in found:
        parent = run.data.tags.get("mlflow.parentRunId")
        if not _placed(run) and (run.data.tags["transfer.stage"] == INTERRUPTED or parent in parents):
            continue  # filed
        if not _placed(run):
            lines.append(
                f"orphan: {run.data.tags['transfer.stage']}, run {run.info.run_id} ({run.info.status}) belongs to no state: its "
                "training was changed or interrupted before the pipeline ended, or is running now (--fill files what ended)"
            )
        elif parent and parent not in parents:
            lines.append(f"orphan: {run.data.tags['transfer.stage']}, run {run.info.run_id}: its parent {parent} is gone")
    return lines


def unregistered(client: Any, experiment: str, found: list[Any], state: str) -> list[str]:
    """What was deleted by hand of the current state's shipped model, and a registered model without a champion; one line each."""
    name, lines = registry.model_name(params.read()["target"]["test"]), []
    for run in found:
        if (run.data.tags["transfer.stage"], run.data.tags.get("transfer.state"), run.info.status) != (
            PIPELINE,
            state,
            "FINISHED",
        ):
            continue
        run_id = run.info.run_id
        logged = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        if not any(model.status == "READY" for model in logged):
            lines.append(f"missing: the model of the pipeline's run {run_id} was deleted (--fill adds it)")
        if not any(version.name == name for version in client.search_model_versions(f"run_id = '{run_id}'")):
            lines.append(f"missing: {name} has no version of the pipeline's run {run_id}; it was deleted (--fill registers it)")
    known = client.search_registered_models(f"name = '{name}'")
    if known and known[0].latest_versions and registry.CHAMPION not in known[0].aliases:
        lines.append(f"missing: no version of {name} is the {registry.CHAMPION} any more; choose one on its page in MLflow")
    return lines


def mixed_before(client: Any, found: list[Any]) -> list[str]:
    """The recorded states whose results do not belong together, by the dvc.lock and params.yaml that their runs hold."""
    lines = []
    for run in found:
        if run.data.tags["transfer.stage"] != PIPELINE:
            continue
        with tempfile.TemporaryDirectory() as folder:
            lock, raw = (registry.download(client, run.info.run_id, name.name, folder) for name in (records.LOCK, params.PATH))
            if wrong := _mixed(lock, raw):
                more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                lines.append(f"mixed: run {run.info.run_id} holds results that do not belong together, and its model was judged "
                             f"by them: {wrong[0]}{more}. Delete it, or do not use its figures.")  # fmt: skip
    return lines


def _mixed(lock: Path | None, raw: Path | None) -> list[str]:
    if lock is None or raw is None:  # a run that was killed before its files were logged
        return []
    values = params.read(raw)
    try:
        names = records.stages_of(runs.expected(values))
    except KeyError:  # recorded by a version whose params.yaml had other sections
        return []
    return mixed.in_lock(params.read(lock)["stages"], [*names, "report"], values)


def _placed(run: Any) -> bool:
    return "transfer.state" in run.data.tags


def _place(run: Any) -> tuple[str, str]:
    return run.data.tags["transfer.state"], run.data.tags["transfer.stage"]
