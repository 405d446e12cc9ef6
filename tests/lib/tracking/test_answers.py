"""What a comparison of states found, in a real MLflow store: once for the same states, named by the experiment's description."""

import pytest

from stages.commands import audit
from stages.lib.tracking import answers
from tests.lib.tracking.mlflow_runs import client_of, refusing, runs


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Record a comparison with one file."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "strategies.csv"
    file.write_text("label\nfull\n")

    def record(key, answer="full is best.", data="lines"):
        return answers.record(key, name="full: the best of 2", data=data, answer=answer, note="# All of it", files=[file])

    return record


def description(client):
    return client.get_experiment_by_name("transfer-learning").tags["mlflow.note.content"]


def test_the_same_comparison_is_one_run_with_its_files_which_the_description_names(record, tmp_path):
    address = record("k1")
    assert record("k1") == address
    client = client_of(tmp_path)
    (run,) = runs(client, kind="strategies")
    assert address.endswith(f"/runs/{run.info.run_id}?workflowType=machine_learning") and run.info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["strategies.csv"]
    assert run.data.tags["mlflow.note.content"] == "# All of it"
    assert audit.everything(client, run.info.experiment_id) == [], "it is no training, which would be an orphan"
    assert f"**Which strategy suits lines?** full is best. [Table, picture and page]({address})" in description(client)


def test_the_description_has_the_last_one_on_each_data(record, tmp_path):
    for key, answer, data in (("k1", "full is best.", "lines"), ("k2", "knn is best.", "lines"), ("k3", "lora is best.", "dots")):
        record(key, answer, data)
    told = description(client_of(tmp_path))
    assert "full is best." not in told and "suits lines?** knn is best." in told and "suits dots?** lora is best." in told


def test_a_run_that_was_killed_before_its_end_is_completed(record, tmp_path):
    record("k1")
    client = client_of(tmp_path)
    (run,) = runs(client, kind="strategies")
    client.update_run(run.info.run_id, status="RUNNING")
    record("k1")
    assert [each.info.status for each in runs(client, kind="strategies")] == ["FINISHED"]


def test_without_a_store_it_is_said_in_a_line_and_nothing_fails(record, monkeypatch, capsys):
    with refusing(hang=False) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        assert record("k1") is None
    told = capsys.readouterr().err
    assert "this comparison is not in it; run it again to have it there." in told and told.count("\n") == 1
    assert "secret" not in told
