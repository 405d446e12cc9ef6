"""`dvc repro` of the small pipeline of the tests, killed with SIGKILL at random moments over all stages.

Each time it is killed it is started again. When a pipeline is complete, all that it made (the hashes of all files, MLflow's runs
and their points, the ledger) is compared with what the same pipeline made undisturbed, and the next one begins from nothing.

    python -m tests.benchmarks.kills --kills 200 --seed 0
"""

import argparse
import copy
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests import kills
from tests.tiny import PARAMS, Repo, new_repo

EPOCHS = 10  # of each training: enough for kills to come while one trains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the moments")
    asked = parser.parse_args()
    random, found, wrong, pipelines, start = Random(asked.seed), Counter[str](), 0, 0, time.time()
    with tempfile.TemporaryDirectory() as folder:
        fresh = new_repo(Path(folder) / "fresh", longer())
        whole = copied(fresh, "whole")
        whole.run("dvc", "repro")
        wanted, took = kills.made(whole), time.time() - start
        longest_s = 2 * took / len(wanted["files"])  # so that about half of the kills come after the end of the stage
        print(f"the undisturbed pipeline took {took:.0f} s", flush=True)
        while found.total() < asked.kills:
            repo = copied(fresh, "killed")
            for stage in kills.struck(repo, asked.kills - found.total(), random, longest_s):
                found[stage] += 1
                print(f"{found.total():4} {stage}", flush=True)
            kills.clean(repo)
            repo.run("dvc", "repro")
            different = kills.differences(kills.made(repo), wanted)
            pipelines, wrong = pipelines + 1, wrong + bool(different)
            print(f"pipeline {pipelines}: {'other ' + ', '.join(different) if different else 'the same'}; "
                  f"{time.time() - start:.0f} s", flush=True)  # fmt: skip
            shutil.rmtree(repo.path)
    of_stage = Counter[str]()
    for stage, number in found.items():
        of_stage[stage.partition("@")[0]] += number
    print(f"{found.total()} kills in {len(found)} stages, {pipelines} pipelines, {wrong} of them with another result")
    print(", ".join(f"{stage} {number}" for stage, number in of_stage.most_common()))
    sys.exit(bool(wrong))


def longer() -> dict:
    """The params of the tests, with trainings of seconds."""
    values = copy.deepcopy(PARAMS)
    for block in [*values["strategies"].values(), *values["intermediate"].values(), values["scratch"]]:
        block["epochs"] = EPOCHS
    return values


def copied(repo: Repo, name: str) -> Repo:
    return Repo(shutil.copytree(repo.path, repo.path.with_name(name), symlinks=True))


if __name__ == "__main__":
    main()
