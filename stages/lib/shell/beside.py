"""What the report may say of one run and no result may hold: minutes, day, commit and how much each arm was tuned before, in
metrics/run.js beside the page.

Equal runs leave equal reports; these differ. The page loads the file as a script, which browsers allow for a page that was
opened from a disk, and ignores it if it is of other results. Nothing depends on it.
"""

import hashlib
import json
import re
import subprocess
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from stages.lib.core import runs
from stages.lib.params import read as params
from stages.lib.shell import epochs
from stages.lib.tracking import ledger, tried

PATH = runs.METRICS / "run.js"
WRITTEN_BY = ("report", "track")  # the stages after which it is: the second always runs, also where DVC restored the first


def write(seconds: dict[str, float]) -> None:
    """Write the file anew, but keep day and commit if the results are those that it tells of already.

    Args:
        seconds: of each training, as `trained` gives them.
    """
    with suppress(OSError):  # an observer: a full disk or missing results must not fail a stage
        content = runs.COMPARISON.read_bytes()
        of, arms = hashlib.sha256(content).hexdigest(), tried.arms(json.loads(content).get("measured", ()))
        tuned = tried.told(ledger.trials(params.read()["target"]["test"]), arms) if arms else []
        known = read()
        when = {"date": date.today().isoformat(), "commit": _commit()}
        if known.get("of") == of:
            when = {name: known[name] for name in when}
        found = {"of": of, **when, "seconds": seconds, "tried": tuned}
        PATH.write_text(f"run({json.dumps(found, sort_keys=True)});\n", encoding="utf-8")


def trained() -> dict[str, float]:
    """How long each training took here, in all processes in which it ran, by its kind and name ("target-mono-0")."""
    found = {}
    for each in runs.expected(params.read()):
        run = each.metrics / "run.json"
        if run.exists() and (seconds := epochs.seconds_of(json.loads(run.read_text(encoding="utf-8"))["key"])) is not None:
            found[f"{each.kind}-{each.name}"] = seconds
    return found


def read() -> dict[str, Any]:
    """What the file says; empty if there is none, or it cannot be read."""
    found = re.fullmatch(r"run\((\{.*\})\);\n", PATH.read_text(encoding="utf-8")) if PATH.exists() else None
    try:
        values: dict[str, Any] = json.loads(found[1]) if found else {}
    except ValueError:
        return {}
    return values


def _commit() -> str:
    """The commit in short, with + where files that git tracks have been changed since; "" outside git."""
    try:
        words = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=8"]
        git = subprocess.run(words, capture_output=True, text=True, cwd=Path.cwd())
    except FileNotFoundError:
        return ""
    return git.stdout.strip() if git.returncode == 0 else ""
