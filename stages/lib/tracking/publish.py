"""The state of the pipeline in MLflow: one complete parent run, with one child run for each training.

DVC restores a stage from its cache without running it, so logging only during training is not enough. `live` logs
each epoch as it ends; `publish` runs last, knows everything that should be there, and adds what is missing.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from stages.lib.tracking import claims, registry, store, views

PIPELINE = "pipeline"
SHOWN = ("strategy", "target.data", "seeds")  # params in the table of states
TIMEOUT_S = 60  # an upload of weights may take a while


class Data(NamedTuple):
    """A dataset that a run used."""

    name: str
    digest: str  # its version, at most 36 characters
    source: str
    profile: str  # JSON, shown next to it


class Run(NamedTuple):
    """The contents of one MLflow run, as plain values."""

    stage: str
    kind: str
    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    metrics: dict[str, float]
    history: list[dict[str, float]]  # one row per epoch, as written by stages.lib.training.loop; `time_ms` may be missing
    files: list[tuple[Path, str]]  # file, folder within the run ("" for the top)
    data: list[Data]
    times: tuple[int, int] | None = None  # when its stage began and ended, ms since 1970; None if that is not known here


def published(state: str) -> tuple[str, str] | None:
    """The ids of the experiment and of a state's parent run, if that is complete; checked without importing mlflow (which takes
    over a second).

    This only works for a SQLite store; for others the result is None, and `publish` checks again.
    """
    path = store.sqlite_path()
    if path is None or not path.exists():
        return None
    query = """
        SELECT runs.experiment_id, runs.run_uuid FROM runs JOIN experiments USING (experiment_id)
        JOIN tags AS state ON state.run_uuid = runs.run_uuid AND state.key = 'transfer.state' AND state.value = ?
        JOIN tags AS stage ON stage.run_uuid = runs.run_uuid AND stage.key = 'transfer.stage' AND stage.value = ?
        WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
        AND experiments.name = ? AND experiments.lifecycle_stage = 'active'
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute(query, (state, PIPELINE, store.experiment_name())).fetchone()
            return None if found is None else (str(found[0]), str(found[1]))
    except sqlite3.Error:  # no tables yet, locked, damaged: `publish` checks again and reports it
        return None


def publish(
    state: str,
    parent: Run,
    children: list[Run],
    model: Callable[[], dict[str, Any]],
    predictions: str,
    judge: Callable[[Path | None], tuple[bool, str]],
    *,
    again: bool = False,
) -> tuple[str, str] | None:
    """Make sure that MLflow contains one state of the pipeline, completely and once.

    Existing runs (from `live`, or from a `publish` that was killed) are kept and completed.

    Args:
        state: identifies the runs.
        parent: the pipeline's run.
        children: one per training; their `tags` contain the training's transfer.key.
        model: returns the keyword arguments of mlflow.pyfunc.log_model for the shipped model; called only if the model has
            to be logged, because creating them takes seconds.
        predictions, judge: see stages.lib.tracking.registry.register.
        again: check every run, even if the parent is finished; one of its children may have been deleted.

    Returns:
        The experiment's and the parent run's id; None if the store could not be used.

    Raises:
        Exception: a bug in this code. Mistakes of the user and failures of the store are printed and raise nothing.
    """
    try:
        with FileLock(store.lock("publish")):  # between processes of this clone; between clones, see `claims`
            client, experiment = store.connect(TIMEOUT_S)
            found = store.search(client, experiment, state=state, stage=parent.stage)
            if not again and (done := [run for run in found if run.info.status == "FINISHED"]):
                return experiment, done[0].info.run_id
            tags = {"transfer.state": state, "transfer.stage": parent.stage, "transfer.kind": parent.kind}
            began = _began(client, experiment, state, children)
            made = claims.only(
                client, experiment, lambda claim: client.create_run(experiment, began, run_name=parent.name, tags=tags | claim),
                state=state, stage=parent.stage,
            )  # fmt: skip
            with claims.held(client, made.info.run_id, again=again) as run:
                if run is None:  # another clone has recorded it
                    return experiment, made.info.run_id
                for child in children:
                    _publish_child(client, experiment, state, run.info.run_id, child)
                tested = {name: value for name, value in parent.metrics.items() if name.startswith("test/")}
                others = {name: value for name, value in parent.metrics.items() if name not in tested}
                _fill(client, run, parent._replace(metrics=others))
                model_id = _log_model(client, experiment, run.info.run_id, model)
                _log_tested(client, run.info.run_id, model_id, parent.data[-1], tested)
                registry.register(client, run.info.run_id, model_id, predictions, judge)
                shown = [name for name in parent.metrics if name.startswith(("test/", "transfer/"))]
                views.describe(client, experiment)
                views.tabulate(client, experiment, shown, SHOWN)
                client.set_terminated(run.info.run_id, "FINISHED")  # last: a run that is not finished will be completed later
            return experiment, made.info.run_id
    except Exception as error:
        if not store.expected(error):
            raise
        store.tell(error, "this run is not in it yet")
        return None


