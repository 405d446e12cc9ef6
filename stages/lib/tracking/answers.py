"""What a comparison of several states found, in MLflow: one run for each set of states, with its table, picture and page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from stages.lib.tracking import claims, store, views

TIMEOUT_S = 60


def record(key: str, *, name: str, data: str, answer: str, note: str, files: Sequence[Path]) -> str | None:
    """Make sure that MLflow has a run of this comparison, once, and that the experiment's description names the last one.

    Args:
        key: the same for the same states, compared in the same way.
        name: of the run.
        data: that the states are tested on.
        answer: in a sentence.
        note: all of it as Markdown, shown at the top of the run's page.
        files: its artifacts.

    Returns:
        The address of its page; None if the store could not be used.
    """
    tags = {"transfer.kind": views.COMPARED, "transfer.compared": key, "transfer.data": data, "transfer.answer": answer}
    try:
        with FileLock(store.lock("publish")):
            client, experiment = store.connect(TIMEOUT_S)

            def create(claim: dict[str, str]) -> Any:
                return client.create_run(experiment, run_name=name, tags=tags | claim)

            run = claims.only(client, experiment, create, kind=views.COMPARED, compared=key)
            if run.info.status != "FINISHED":  # new, or killed in between
                client.set_tag(run.info.run_id, "mlflow.note.content", note)
                for path in files:
                    client.log_artifact(run.info.run_id, str(path))
                client.set_terminated(run.info.run_id, "FINISHED")
            views.describe(client, experiment)
            return store.address(experiment, run.info.run_id)
    except Exception as error:
        if not store.expected(error):
            raise
        store.tell(error, "this comparison is not in it", then="run it again to have it there")
        return None
