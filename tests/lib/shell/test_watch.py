"""A training that is watched: one run in MLflow, a state to resume from, and finished only when it has ended without an error."""

import mlflow
import pytest

from stages.lib.shell import checkpoints, epochs
from stages.lib.shell.watch import watch
from stages.lib.tracking import store

KEY = "6" * 64


def row(epoch):
    return {"phase": 0, "epoch": epoch, "train_loss": 1 / epoch, "val_loss": 1, "best": True, "time_ms": 1000 * epoch}


def test_a_training_that_fails_resumes_where_it_was_and_is_then_finished(root, capsys):
    finished = checkpoints.folder_of("target-dots-0", KEY) / checkpoints.FINISHED
    with pytest.raises(ZeroDivisionError), watch("target dots-0", "target", KEY, {"lr": 0.1}, [2]) as session:
        assert session.state is None
        session.save({"history": [row(1)]})
        session.log(row(1))
        raise ZeroDivisionError
    assert not finished.exists()
    with watch("target dots-0", "target", KEY, {"lr": 0.1}, [2]) as session:
        assert session.state == {"history": [row(1)]}
        session.save({"history": [row(1), row(2)]})
        session.log(row(2))
        assert not finished.exists()
    assert finished.exists()
    *lines, end, _ = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"], "each once, by the process that trained it"
    assert end.startswith("target dots-0: best epoch 2 of 2") and epochs.seconds_of(KEY) is not None

    client = mlflow.MlflowClient(store.uri())
    (experiment,) = (each for each in client.search_experiments() if each.name != "Default")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "target dots-0" and run.data.params["lr"] == "0.1"
    losses = client.get_metric_history(run.info.run_id, "loss/train")
    assert [(point.step, point.value) for point in losses] == [(1, 1.0), (2, 0.5)]
