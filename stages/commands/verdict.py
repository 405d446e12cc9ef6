"""Ask for the verdict, with an exit code for CI: python -m stages verdict [--of COMPARISON] [--require helps|better|as_good]

Reads metrics/compare.json and prints each comparison in words. With --require, exits with 1 unless every comparison that --of
names (default: all) has at least this verdict: `helps` is about the method and needs several seeds; `better` also takes a model
that is better with the only seed; `as_good` also takes one that is as good, within compare.margin. --schema prints the JSON
Schema of the file.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from stages.lib.core import cards, runs
from stages.lib.errors import UserError, listed, nearest
from stages.lib.evaluation.verdicts import Comparison, Verdict
from stages.lib.tracking import ledger, tried

HELPS = ("helps",)
BETTER = (*HELPS, "this model is better")
AS_GOOD = (*BETTER, "as good", "this model is as good")
SURE = 0.9  # of what is said of the best of many models
LEVELS = {"helps": HELPS, "better": BETTER, "as_good": AS_GOOD}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages verdict", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--of", action="append", help="a comparison, by its key in metrics/compare.json; may be given again")
    parser.add_argument("--require", choices=LEVELS, help="the least that each must be; otherwise the exit code is 1")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of metrics/compare.json")
    asked = parser.parse_args(words)
    if asked.schema:
        print(json.dumps(Comparison.model_json_schema(), indent=2))
        return
    found = read()
    known = found.verdicts
    require_known(asked.of or (), known)
    chosen = {key: known[key] for key in asked.of or known}
    for key, verdict in chosen.items():
        print(f"{key}: {sentence(verdict)}")
    if (report := tested_on(found)) is None:  # a clone that has what git holds, as in CI
        print("How often this test was opened and how the arms were tuned is not known here: metrics/evaluate is not in git "
              "(dvc pull or dvc repro).")  # fmt: skip
    else:
        print(on_the_test(found, report))
        print(*tried.told(ledger.trials(report["data"]), tried.arms(found.measured)), sep="\n")
    if asked.require:
        missing = [key for key, verdict in chosen.items() if verdict.verdict not in LEVELS[asked.require]]
        if missing:
            sys.exit(f"required: {asked.require} ({' or '.join(LEVELS[asked.require])}). Not so: {', '.join(missing)}.")
        print(f"required: {asked.require}. So it is.")


def read() -> Comparison:
    """What compare found; a UserError if it has not run, or another version of the code wrote the file."""
    if not runs.COMPARISON.exists():
        raise UserError(f"{runs.COMPARISON} is not here. Run `dvc repro` in the root of the repository.")
    return cards.parsed(runs.COMPARISON, Comparison)


def require_known(keys: Iterable[str], known: Mapping[str, Verdict]) -> None:
    """A UserError if --of names what is no comparison."""
    for key in keys:
        if key not in known:
            raise UserError(f"--of: {runs.COMPARISON} has no comparison {key!r}.{nearest(key, known)} Allowed: {listed(known)}.")


def tested_on(found: Comparison) -> dict[str, Any] | None:
    """The report of the shipped target's test; None if it is not here."""
    path = runs.Training("target", found.ship, "").evaluation / "report.json"
    return cards.read_json(path) if path.exists() else None


def on_the_test(found: Comparison, report: Mapping[str, Any]) -> str:
    """How many models have been measured on this test, and what choosing the best of them would add to its figure by luck."""
    num = ledger.count(report["test"])
    told = f"models measured on the test of {report['data']}: {num} ({ledger.path().name})"
    if num < 2:
        return told
    error, correlation = found.luck["standard_error"] or 0, found.luck["correlation"] or 0
    most = ledger.flattered_at_most(num, error, correlation, SURE)
    about = ledger.flattery(num, error, correlation)
    return (f"{told}; choosing the best of so many equally good ones by it would flatter it by about {about:+.2g}, and by "
            f"{most:+.2g} at most with {SURE:.0%} confidence")  # fmt: skip


def sentence(verdict: Verdict) -> str:
    """One comparison in words; the numbers are in units of the metric."""
    return (f"{verdict.verdict}, {verdict.difference:+.4g} ({verdict.lower:+.4g} to {verdict.upper:+.4g}), "
            f"corrected p {verdict.p_holm:.2g}")  # fmt: skip
