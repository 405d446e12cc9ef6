"""Add seeds until the comparison decides: python -m stages decide [--most N] [--margin M] [--of COMPARISON]

Runs `dvc repro` and adds seeds to params.yaml until each comparison that --of names (default: all) helps, hurts or is as good
within the margin, or there are N seeds. At how many seeds it may look is written to compare.looks before the first look and makes
every verdict stricter, so that all looks together claim something false no more often than one would. What was interrupted goes
on without --most.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from stages.commands.scenario import overlaid
from stages.commands.verdict import read as compared
from stages.commands.verdict import require_known, sentence
from stages.lib.core import runs
from stages.lib.errors import UserError, listed
from stages.lib.evaluation.pairing import UNDECIDED
from stages.lib.params import read as params
from stages.lib.params.read import PATH

FEWEST = 3  # seeds at the first look: from two, how much seeds differ is all but unknown
GROWTH = 1.5  # each look has so many times the seeds of the one before: rarer looks leave more of the error to each


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages decide", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--most", type=int, help="seeds at most; needed to begin", metavar="N")
    parser.add_argument("--margin", type=float, help="written to compare.margin: what counts as equally good", metavar="M")
    parser.add_argument("--of", action="append", help="a comparison, by its key in metrics/compare.json; may be given again")
    asked = parser.parse_args(words)
    p = params.load("seeds", "compare")
    looks = p.compare.looks
    if looks and (asked.margin is not None or asked.most not in (None, looks[-1])):
        raise UserError(f"compare.looks plans to look at {listed(looks)} seeds, and a plan that has begun cannot be changed: its "
                        "verdicts would be wrong more often than they say. Go on without --most and --margin.")  # fmt: skip
    if not looks:
        looks = planned(len(p.seeds), asked.most)
        if runs.COMPARISON.exists():
            print("Note: if you would have stopped at the verdict that is here already, that was one look more than planned.")
        if asked.margin is not None:
            write(f"compare: {{margin: {asked.margin!r}}}")
    print(f"looks planned at {listed(looks)} seeds; there are {len(p.seeds)} now")
    for num in [each for each in looks if each >= len(p.seeds)]:
        write(f"seeds: {more(p.seeds, num)}\ncompare: {{looks: {looks}}}")
        params.load("compare")  # a UserError if that is not valid
        reproduce()
        found = compared().verdicts
        require_known(asked.of or (), found)
        chosen = {key: found[key] for key in asked.of or found}
        for key, verdict in chosen.items():
            print(f"{num} seeds, {key}: {sentence(verdict)}")
        if UNDECIDED not in {verdict.verdict for verdict in chosen.values()}:
            print(f"Decided with {num} seeds.")
            return
    print(f"Not decided with {looks[-1]} seeds, which is the end of the plan: any difference in the intervals is possible.")


def planned(num: int, most: int | None) -> list[int]:
    """The numbers of seeds to look at, from `num` (or FEWEST) to `most`."""
    looks = [max(num, FEWEST)]
    if most is None or most < looks[0]:
        raise UserError(f"--most: how many seeds there may be at most, {looks[0]} or more; given: {most}.")
    while looks[-1] < most:
        looks.append(min(most, math.ceil(GROWTH * looks[-1])))
    return looks


def more(seeds: Sequence[int], num: int) -> list[int]:
    """The seeds, and further ones up to `num`."""
    following: Iterable[int] = range(max(seeds) + 1, max(seeds) + 1 + num - len(seeds))
    return [*seeds, *following]


def write(overlay: str) -> None:
    """Set values of params.yaml, whose comments stay."""
    PATH.write_text(overlaid(PATH.read_text(encoding="utf-8"), overlay + "\n"), encoding="utf-8")


def reproduce() -> None:
    """Run the pipeline, with the Python that runs this."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=os.environ | {"PATH": path}, check=False)
    if done.returncode:
        raise UserError("dvc repro failed, see above. Once that is mended, `python -m stages decide` goes on where it stopped.")
