"""Access to the MLflow store, for `live` (while a training runs) and `publish` (when the pipeline has finished).

MLflow is an observer: if it cannot be reached, one line says so and the pipeline continues. Importing it takes seconds, so
nothing here imports it before it is needed.

Every run of this pipeline has these tags:
    transfer.kind   pipeline (the parent), intermediate, target or scratch; strategies for a comparison of states
    transfer.stage  which training within the pipeline, "target mono-0"; "pipeline" for the parent
    transfer.key    hash of everything that a training depends on; a training that resumes continues the run with its key
    transfer.model  sha256 of the weights that were measured; of the parent, of those that are shipped
    transfer.use    what the licences of the shipped model allow (of the parent)
    transfer.tried  how many settings each arm had until then (of the parent)
    transfer.claim  which clone writes the run (stages.lib.tracking.claims)
    transfer.node   where a training ran last, with transfer.cpu, transfer.gpu and transfer.threads (stages.lib.tracking.place)
    transfer.state  the state of the pipeline that the run belongs to, set by `tracking.publish`
"""

import logging
import os
import re
import sqlite3
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from stages.lib.core import runs
from stages.lib.errors import UserError
from stages.lib.imports import unscanned

EXPERIMENT = "transfer-learning"
LOCAL_SERVER = "http://127.0.0.1:5000"  # of `mlflow server`, as the guide starts it
MODE = "workflowType=machine_learning"  # of MLflow's pages; the other one hides runs
LOCKED_TIMEOUT_S = 5  # how long a SQLite store may be locked by another process
SECTIONS = ("expected", "lr", "train", "val")  # of what advise expects of each strategy, and of columns of a history row
LATER = "the next dvc repro fills in what is missing"
NOT_METRICS = ("epoch", "time_ms", "phase", "best")  # columns of a history row that would make no chart
# Packages whose exceptions come from the store or its artifact storage; those of requests and filelock are OSErrors.
LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "urllib3", "boto3", "botocore", "azure", "google")


def connect(timeout_s: int) -> tuple[Any, str]:
    """A client of the store, and the id of the experiment; both are created if necessary.

    Raises:
        UserError: the experiment has been deleted.
        Exception: of any kind, but soon: unlike MLflow by default, nothing here waits for minutes.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout_s))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
    with FileLock(lock("mlflow"), timeout=60):  # creating the tables from several processes at once breaks them
        path = sqlite_path()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path is not None and path.exists():
            with closing(sqlite3.connect(path, timeout=LOCKED_TIMEOUT_S)) as db:
                db.execute("BEGIN IMMEDIATE")  # if locked, damaged or read-only, fail at once; MLflow takes 100 s
                db.rollback()
        with unscanned():
            import mlflow

            for name in ("mlflow", "alembic", "urllib3"):  # one line here replaces their warnings (retries, migrations)
                logging.getLogger(name).setLevel(logging.ERROR)
            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # an observer of the observer
            if path is not None and not path.exists():
                _create(path)
            client = mlflow.MlflowClient(uri())
        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is None:
            remote = uri().startswith(("http", "databricks"))  # these choose the artifact location themselves
            location = None if remote else (_root() / "mlartifacts").as_uri()
            there(client.create_experiment, experiment_name(), artifact_location=location)
            experiment = client.get_experiment_by_name(experiment_name())
            assert experiment is not None
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the experiment {experiment_name()} is deleted; restore it with `mlflow experiments restore -x "
                f"{experiment.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another"
            )
        return client, experiment.experiment_id


def _create(path: Path) -> None:
    """Make a SQLite store under another name first: MLflow could never finish its tables if it was killed among them."""
    import mlflow

    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    before, _, after = uri().rpartition(path.name)
    mlflow.MlflowClient(f"{before}{part.name}{after}").search_experiments(max_results=1)
    part.replace(path)


def uri() -> str:
    """The store's URI; a relative SQLite path is relative to the main repository, even in the clone of an experiment."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, separator, path = given.partition(":///")
    if (scheme, separator) != ("sqlite", ":///"):
        return given
    root = _root()
    if {"%", "?"} & set(root.as_posix()):  # they mean something else in a URI, but not where MLflow makes its folder
        root = Path(os.path.relpath(root))
    return f"{scheme}:///{(root / path).as_posix()}"


def address(experiment: str, run_id: str) -> str:
    """Where a run's page is; without its last part it would open among those of generative AI."""
    return f"{server()}/#/experiments/{experiment}/runs/{run_id}?{MODE}"


