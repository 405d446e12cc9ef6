"""`dvc repro` of the small pipeline, killed with SIGKILL again and again at random moments of any stage, and what it has made."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from random import Random

import yaml

from tests.tiny import Repo

STARTED = re.compile(r"Running stage '(.+)'")


def struck(repo: Repo, num: int, random: Random, longest_s: float) -> Iterator[str]:
    """Start `dvc repro`, kill it and all that it has started, and so on until it was killed so often or has ended by itself.

    Args:
        repo: with something to do.
        num: kills at most.
        longest_s: a kill comes up to so many seconds after dvc has begun with a stage, whatever it is doing then; later if
            that stage was killed just before, or a busy machine would never finish it.

    Yields:
        The stage that dvc had begun last at each kill.
    """
    log = repo.path.with_suffix(".log")
    environment = repo.environment | {"PYTHONUNBUFFERED": "1"}  # else its words come when it is too late
    last, again = "", 0
    for _ in range(num):
        with open(log, "wb") as file:
            process = subprocess.Popen(["dvc", "repro"], cwd=repo.path, env=environment, stdout=file, stderr=file,
                                       start_new_session=True)  # fmt: skip
        while process.poll() is None and not STARTED.search(log.read_text(errors="replace")):
            time.sleep(0.02)
        try:
            process.wait(random.uniform(0, longest_s * 1.2**again))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            stage = STARTED.findall(log.read_text(errors="replace"))[-1]
            last, again = stage, again + 1 if stage == last else 0
            yield stage
        else:
            if not process.returncode:
                return
            assert "half-written by a dvc that was killed, deleted" in clean(repo), log.read_text()


def clean(repo: Repo) -> str:
    """What the guide advises if dvc was killed while it wrote its own notes, after which it starts no more."""
    return repo.run("python", "-m", "stages", "clean")


def made(repo: Repo) -> dict[str, object]:
    """All that a finished `dvc repro` has made and that must not depend on kills: the hashes of all files (dvc.lock), the ledger,
    and MLflow's runs with their points, but for times and the use of the machine. `audit` must find nothing, too."""
    repo.run("python", "-m", "stages", "audit")
    stage = "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'transfer.stage'"
    return {
        "files": yaml.safe_load((repo.path / "dvc.lock").read_text())["stages"],
        "ledger": sorted((repo.path / "metrics/ledger.jsonl").read_text().splitlines()),
        "runs": sorted(repo.query(f"SELECT t.value, r.status FROM runs r {stage}")),
        "points": sorted(repo.query(f"SELECT t.value, m.key, m.step, m.value, m.is_nan FROM runs r {stage} JOIN metrics m ON "
                                    "m.run_uuid = r.run_uuid WHERE m.key NOT LIKE 'system/%'")),
        "params": sorted(repo.query(f"SELECT t.value, p.key, p.value FROM runs r {stage} JOIN params p ON "
                                    "p.run_uuid = r.run_uuid")),
        "models": sorted(repo.query("SELECT name, status FROM logged_models WHERE lifecycle_stage = 'active'")),
        "versions": sorted(repo.query("SELECT name, version FROM model_versions")),
    }  # fmt: skip


def differences(made: dict[str, object], wanted: dict[str, object]) -> list[str]:
    """Which kinds of what two pipelines made differ."""
    return [kind for kind in wanted if made[kind] != wanted[kind]]
