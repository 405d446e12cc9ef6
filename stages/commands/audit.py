"""Hold the runs in MLflow against the pipeline: python -m stages.commands.audit [--fill]

Each state of the pipeline (dvc.lock) is one parent run, and each of its trainings one child. Lists what is missing for the
present state, what is there more than once, and what belongs to no state; exits with 1 if it finds anything. With --fill what
is missing is put there first, and what was killed and still stands there as running is ended. Nothing is ever deleted: which of
two runs to keep is for a person to say.
"""

import argparse
import sys
from collections import Counter

from filelock import FileLock, Timeout
from stages.lib.command import in_words

from stages import track
from stages.lib import checkpoints, store
from stages.lib.core import params

TIMEOUT_S = 60


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages.commands.audit", description=__doc__.partition(":")[0])
    parser.add_argument("--fill", action="store_true", help="put into MLflow what is missing for the present state")
    asked = parser.parse_args(words)
    raw = params.read()
    params.validate(raw)
    if asked.fill:
        track.publish(anew=True)
    trainings = list(track.expand(raw))
    expected = ["pipeline", "advise", *(f"{training.kind} {training.name}" for training in trainings)]
    try:
        client, experiment = store.connect(TIMEOUT_S)
        if asked.fill:
            end_killed(client, everything(client, experiment))
        runs = everything(client, experiment)
    except Exception as error:
        if not store.expected(error):
            raise
        raise store.unread(error) from None
    found = findings(runs, track.state(trainings), expected)
    for line in found:
        print(line)
    states = {run.data.tags["transfer.state"] for run in runs if "transfer.state" in run.data.tags}
    print(f"{len(runs)} runs of {len(states)} states: {len(found)} finding{'' if len(found) == 1 else 's'}.")
    if found:
        sys.exit(1)


def everything(client, experiment: str) -> list:
    """All runs of the experiment that this pipeline made."""
    runs, token = [], None
    while True:
        page = client.search_runs([experiment], page_token=token)
        runs += [run for run in page if "transfer.stage" in run.data.tags]
        token = page.token
        if not token:
            return runs


def end_killed(client, runs: list) -> None:
    """End the runs of killed trainings: they stand as running, and no process of this machine holds their checkpoint."""
    for run in runs:
        stage, key = run.data.tags["transfer.stage"], run.data.tags.get("transfer.key", "")
        lock = checkpoints.folder_of(stage.replace(" ", "-"), key) / "lock"
        if run.info.status != "RUNNING" or not lock.exists():  # where there is no lock, it may run on another machine
            continue
        try:
            with FileLock(lock, timeout=0):
                client.set_terminated(run.info.run_id, "KILLED")
                print(f"ended: {stage}, run {run.info.run_id}: nothing trains there now; if it goes on, then in this run")
        except Timeout:
            pass  # it does run


def findings(runs: list, state: str, expected: list[str]) -> list[str]:
    """What is missing, double or orphaned, a line each.

    Args:
        runs: of MLflow, with the tags that stages.lib.store names.
        state: of the pipeline now, and `expected`, the transfer.stage of the runs that it should have.
    """
    lines = []
    of_state = [run for run in runs if run.data.tags.get("transfer.state") == state]
    stages = Counter(run.data.tags["transfer.stage"] for run in of_state)
    lines += [f"missing: {stage} (of the present state; --fill puts it there)" for stage in expected if not stages[stage]]
    lines += [
        f"unfinished: {run.data.tags['transfer.stage']}, run {run.info.run_id} is {run.info.status} (--fill completes it)"
        for run in of_state
        if run.info.status != "FINISHED"
    ]
    places = Counter((run.data.tags["transfer.state"], run.data.tags["transfer.stage"]) for run in runs if _placed(run))
    for (where, stage), count in places.items():
        if count > 1:
            same = [run.info.run_id for run in runs if _placed(run) and _place(run) == (where, stage)]
            lines.append(f"duplicate: {stage} of state {where[:8]} has {count} runs: {', '.join(same)}")
    parents = {run.info.run_id for run in runs if run.data.tags["transfer.stage"] == "pipeline"}
    for run in runs:
        parent = run.data.tags.get("mlflow.parentRunId")
        if not _placed(run):
            lines.append(
                f"orphan: {run.data.tags['transfer.stage']}, run {run.info.run_id} ({run.info.status}) belongs to no state: its "
                "training was changed or broken off before the pipeline ended, or is running now"
            )
        elif parent and parent not in parents:
            lines.append(f"orphan: {run.data.tags['transfer.stage']}, run {run.info.run_id}: its parent {parent} is gone")
    return lines


def _placed(run) -> bool:
    return "transfer.state" in run.data.tags


def _place(run) -> tuple[str, str]:
    return run.data.tags["transfer.state"], run.data.tags["transfer.stage"]


if __name__ == "__main__":
    with in_words():
        main(sys.argv[1:])
