"""Which models have been measured on which test, ever, and which settings were tried: one line each in metrics/ledger.jsonl,
which git tracks.

A test that chooses among many models flatters the best of them, and an arm that was tuned more than its control may lead for that
reason alone (stages.lib.tracking.tried). No result depends on the file, and a model that is measured again adds no line, so equal
runs leave equal files. Lines of two branches are merged by union (.gitattributes). Each line holds a hash of its own content, so
an edited one shows; so does a line that git holds and the file does not.
"""

import csv
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

from filelock import FileLock

from stages.lib.core import runs
from stages.lib.params import read as params

OPENED_BY = ("evaluate", "controls", "forgetting")  # the stages after which there may be new lines
TRAINED_BY: tuple[runs.Kind, ...] = ("target", "alternative", "scratch")


class Opening(NamedTuple):
    """One model that was measured on one test."""

    test: str  # sha256 of the test split's files
    model: str  # sha256 of the weights
    data: str  # the dataset's name
    what: str  # which model, for people: "target-mono-0"


class Trial(NamedTuple):
    """Settings that an arm was trained with; all seeds share them."""

    arm: str  # "mono", "scratch"
    data: str  # the dataset of the test for which it was trained
    settings: dict[str, Any]  # strategy, hyperparameters and options; those of a hop on the way begin with its name


Entry = Opening | Trial


def path() -> Path:
    """The file, in the main repository, also for an experiment in a temporary clone."""
    return runs.state_folder().parent / runs.METRICS / "ledger.jsonl"


def note(entries: Iterable[Entry]) -> None:
    """Add the lines that are not there yet."""
    runs.state_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(runs.state_folder() / "ledger.lock"):
        known = {_key(each) for each in _entries(_text())}
        new = {_key(each): each for each in entries if _key(each) not in known}
        if new:
            path().parent.mkdir(parents=True, exist_ok=True)
            with open(path(), "a", encoding="utf-8") as file:
                file.writelines(_line(each) + "\n" for each in new.values())


def note_reports() -> None:
    """Add what the reports in metrics/ are of."""
    _note_or_tell(openings())


def note_training(training: runs.Training) -> None:
    """Add the settings of a training of an arm, unless a hop on its way has been trained again since."""
    if not (training.model / "card.json").exists():
        return
    raw = params.read()
    tested_on = raw["target"]["test"]
    if (found := _settings(training.model, set(raw["intermediate"]))) is not None:  # other starting points are not trained
        arm = training.name.rpartition("-")[0] or training.kind
        _note_or_tell([Trial(arm, tested_on, found)])


def trials(tested_on: str) -> list[Trial]:
    """The settings that were tried for the test of a dataset."""
    return [each for each in _entries(_text()) if isinstance(each, Trial) and each.data == tested_on]


def _settings(model: Path, hops: set[str], sha256: str | None = None) -> dict[str, Any] | None:
    """What the card of a model and those of the hops before it say, without the seed; None if it is not there, or not the model
    of that sha256 any more."""
    if not (model / "card.json").exists():
        return None
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    if sha256 not in (None, card["sha256"]):
        return None
    own = {"data": card["data"]} | {name: value for name, value in card["settings"].items() if name != "seed"}
    if card["parent"] is None or (name := card["parent"]["name"]) not in hops:
        return own
    before = _settings(runs.starting_point(name), hops, card["parent"]["sha256"])
    return None if before is None else own | {f"{name}.{key}": value for key, value in before.items()}


def _note_or_tell(entries: list[Entry]) -> None:
    """Add lines; a disk that cannot be written ends no stage."""
    try:
        note(entries)
    except OSError as error:
        print(f"{path()} could not be written ({error}); `python -m stages audit --fill` adds what is missing.", file=sys.stderr)


def openings() -> list[Entry]:
    """What the reports in metrics/ are of; a control without a network has no weights."""
    found, tests = list[Entry](), dict[str, tuple[str, str]]()
    for report in sorted((runs.METRICS / "evaluate").glob("**/report.json")):
        read, name = json.loads(report.read_text(encoding="utf-8")), report.parent.name
        if "test" not in read:  # an earlier version of this code wrote it, and its stage has yet to run again
            continue
        tests[name] = (read["test"], read["data"])
        if read["model"]:
            found.append(Opening(read["test"], read["model"], read["data"], name))
    for table in sorted((runs.METRICS / "forgetting").glob("*/forgetting.csv")):
        if (measured := f"intermediate-{table.parent.name}") not in tests:
            continue
        test, data = tests[measured]
        with open(table, newline="", encoding="utf-8") as file:
            found += [Opening(test, row["sha256"], data, f"forgetting: {row['model']}") for row in csv.DictReader(file)]
    return found


