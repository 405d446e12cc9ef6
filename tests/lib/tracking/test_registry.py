"""The registered model in a real store: which version is champion, and what happens when a step was cut off."""

import shutil
from urllib.parse import urlparse

import pandas as pd
import pytest

from stages.lib.tracking import registry, store
from tests.lib.tracking.mlflow_runs import PACKAGE, REGISTERED

pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints")
FILE = "shipped/predictions.csv"


@pytest.fixture
def shipped(root, tmp_path):
    """Ships a model: a run with its predictions, a version, and a verdict; called once for each."""
    import mlflow

    client, experiment = store.connect(5)
    mlflow.set_tracking_uri(store.uri())

    def ship(better: bool, number: int, judged: list | None = None):
        run = client.create_run(experiment, tags={registry.NAME: REGISTERED})
        path = tmp_path / "predictions.csv"
        path.write_text(f"key\n{number}\n")
        client.log_artifact(run.info.run_id, str(path), "shipped")
        with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
            model = mlflow.pyfunc.log_model(name="model", **PACKAGE)

        def judge(old):
            (judged if judged is not None else []).append(old and int(pd.read_csv(old).key[0]))
            return better, "so it is."

        registry.register(client, run.info.run_id, model.model_id, FILE, judge)
        return run.info.run_id, model.model_id

    return client, ship


def aliases(client):
    return {alias: str(version) for alias, version in client.get_registered_model(REGISTERED).aliases.items()}


def test_the_first_is_champion_and_only_a_better_one_takes_its_place(shipped):
    client, ship = shipped
    judged = []
    ship(False, 1, judged)
    assert aliases(client) == {"champion": "1"} and judged == []
    ship(False, 2, judged)
    assert aliases(client) == {"champion": "1", "candidate": "2"}
    ship(True, 3, judged)
    assert aliases(client) == {"champion": "3", "candidate": "2"}
    ship(False, 4, judged)
    assert aliases(client) == {"champion": "3", "candidate": "4"}
    assert judged == [1, 1, 3]
    version = client.get_model_version(REGISTERED, "4")
    assert version.description == "Against version 3, the champion then: so it is."
    assert version.tags["transfer.verdict"] == "candidate"


def test_again_it_changes_nothing(shipped):
    client, ship = shipped
    run_id, model_id = ship(True, 1)
    ship(True, 2)
    registry.register(client, run_id, model_id, FILE, lambda old: pytest.fail("judged again"))
    assert aliases(client) == {"champion": "2"}
    assert len(client.search_model_versions(f"name = '{REGISTERED}'")) == 2


def test_what_was_cut_off_before_the_verdict_is_gone_on_with(shipped):
    client, ship = shipped
    ship(True, 1)
    run_id, model_id = ship(True, 2)
    client.delete_model_version_tag(REGISTERED, "2", "transfer.verdict")  # as if killed after the alias
    registry.register(client, run_id, model_id, FILE, lambda old: pytest.fail("it is champion already"))
    assert client.get_model_version(REGISTERED, "2").tags["transfer.verdict"] == "champion"


def test_a_champion_without_its_run_cannot_be_compared_with(shipped):
    client, ship = shipped
    first, _ = ship(True, 1)
    client.delete_run(first)
    shutil.rmtree(urlparse(client.get_run(first).info.artifact_uri.replace("%20", " ")).path)
    judged = []
    ship(False, 2, judged)
    assert judged == [None] and aliases(client) == {"champion": "1", "candidate": "2"}


def test_the_model_is_named_after_the_experiment_and_the_data_of_its_test(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells / 2026: new")
    assert registry.model_name("poly") == "cells - 2026- new-poly"


def test_models_of_other_data_never_meet(shipped):
    client, ship = shipped
    ship(True, 1)
    run_id, model_id = ship(False, 2)
    client.set_tag(run_id, registry.NAME, "transfer-learning-photos")
    registry.register(client, run_id, model_id, FILE, lambda old: pytest.fail("there is no champion of photos yet"))
    assert aliases(client) == {"champion": "1", "candidate": "2"}
    assert dict(client.get_registered_model("transfer-learning-photos").aliases).keys() == {"champion"}
