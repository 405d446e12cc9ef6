"""A training in MLflow while it runs, with what it takes of the machine. What is missing at its end, `tracking` fills in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stages.lib.tracking import store

TIMEOUT_S = 5  # training waits for no server longer than this, twice (one retry), and only once


@contextmanager
def training(key: str, name: str, stage: str, settings: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a training in MLflow while it runs.

    At the end of the block the run is still RUNNING: `tracking.publish` ends it, when the whole pipeline has. A training
    that an exception ends is over at once: FAILED, or KILLED by Ctrl-C; one that resumes later is RUNNING again.

    Args:
        key: hash of everything that the training depends on; the same key continues the same run.
        name: "target mono-0"; also its transfer.stage.
        stage: the kind of training (intermediate, target, scratch).
        settings: logged as params.

    Yields:
        A function to call after each epoch with its history row. Logging a row again changes nothing. Neither it nor
        the block ever raises by itself: a store that cannot be reached is told once, and then left alone, but for one
        attempt to end the run of an aborted training.
    """
    client: Any = None
    run_id: str | None = None
    monitor: Any = None
    away = False

    def log(row: dict[str, Any]) -> None:
        nonlocal away
        if run_id is None or away:
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
                run = runs[0] if runs else client.create_run(experiment, run_name=name, tags=tags)
                run_id = run.info.run_id
                client.update_run(run_id, status="RUNNING")
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
    """Log processor, memory, disk and GPU every 10 s from a thread of its own, which ends by itself when the store is away."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri())
    monitor.start()
    return monitor
