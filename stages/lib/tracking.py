"""MLflow: curves while training runs, and one complete run for each state of the pipeline.

DVC restores a stage from its cache without running it, so training cannot be the only place that logs. `live` logs
each epoch as it ends; `publish` comes last, knows all that should be there, and fills in what is missing. MLflow is an
observer: when it cannot be reached, one line says so and the pipeline goes on.

Every run of ours carries these tags:
    transfer.kind   pipeline (the parent), intermediate, target or scratch
    transfer.stage  which training within the pipeline, "target mono-0"; "pipeline" for the parent
    transfer.key    hash of everything a training depends on; a training that goes on continues in the run with its key
    transfer.state  the state of the pipeline that the run belongs to, set by `publish`
"""

import logging
import os
import re
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from stages.lib import checkpoints
from stages.lib.errors import UserError

EXPERIMENT = "transfer-learning"
PIPELINE = "pipeline"
LIVE_TIMEOUT_S = 5  # training waits for no server longer than this, twice (one retry), and only once
PUBLISH_TIMEOUT_S = 60  # an upload of weights may take a while
NOT_METRICS = ("epoch", "time_ms")  # the columns of a history row that say when


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
    history: list[dict[str, float]]  # one row for each epoch, as stages.lib.fit returns them; `time_ms` may be missing
    files: list[tuple[Path, str]]  # file, folder within the run ("" for the top)
    data: list[Data]


def live(key: str, name: str, stage: str, settings: dict[str, Any]) -> Callable[[dict], None]:
    """Show a training in MLflow while it runs.

    Args:
        key: hash of everything that the training depends on; the same key continues the same run.
        name: "target mono-0"; also its transfer.stage.
        stage: the kind of training (intermediate, target, scratch).
        settings: logged as params.

    Returns:
        A function to call after each epoch with its history row. Logging a row again changes nothing. Neither it
        nor this function ever raises: a store that cannot be reached is told once, and then left alone.
    """
    client = run_id = None

    def log(row: dict) -> None:
        nonlocal run_id
        if run_id is None:
            return
        try:
            client.log_batch(run_id, metrics=_points(row, row["time_ms"]))
        except Exception as error:
            run_id = None
            _tell(error, "training goes on without it")

    try:
        client, experiment = _connect(LIVE_TIMEOUT_S)
        runs = _search(client, experiment, key=key)
        if not any(run.info.status == "FINISHED" for run in runs):
            tags = {"transfer.key": key, "transfer.stage": name, "transfer.kind": stage}
            run = runs[0] if runs else client.create_run(experiment, run_name=name, tags=tags)
            client.update_run(run.info.run_id, status="RUNNING")
            _fill_params(client, run, settings)
            run_id = run.info.run_id
    except Exception as error:
        _tell(error, "training goes on without it")
    return log


def published(state: str) -> bool:
    """Whether the parent run of a state is complete, asked without importing mlflow (which takes over a second).

    Only a SQLite store can be asked so; for others the answer is False, and `publish` asks again.
    """
    path = _sqlite_path()
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
            return db.execute(query, (state, PIPELINE, _experiment_name())).fetchone() is not None
    except sqlite3.Error:  # no tables yet, locked, damaged: publish looks closer, and tells
        return False


def publish(state: str, parent: Run, children: list[Run], model: Callable[[], dict[str, Any]]) -> None:
    """Make sure that MLflow holds one state of the pipeline, wholly and once.

    What is there already (from `live`, or from a `publish` that was killed) is kept and completed.

    Args:
        state: what the runs are found by.
        parent: the pipeline's run.
        children: one for each training; their `tags` hold the training's transfer.key.
        model: gives the keyword arguments of mlflow.pyfunc.log_model for the model that is shipped; called only when
            it has to be logged, since making them takes seconds.
    """
    try:
        with FileLock(_lock("publish")):  # of two that come at once the second finds the first one's run
            client, experiment = _connect(PUBLISH_TIMEOUT_S)
            found = _search(client, experiment, state=state, stage=parent.stage)
            if any(run.info.status == "FINISHED" for run in found):
                return
            tags = {"transfer.state": state, "transfer.stage": parent.stage, "transfer.kind": parent.kind}
            run = found[0] if found else client.create_run(experiment, run_name=parent.name, tags=tags)
            for child in children:
                _publish_child(client, experiment, state, run.info.run_id, child)
            _fill(client, run, parent)
            _log_model(client, experiment, run.info.run_id, model)
            client.set_terminated(run.info.run_id, "FINISHED")  # last: a run that is not finished is gone on with
    except Exception as error:
        _tell(error, "this run is not in it yet")


def _publish_child(client, experiment: str, state: str, parent_id: str, child: Run) -> None:
    own = _search(client, experiment, state=state, stage=child.stage)
    trained = _search(client, experiment, key=child.tags["transfer.key"])
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