def _publish_child(client: Any, experiment: str, state: str, parent_id: str, child: Run) -> None:
    own, trained, free = _runs_of(client, experiment, state, child)
    tags = {"transfer.state": state, "transfer.stage": child.stage, "transfer.kind": child.kind}
    tags |= {"mlflow.parentRunId": parent_id, "mlflow.runName": child.name}
    # A new run if DVC restored the training, its run belongs to an earlier state, or the store was unavailable during training.
    times = child.times
    if not (own or free) and (trained or times is None):
        tags["transfer.from_cache"] = trained[0].info.run_id if trained else "true"
        times = (trained[0].info.start_time, trained[0].info.end_time) if trained else None
    run = (own or free)[0] if own or free else client.create_run(experiment, times and times[0], run_name=child.name, tags=tags)
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value)
    if not own or run.info.status != "FINISHED":
        _fill(client, run, child)
        client.set_terminated(run.info.run_id, "FINISHED", end_time=(times and times[1]) or _last_epoch_ms(client, run))


def _runs_of(client: Any, experiment: str, state: str, child: Run) -> tuple[list[Any], list[Any], list[Any]]:
    """The runs of a child in this state, all runs of the same training, and of these the ones that belong to no state yet."""
    own = store.search(client, experiment, state=state, stage=child.stage)
    trained = store.search(client, experiment, key=child.tags["transfer.key"])
    return own, trained, [run for run in trained if "transfer.state" not in run.data.tags]


def _began(client: Any, experiment: str, state: str, children: list[Run]) -> int | None:
    """When the first of the trainings began that ran for this state; None, which MLflow takes as now, if all were restored."""
    starts = list[int]()
    for child in children:
        own, trained, free = _runs_of(client, experiment, state, child)
        if own or free:
            starts += [run.info.start_time for run in (own or free)[:1] if "transfer.from_cache" not in run.data.tags]
        elif child.times and not trained:
            starts.append(child.times[0])
    return min(starts, default=None)


def _log_tested(client: Any, run_id: str, model_id: str, data: Data, figures: Mapping[str, float]) -> None:
    """Log the figures of the test, tied to the model and the data that they are of; MLflow's page of models shows them there."""
    from mlflow.entities import Metric

    logged, now = client.get_run(run_id).data.metrics, int(time.time() * 1000)
    client.log_batch(run_id, metrics=[
        Metric(store.metric_name(name), float(value), now, 0, model_id, data.name, data.digest)
        for name, value in figures.items() if store.metric_name(name) not in logged
    ])  # fmt: skip


def _fill(client: Any, run: Any, wanted: Run) -> None:
    """Complete a run; what it already contains is not logged again."""
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
    for path, folder in wanted.files:  # logging the same file again replaces it
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
            mlflow.end_run("RUNNING")  # `publish` ends it once the model is registered too
    return ready[0]


def _last_epoch_ms(client: Any, run: Any) -> int | None:
    """When the last epoch was logged; None if there is none, which MLflow takes as now."""
    times = [point.timestamp for point in client.get_metric_history(run.info.run_id, "loss/train")]
    return max(times, default=None)