def count(test: str) -> int:
    """How many models have been measured on a test."""
    return len({each.model for each in _entries(_text()) if isinstance(each, Opening) and each.test == test})


def faults(expected: Iterable[Entry]) -> list[str]:
    """Lines that were edited, that git holds and that are gone, and openings without a line; one line each."""
    text, lines = _text(), []
    for number, line in enumerate(text.splitlines(), start=1):
        read = _read(line)
        if read is None or line != _line(read):
            lines.append(f"ledger: line {number} of {path()} was edited; restore it with git")
    held = _held_by_git()
    if gone := set(held.splitlines()) - set(text.splitlines()):
        lines.append(f"ledger: {len(gone)} lines of {path()} that git holds are gone; restore them with git")
    known = {_key(each) for each in _entries(text)}
    lines += [f"ledger: {each.what} was measured on the test of {each.data} and has no line in {path()} (--fill adds it)"
              for each in expected if isinstance(each, Opening) and _key(each) not in known]  # fmt: skip
    return lines


def flattery(num: int, standard_error: float, correlation: float) -> float:
    """How much the best of `num` equally good models is expected to look better on a test than it is.

    The expected maximum of equally correlated normal deviates: models err on the same examples, so their figures rise and fall
    together, and only the rest is up to luck.

    Args:
        standard_error: of one model's figure, in units of the metric.
        correlation: of two models' figures over resampled tests, below 1.

    Returns:
        In units of the metric; 0 for one model.

    Reference:
        Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, on reused tests; Blom, Statistical Estimates
        and Transformed Beta-Variables, 1958, for the expected maximum.
    """
    if num < 2:
        return 0.0
    own = math.sqrt(1 - min(1.0, max(0.0, correlation)))
    return standard_error * own * NormalDist().inv_cdf((num - 0.375) / (num + 0.25))


def flattered_at_most(num: int, standard_error: float, correlation: float, sure: float) -> float:
    """How much better the best of `num` equally good models looks on a test than it is, in all but 1 - `sure` of all tests.

    Beside what choosing adds, this holds how easy the whole test happens to be. That models are equally good is the worst case:
    where some are better than others, luck has less of a say in which looks best.

    Args:
        standard_error, correlation: as for `flattery`.
        sure: above 0.5 and below 1.

    Returns:
        The quantile of standard_error (sqrt(c) g + sqrt(1 - c) max of `num`), of normal deviates, in units of the metric.

    Reference:
        Dunnett and Sobel, Approximations to the Probability Integral and Certain Percentage Points of a Multivariate Analogue of
        Student's t-Distribution, Biometrika 1955, for the integral over g.
    """
    normal, correlation = NormalDist(), min(1.0, max(0.0, correlation))
    shared, own = math.sqrt(correlation), max(math.sqrt(1 - correlation), 1e-9)
    grid = [step / 20 for step in range(-120, 121)]

    def below(limit: float) -> float:
        return sum(normal.pdf(each) / 20 * normal.cdf((limit - shared * each) / own) ** num for each in grid)

    low, high = -6.0, 12.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < sure else (low, middle)
    return standard_error * high


def _key(entry: Entry) -> object:
    """What two lines that say the same share."""
    return (entry.test, entry.model) if isinstance(entry, Opening) else _line(entry)


def _line(entry: Entry) -> str:
    values = entry._asdict()
    content = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps(values | {"sha256": content}, sort_keys=True, ensure_ascii=False)


def _read(line: str) -> Entry | None:
    try:
        values = json.loads(line)
        kind = Trial if "settings" in values else Opening
        return kind(**{name: values[name] for name in kind._fields})
    except (ValueError, KeyError, TypeError):
        return None


def _entries(text: str) -> list[Entry]:
    return [each for line in text.splitlines() if (each := _read(line))]


def _text() -> str:
    return path().read_text(encoding="utf-8") if path().exists() else ""


def _held_by_git() -> str:
    """The file as the last commit has it; "" if it has none, or there is no git."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{path().name}"], cwd=path().parent, capture_output=True, text=True)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return shown.stdout if shown.returncode == 0 else ""