def _fill(client, run, wanted: Run) -> None:
    """Complete a run; what it holds already is not logged again."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

    run_id, now = run.info.run_id, int(time.time() * 1000)
    _fill_params(client, run, wanted.params)
    logged = {name for row in wanted.history for name in row.keys() - set(NOT_METRICS)}
    there = {(name, point.step) for name in logged for point in client.get_metric_history(run_id, name)}
    points = [point for row in wanted.history for point in _points(row, int(row.get("time_ms", now)))]
    points = [point for point in points if (point.key, point.step) not in there]
    final = {_metric_name(name): value for name, value in wanted.metrics.items()}
    points += [Metric(name, float(value), now, 0) for name, value in final.items() if name not in run.data.metrics]
    client.log_batch(run_id, metrics=points, tags=[RunTag(name, value) for name, value in wanted.tags.items()])

    known = {(entry.dataset.name, entry.dataset.digest) for entry in (run.inputs.dataset_inputs if run.inputs else [])}
    for data in wanted.data:
        if (data.name, data.digest) not in known:
            dataset = Dataset(data.name, data.digest, "local", data.source, profile=data.profile)
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    for path, folder in wanted.files:  # the same file again replaces the first
        client.log_artifact(run_id, str(path), folder or None)


def _fill_params(client, run, params: dict[str, Any]) -> None:
    """Log the params that are missing; MLflow refuses to change one."""
    from mlflow.entities import Param

    missing = [Param(name, str(value)) for name, value in params.items() if name not in run.data.params]
    client.log_batch(run.info.run_id, params=missing)


def _log_model(client, experiment: str, run_id: str, model: Callable[[], dict[str, Any]]) -> None:
    import mlflow

    mlflow.set_tracking_uri(_uri())  # log_model has no argument for it
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    for entry in models:
        if entry.status != "READY":  # an upload that was killed
            client.delete_logged_model(entry.model_id)
    if not any(entry.status == "READY" for entry in models):
        with mlflow.start_run(run_id=run_id, log_system_metrics=False), warnings.catch_warnings():  # ends the run too
            warnings.filterwarnings("ignore", ".*An input example was not provided")  # it would load and run the model: seconds
            mlflow.pyfunc.log_model(name="model", **model())


def _points(row: dict, time_ms: int) -> list:
    from mlflow.entities import Metric

    return [Metric(name, float(value), time_ms, int(row["epoch"])) for name, value in row.items() if name not in NOT_METRICS]


def _last_epoch_ms(client, run) -> int | None:
    """When the last epoch was logged; None, which MLflow takes as now, if there is none."""
    times = [point.timestamp for point in client.get_metric_history(run.info.run_id, "train_loss")]
    return max(times, default=None)


def _metric_name(name: str) -> str:
    """A name that MLflow takes: class names may hold anything."""
    return re.sub(r"[^\w.\- ]", "_", name)


def _search(client, experiment: str, **tags: str) -> list:
    query = " and ".join(f"tags.`transfer.{name}` = '{value}'" for name, value in tags.items())
    return client.search_runs([experiment], filter_string=query, order_by=["attributes.start_time ASC"])


def _connect(timeout_s: int):
    """A client of the store, and the id of the experiment, both made if they are not there.

    Raises:
        Exception: of whatever kind, soon: nothing here waits for minutes, as MLflow does by itself.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout_s))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
    with FileLock(_lock("mlflow"), timeout=60):  # several that create the tables at once break them
        path = _sqlite_path()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=LIVE_TIMEOUT_S)) as db:
                db.execute("BEGIN IMMEDIATE")  # locked, damaged, not writable: here it fails at once, in MLflow after 100 s
                db.rollback()
        import mlflow

        for name in ("mlflow", "alembic", "urllib3"):  # their warnings (retries, migrations) are told here in one line
            logging.getLogger(name).setLevel(logging.ERROR)
        client = mlflow.MlflowClient(_uri())
        experiment = client.get_experiment_by_name(_experiment_name())
        if experiment is None:
            remote = _uri().startswith(("http", "databricks"))  # these know by themselves where artifacts go
            location = None if remote else (_root() / "mlartifacts").as_uri()
            return client, client.create_experiment(_experiment_name(), artifact_location=location)
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the experiment {_experiment_name()} is deleted; restore it with `mlflow experiments restore -x "
                f"{experiment.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another"
            )
        return client, experiment.experiment_id


def _root() -> Path:
    return checkpoints.root().parent


def _lock(name: str) -> Path:
    checkpoints.root().mkdir(parents=True, exist_ok=True)
    return checkpoints.root() / f"{name}.lock"


def _uri() -> str:
    """The store's address; a relative SQLite path starts in the main repository, also in the clone of an experiment."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, separator, path = uri.partition(":///")
    return f"{scheme}:///{(_root() / path).as_posix()}" if (scheme, separator) == ("sqlite", ":///") else uri


def _sqlite_path() -> Path | None:
    scheme, _, path = _uri().partition(":///")
    return Path(path.partition("?")[0]) if scheme == "sqlite" else None


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _tell(error: Exception, consequence: str) -> None:
    cause = error
    while following := cause.__cause__ or cause.__context__:
        cause = following
    told = cause if isinstance(cause, OSError | sqlite3.Error) else error  # "connection refused" says more than its wrapping
    reason = f"{type(told).__name__}: {' '.join(str(told).split())[:300]}"
    where = re.sub(r"//[^/@]*@", "//", _uri())  # a password may stand there
    print(
        f"MLflow store {where} could not be used ({reason}): {consequence}; the next dvc repro fills in what is missing.",
        file=sys.stderr,
        flush=True,
    )
