"""What each stage of the default pipeline costs before it computes anything: python -m tests.benchmarks.startup

Takes the default `params.yaml` with a few images, one epoch and few resamples, makes the whole pipeline once, and then runs
each of its commands again, as `dvc repro` would, in turns with those of other code (`--against`). Counted is the CPU time of
the process and its children, and its peak memory. What needs the network or a dvc.lock is left out. Needs data/raw
and models/imagenet (`dvc repro download source@imagenet`); asserts nothing.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import networkx
from dvc.repo import Repo
from ruamel.yaml import YAML

FEW = {"limit": 48, "split": {"train": 0, "val": 0.25, "test": 0.25}}  # of each data set
LEFT_OUT = ("check", "download", "source", "track")  # track needs the dvc.lock of a pipeline that DVC has run


def smallest(params):
    """The default params with as little to compute as they allow; the stages stay the same."""
    for block in params["datasets"].values():
        block["limit"] = FEW["limit"]
        block["split"].update(FEW["split"])
    for section in (params["target"], params["scratch"], *params["intermediate"].values(), *params["strategies"].values()):
        if "epochs" in section:
            section["epochs"] = 1
    params["training"]["warmup_epochs"] = 0
    params["evaluate"]["num_resamples"] = params["compare"]["num_resamples"] = 100
    params["evaluate"]["num_shown"] = 1
    return params


def made(code, folder):
    """A repository with the code of another one, with small params."""
    folder.mkdir()
    for name in ("stages", "requirements.in"):
        (folder / name).symlink_to(code.resolve() / name)
    shutil.copy(code / "dvc.yaml", folder)
    yaml = YAML()
    yaml.dump(smallest(yaml.load(code / "params.yaml")), folder / "params.yaml")
    (folder / "data").mkdir()
    (folder / "data/raw").symlink_to(Path("data/raw").resolve())
    shutil.copytree("models/imagenet", folder / "models/imagenet")
    (folder / "metrics").mkdir()
    (folder / "metrics/check.txt").touch()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def commands(folder):
    """The commands of the stages, in an order in which `dvc repro` runs them."""
    with Repo(folder) as repo:
        stages = list(networkx.dfs_postorder_nodes(repo.index.graph))
    found = [stage.cmd.split(" || ")[0].split()[3:] for stage in stages]
    return [words for words in found if words[0] not in LEFT_OUT]


def run(folder, words):
    """CPU seconds and peak memory (MB) of one stage."""
    with subprocess.Popen(
        [sys.executable, "-m", "stages", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{words}: {said.decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--against", type=Path, help="another checkout of this repository")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--stages", nargs="*", help="only these; default: all")
    arguments.add_argument("--items", type=int, default=0, help="of each stage measure at most so many items; 0: all")
    arguments = arguments.parse_args()
    codes = {"here": Path.cwd()} | ({"against": arguments.against} if arguments.against else {})
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: made(code, Path(scratch) / name) for name, code in codes.items()}
        stages = commands(folders["here"])
        for words in stages:
            run(folders["here"], words)
        for folder in list(folders.values())[1:]:  # the same files for all
            for name in ("data/prepared", "data/fingerprints", "models", "metrics"):
                shutil.copytree(folders["here"] / name, folder / name, dirs_exist_ok=True)
        times = {name: defaultdict(list) for name in codes}
        memory = {name: defaultdict(list) for name in codes}
        num = defaultdict(int)
        for words in stages:
            stage = " ".join(words[:2]) if words[0] == "evaluate" else words[0]
            num[stage] += 1
            if (arguments.stages and words[0] not in arguments.stages) or 0 < arguments.items < num[stage]:
                continue
            for _ in range(arguments.repeats):
                for name, folder in folders.items():
                    seconds, megabytes = run(folder, words)
                    times[name][stage].append(seconds)
                    memory[name][stage].append(megabytes)
    print("| stage | runs |" + "".join(f" {name}: CPU s (from, to) | MB |" for name in codes) + " ratio |")
    total = dict.fromkeys(codes, 0.0)
    for stage in times["here"]:
        cells = []
        for name in codes:
            values = times[name][stage]
            total[name] += num[stage] * statistics.median(values)
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f}) | "
                         f"{statistics.median(memory[name][stage]):.0f}")  # fmt: skip
        first, *rest = (statistics.median(times[name][stage]) for name in codes)
        print(f"| {stage} | {num[stage]} | {' | '.join(cells)} | {''.join(f'{first / other:.2f}' for other in rest)} |")
    print("sum over the pipeline: " + ", ".join(f"{name} {seconds:.1f} CPU s" for name, seconds in total.items()))


if __name__ == "__main__":
    main()
