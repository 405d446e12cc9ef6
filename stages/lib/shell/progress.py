"""Progress of the whole pipeline: a line at the start of each stage, with an estimate of the time left from earlier runs."""

import itertools
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.lib.core import runs
from stages.lib.params import read as params
from stages.lib.shell import plan as plans
from stages.lib.shell.epochs import duration
from stages.lib.shell.plan import Plan, Stage, look_up

WIDTH = 10  # of the bar, in characters


class Timed(NamedTuple):
    """How long a stage took in its last run here."""

    seconds: float
    ended: float  # seconds since the epoch


@contextmanager
def shown(words: list[str]) -> Iterator[None]:
    """In a terminal, show which stage begins, how many remain and an estimate of the time left; record how long this one took.

    Args:
        words: the command-line arguments: ["target", "mono", "0"].
    """
    if sys.stderr.isatty():
        try:
            print(_line(words), file=sys.stderr, flush=True)
        except Exception as error:  # an observer: whatever is wrong with dvc.yaml must not fail the stage
            print(f"(progress of the pipeline: {error!r})", file=sys.stderr)
    began = time.monotonic()
    yield
    path = _folder() / file_name(words)
    with suppress(OSError):  # for example, no space left on the disk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{time.monotonic() - began:.1f}")


def file_name(words: list[str]) -> str:
    """A stage's command-line arguments as a file name."""
    return re.sub(r"[^\w.-]", "_", "-".join(words))


def _line(words: list[str]) -> str:
    values = params.read()
    stages = expand(read_dvc_yaml(), values)
    own = next((stage for stage in stages if stage.words == words), None)
    return " ".join(words) if own is None else line(own, plans.of_this_run(own, stages, values), stages, read_timed())


def line(own: Stage, plan: Plan | None, stages: Sequence[Stage], timed: Mapping[str, Timed]) -> str:
    """The progress line, in about 80 columns: the bar, this stage, and what remains after it.

    Args:
        own: the stage that begins.
        plan: of the `dvc` that runs it, or None if it was started by hand.
        stages: all stages of the pipeline.
        timed: how long stages took, from `read_timed`.
    """
    about = expected(own, plan, stages, timed)
    text = own.name + ("" if about is None else f", about {duration(about)}")
    if plan is None:
        return text
    left = plans.left(own, plan, stages)
    num, number = len(plan.stages), len(plan.stages) - len(left)
    filled = WIDTH * (number - 1) // num
    text = f"[{'#' * filled}{'.' * (WIDTH - filled)}] stage {number} of {num}: {text}"
    if left:
        known = [found for stage in left if (found := expected(stage, plan, stages, timed)) is not None]
        text += f"; {len(left)} more" + (f", about {duration(sum(known))}" if known else "")
        unknown = len(left) - len(known)
        text += f", {unknown} untimed" if known and unknown else ", untimed" if unknown else ""
    return text


def expected(stage: Stage, plan: Plan | None, stages: Sequence[Stage], timed: Mapping[str, Timed]) -> float | None:
    """How long a stage will take: as those of this run that differ from it in the last word alone (the seed), which have the same
    settings; else as it took itself last time; else as others of its kind did. None if none of them has run here."""
    kin = {tuple(each.words): timed[name] for each in stages
           if each.words[0] == stage.words[0] and (name := file_name(each.words)) in timed}  # fmt: skip
    words = tuple(stage.words)
    since = plan.since if plan else time.time()
    now = [each.seconds for key, each in kin.items() if key[:-1] == words[:-1] and each.ended > since]
    own = [kin[words].seconds] if words in kin else []
    found = now or own or [each.seconds for each in kin.values()]
    return sum(found) / len(found) if found else None


def expand(dvc: dict[str, Any], params: dict[str, Any]) -> list[Stage]:
    """Every stage of dvc.yaml, one per item of its `foreach` or combination of its `matrix`."""
    found = []
    for name, block in dvc["stages"].items():
        if "foreach" in block:
            items = _fill(block["foreach"], params)
            cases = [(key, {"key": key, "item": item}, block["do"]) for key, item in items.items()]
        elif "matrix" in block:
            axes = {axis: _fill(values, params) for axis, values in block["matrix"].items()}
            combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
            cases = [("-".join(map(str, each.values())), {"item": each}, block) for each in combinations]
        else:
            cases = [("", {}, block)]
        for case, names, template in cases:
            filled = {part: _fill(template.get(part, []), params | names) for part in ("cmd", "deps", "outs", "metrics")}
            makes = [next(iter(out)) if isinstance(out, dict) else out for out in filled["outs"] + filled["metrics"]]
            command = re.match(r"python -m stages ([^|&;]*)", filled["cmd"])
            assert command, filled["cmd"]
            found.append(Stage(f"{name}@{case}" if case else name, command[1].split(), filled["deps"], makes, filled["cmd"],
                               template.get("always_changed", False)))  # fmt: skip
    return found


def _fill(template: Any, values: dict[str, Any]) -> Any:
    """Replace ${a.b[0]} by its value; a template that consists only of it becomes the value itself."""
    if isinstance(template, list):
        return [_fill(each, values) for each in template]
    if isinstance(template, dict):
        return {_fill(name, values): each for name, each in template.items()}
    whole = re.fullmatch(r"\$\{([^}]+)\}", template)
    return look_up(whole[1], values) if whole else re.sub(r"\$\{([^}]+)\}", lambda m: str(look_up(m[1], values)), template)


def read_timed() -> dict[str, Timed]:
    """How long each stage took in its last run here, and when that ended; by its words joined with "-"."""
    found = {}
    for path in _folder().glob("*"):
        with suppress(OSError, ValueError):  # a full disk leaves an empty file
            found[path.name] = Timed(float(path.read_text()), path.stat().st_mtime)
    return found


def _folder() -> Path:
    return runs.state_folder() / "seconds"


def read_dvc_yaml() -> dict[str, Any]:
    """The file dvc.yaml, its templates not filled in."""
    with open("dvc.yaml", "rb") as file:
        read: dict[str, Any] = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)
    return read
