"""The state of the pipeline in MLflow: one complete run, with one run below it for each training.

DVC restores a stage from its cache without running it, so training cannot be the only place that logs. `live` logs
each epoch as it ends; `publish` comes last, knows all that should be there, and fills in what is missing.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from stages.lib.tracking import registry, store

PIPELINE = "pipeline"
TIMEOUT_S = 60  # an upload of weights may take a while


class Data(NamedTuple):
    """A dataset that a run used."""

    name: str
    digest: str  # its version, at most 36 characters
    source: str
    profile: str  # JSON, shown beside it


class Run(NamedTuple):
    """All that one MLflow run holds, as plain values."""

    stage: str
    kind: str
    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    metrics: dict[str, float]
    history: list[dict[str, float]]  # one row for each epoch, as stages.lib.training.loop makes them; `time_ms` may be missing
    files: list[tuple[Path, str]]  # file, folder within the run ("" for the top)
    data: list[Data]


def published(state: str) -> bool:
    """Whether the parent run of a state is complete, asked without importing mlflow (which takes over a second).

    Only a SQLite store can be asked so; for others the answer is False, and `publish` asks again.
    """
    path = store.sqlite_path()
    if path is None or not path.exists():
        return False
    query = """
        SELECT 1 FROM runs JOIN experiments USING (experiment_id)
        JOIN tags AS state ON state.run_uuid = runs.run_uuid AND state.key = 'transfer.state' AND state.value = ?
        JOIN tags AS stage ON stage.run_uuid = runs.run_uuid AND stage.key = 'transfer.stage' AND stage.value = ?
        WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
        AND experiments.name = ? AND experiments.lifecycle_stage = 'active'
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query, (state, PIPELINE, store.experiment_name())).fetchone() is not None
    except sqlite3.Error:  # no tables yet, locked, damaged: publish looks closer, and tells
        return False


def publish(
    state: str,
    parent: Run,
    children: list[Run],
    model: Callable[[], dict[str, Any]],
    predictions: str,
    judge: Callable[[Path | None], tuple[bool, str]],
    *,
    again: bool = False,
) -> None:
    """Make sure that MLflow holds one state of the pipeline, wholly and once.

    What is there already (from `live`, or from a `publish` that was killed) is kept and completed.

    Args:
        state: what the runs are found by.
        parent: the pipeline's run.
        children: one for each training; their `tags` hold the training's transfer.key.
        model: gives the keyword arguments of mlflow.pyfunc.log_model for the model that is shipped; called only when
            it has to be logged, since making them takes seconds.
        predictions, judge: see stages.lib.tracking.registry.register.
        again: look at every run again, even if the parent is finished; a child of it may have been deleted.

    Raises:
        Exception: a mistake of this code's. One of the user's and a store that fails are told, and raise nothing.
    """
    try:
        with FileLock(store.lock("publish")):  # of two that come at once the second finds the first one's run
            client, experiment = store.connect(TIMEOUT_S)
            found = store.search(client, experiment, state=state, stage=parent.stage)
            if any(run.info.status == "FINISHED" for run in found) and not again:
                return
            tags = {"transfer.state": state, "transfer.stage": parent.stage, "transfer.kind": parent.kind}
            run = found[0] if found else client.create_run(experiment, run_name=parent.name, tags=tags)
            for child in children:
                _publish_child(client, experiment, state, run.info.run_id, child)
            _fill(client, run, parent)
            model_id = _log_model(client, experiment, run.info.run_id, model)
            registry.register(client, run.info.run_id, model_id, predictions, judge)
            client.set_terminated(run.info.run_id, "FINISHED")  # last: a run that is not finished is gone on with
    except Exception as error:
        if not store.expected(error):
            raise
        store.tell(error, "this run is not in it yet")


def _publish_child(client: Any, experiment: str, state: str, parent_id: str, child: Run) -> None:
    own = store.search(client, experiment, state=state, stage=child.stage)
    trained = store.search(client, experiment, key=child.tags["transfer.key"])
    free = [run for run in trained if "transfer.state" not in run.data.tags]  # live runs that no state has taken yet
    tags = {"transfer.state": state, "transfer.stage": child.stage, "transfer.kind": child.kind}
    tags |= {"mlflow.parentRunId": parent_id, "mlflow.runName": child.name}
    # A new one where DVC restored the training, an earlier state has its run, or the store was away while it ran.
    run = (own or free)[0] if own or free else client.create_run(experiment, run_name=child.name, tags=tags)
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value)
    if not own or run.info.status != "FINISHED":
        _fill(client, run, child)
        client.set_terminated(run.info.run_id, "FINISHED", end_time=_last_epoch_ms(client, run))


def _fill(client: Any, run: Any, wanted: Run) -> None:
    """Complete a run; what it holds already is not logged again."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

    run_id, now = run.info.run_id, int(time.time() * 1000)
    store.fill_params(client, run, wanted.params)
    points = [point for row in wanted.history for point in store.points(row, int(row.get("time_ms", now)))]
    logged = {point.key for point in points}
    there = {(name, point.step) for name in logged for point in client.get_metric_history(run_id, name)}
    points = [point for point in points if (point.key, point.step) not in there]
    final = {store.metric_name(name): value for name, value in wanted.metrics.items()}
    points += [Metric(name, float(value), now, 0) for name, value in final.items() if name not in run.data.metrics]
    client.log_batch(run_id, metrics=points, tags=[RunTag(name, value) for name, value in wanted.tags.items()])

    known = {(entry.dataset.name, entry.dataset.digest) for entry in (run.inputs.dataset_inputs if run.inputs else [])}
    for data in wanted.data:
        if (data.name, data.digest) not in known:
            dataset = Dataset(data.name, data.digest, "local", data.source, profile=data.profile)
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    for path, folder in wanted.files:  # the same file again replaces the first
        client.log_artifact(run_id, str(path), folder or None)


def _log_model(client: Any, experiment: str, run_id: str, model: Callable[[], dict[str, Any]]) -> str:
    import mlflow

    mlflow.set_tracking_uri(store.uri())  # log_model has no argument for it
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    for entry in models:
        if entry.status != "READY":  # an upload that was killed
            client.delete_logged_model(entry.model_id)
    ready: list[str] = [entry.model_id for entry in models if entry.status == "READY"]
    if not ready:
        mlflow.start_run(run_id=run_id, log_system_metrics=False)
        try:
            ready = [mlflow.pyfunc.log_model(name="model", **model()).model_id]
        finally:
            mlflow.end_run("RUNNING")  # `publish` ends it, when the model is registered too
    return ready[0]


def _last_epoch_ms(client: Any, run: Any) -> int | None:
    """When the last epoch was logged; None, which MLflow takes as now, if there is none."""
    times = [point.timestamp for point in client.get_metric_history(run.info.run_id, "train_loss")]
    return max(times, default=None)
