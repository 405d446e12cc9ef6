"""A training in MLflow while it runs, with its use of the machine. `publish` later adds whatever is missing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stages.lib.tracking import claims, place, store

BEGAN_MS = [int(1000 * time.time())]  # of this process, whose first training begins with it: advise has long looked at the data
TIMEOUT_S = 5  # training never waits longer than this for a server: at most twice (one retry), and only once per training


@contextmanager
def training(key: str, name: str, stage: str, settings: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a training in MLflow while it runs.

    At the end of the block the run is still RUNNING: `tracking.publish` ends it when the whole pipeline has finished. If an
    exception ends the training, the run ends at once as FAILED (KILLED by Ctrl-C); if it resumes later, it is RUNNING again.

    Args:
        key: hash of everything that the training depends on; the same key resumes the same run.
        name: "target mono-0"; also its transfer.stage.
        stage: the kind of training (intermediate, target, scratch).
        settings: logged as params.

    Yields:
        A function to call after each epoch with its history row. Logging a row again changes nothing. Neither it nor the
        block raises an error of its own: a store that cannot be reached is reported once and then left alone, except for one
        attempt to end the run of an aborted training.
    """
    client: Any = None
    run_id: str | None = None
    monitor: Any = None
    away = False
    logged: set[int] = set()  # epochs, before a kill; what was computed anew has other times

    def log(row: dict[str, Any]) -> None:
        nonlocal away
        if run_id is None or away or row["epoch"] in logged:
            return
        try:
            client.log_batch(run_id, metrics=store.points(row, row["time_ms"]))
        except Exception as error:
            away = True
            store.tell(error, "training continues without it")

    try:
        try:
            client, experiment = store.connect(TIMEOUT_S)
            runs = store.search(client, experiment, key=key)
            if not any(run.info.status == "FINISHED" for run in runs):
                tags = {"transfer.key": key, "transfer.stage": name, "transfer.kind": stage}
                began = BEGAN_MS.pop() if BEGAN_MS else None
                run = claims.only(
                    client, experiment, lambda claim: client.create_run(experiment, began, run_name=name, tags=tags | claim),
                    key=key,
                )  # fmt: skip
                if run.info.status == "RUNNING" and claims.holder(run) not in ("", claims.mine()):
                    print("MLflow: another clone trains this too, and shows it there.", file=sys.stderr, flush=True)
                else:
                    run_id = run.info.run_id
                    logged = store.steps(client, run)
                    client.update_run(run_id, status="RUNNING")
                    client.set_tag(run_id, claims.TAG, claims.mine())
                    place.note(client, run_id)
                    store.fill_params(client, run, settings)
                    monitor = _watch(run_id)
        except Exception as error:
            away = True
            store.tell(error, "training continues without it")
        yield log
    except BaseException as aborted:
        if run_id is not None:
            try:
                client.set_terminated(run_id, "KILLED" if isinstance(aborted, KeyboardInterrupt) else "FAILED")
            except Exception as error:
                store.tell(error, "the run of this training stays RUNNING in it", aborted)
        raise
    finally:
        if monitor is not None:
            monitor.finish()


def _watch(run_id: str) -> Any:
    """Log CPU, memory, disk and GPU every 10 s from a separate thread, which ends if the store becomes unavailable."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri())
    monitor.start()
    return monitor