def server() -> str:
    """Where MLflow's pages are: on the store's own server, or on the one that the guide starts for a local store."""
    return _without_password(uri()).rstrip("/") if uri().startswith("http") else LOCAL_SERVER


def unread(error: Exception) -> UserError:
    """The error for a user whose command could not read the store."""
    return UserError(_without_password(f"The MLflow store {uri()} cannot be read: {error}"))


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def sqlite_path() -> Path | None:
    """The file of a SQLite store; None for any other."""
    scheme, _, path = uri().partition(":///")
    return Path(unquote(path.partition("?")[0])) if scheme == "sqlite" else None


def experiment_name() -> str:
    """The MLflow experiment that contains the runs."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def lock(name: str) -> Path:
    """Path of a lock file in the main repository; its folder is created."""
    runs.state_folder().mkdir(parents=True, exist_ok=True)
    return runs.state_folder() / f"{name}.lock"


def search(client: Any, experiment: str, **tags: str) -> list[Any]:
    """Runs of the experiment with all of these tags (without the prefix "transfer."), oldest first."""
    query = " and ".join(f"tags.`transfer.{name}` = '{value}'" for name, value in tags.items())
    return list(client.search_runs([experiment], filter_string=query, order_by=["attributes.start_time ASC"]))


def points(row: Mapping[str, Any], time_ms: int) -> list[Any]:
    """A row of the history as MLflow metrics; the epoch is their step."""
    from mlflow.entities import Metric

    step = int(row["epoch"])
    return [Metric(chart(name), float(value), time_ms, step) for name, value in row.items() if name not in NOT_METRICS]


def chart(column: str) -> str:
    """The name of a column of the history in MLflow, whose page has a section for what stands before the slash, in the order of
    the alphabet: loss/train, loss/val, lr/head, val/accuracy."""
    first, _, rest = column.partition("_")
    if rest == "loss":
        return f"loss/{metric_name(first)}"
    return metric_name(f"{first}/{rest}" if rest and first in SECTIONS else column)


def steps(client: Any, run: Any) -> set[int]:
    """The epochs that a run of a training has; the rows of a history are logged whole."""
    names = [name for name in run.data.metrics if not name.startswith("system/")][:1]
    return {point.step for name in names for point in client.get_metric_history(run.info.run_id, name)}


def metric_name(name: str) -> str:
    """A name that MLflow accepts: names of classes and tensors may contain any character. One slash divides section and name."""
    return "/".join(re.sub(r"[^\w.\- ]", "_", part) for part in name.split("/", 1))


def there(create: Callable[..., Any], *words: Any, **options: Any) -> Any:
    """Create something that has a name; None if another clone has just done so."""
    from mlflow.exceptions import MlflowException

    try:
        return create(*words, **options)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return None


def fill_params(client: Any, run: Any, params: dict[str, Any]) -> None:
    """Log the params that are missing; MLflow does not allow changing one."""
    from mlflow.entities import Param

    missing = [Param(name, str(value)) for name, value in params.items() if name not in run.data.params]
    client.log_batch(run.info.run_id, params=missing)


def expected(error: BaseException) -> bool:
    """Whether the error is due to the user or the store, and not to a bug in this code."""
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, UserError | OSError | sqlite3.Error) or not libraries.isdisjoint(LIBRARIES)


def tell(error: Exception, consequence: str, aborted: BaseException | None = None, then: str = LATER) -> None:
    """Print in one line why something is missing in MLflow.

    Args:
        error: what failed.
        consequence: what follows from it.
        aborted: the exception that ended the training, if any. Python chains `error` to it, but it is not its cause.
        then: what mends it.
    """
    cause: BaseException = error
    while (following := cause.__cause__ or cause.__context__) not in (None, aborted):
        cause = following
    root = expected(error) and isinstance(cause, OSError | sqlite3.Error)  # "connection refused" says more than its wrapper
    told = cause if root else error
    reason = _without_password(f"{type(told).__name__}: {' '.join(str(told).split())[:300]}")
    if isinstance(error, UserError):
        said = f"MLflow: {error};"
    elif expected(error):
        said = f"MLflow store {_without_password(uri())} could not be used ({reason}):"
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f"A bug in tracking, not a fault of the MLflow store ({reason}, at {frame.filename}:{frame.lineno}):"
    print(f"{said} {consequence}; {then}.", file=sys.stderr, flush=True)


def _root() -> Path:
    return runs.state_folder().parent
