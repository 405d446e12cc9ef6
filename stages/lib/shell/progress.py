"""Progress of the whole pipeline: a line at the start of each stage, with an estimate of the time left from earlier runs.

DVC starts each stage as a separate process and does not tell it what else will run. The remaining stages are derived from
dvc.yaml: a stage will run if one of its outputs is missing, or if it reads an output of a stage that will run.
"""

import itertools
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.lib.core import runs
from stages.lib.params import read as params

CONSTANT = "check"  # its output is always the same, so nothing runs because of it
WIDTH = 20  # of the bar, in characters


class Stage(NamedTuple):
    """A stage of dvc.yaml with its templates filled in."""

    name: str  # DVC's name for it: target@mono-0
    words: list[str]  # its arguments: ["target", "mono", "0"]
    reads: list[str]
    makes: list[str]


@contextmanager
def shown(words: list[str]) -> Iterator[None]:
    """In a terminal, show which stage begins, how many remain and an estimate of the time left; record how long this one took.

    Args:
        words: the command-line arguments: ["target", "mono", "0"].
    """
    if sys.stderr.isatty():
        try:
            print(line(words, expand(_dvc_yaml(), params.read()), read_seconds()), file=sys.stderr, flush=True)
        except Exception as error:  # an observer: whatever is wrong with dvc.yaml must not fail the stage
            print(f"(progress of the pipeline: {error!r})", file=sys.stderr)
    began = time.monotonic()
    yield
    path = runs.state_folder() / "seconds" / file_name(words)
    with suppress(OSError):  # for example, no space left on the disk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{time.monotonic() - began:.1f}")


def file_name(words: list[str]) -> str:
    """A stage's command-line arguments as a file name."""
    return re.sub(r"[^\w.-]", "_", "-".join(words))


def line(words: list[str], stages: list[Stage], seconds: dict[str, float]) -> str:
    """The progress line: the bar, this stage, and what remains after it.

    Args:
        words: this stage's command-line arguments.
        stages: all stages of the pipeline.
        seconds: how long each stage took in its last run, from `read_seconds`.
    """
    own = next((stage for stage in stages if stage.words == words), None)
    if own is None:
        return " ".join(words)
    left = following(own, stages)
    done = len(stages) - len(left) - 1
    filled = WIDTH * done // len(stages)
    text = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done} of {len(stages)} stages done; now {own.name}"
    last = seconds.get(file_name(words))
    text += f" (last time {_duration(last)})" if last is not None else ""
    if left:
        known = [seconds[name] for stage in left if (name := file_name(stage.words)) in seconds]
        about = f"about {_duration(sum(known))}" if known else "not timed yet"
        about += f", plus {len(left) - len(known)} not timed yet" if 0 < len(known) < len(left) else ""
        text += f"; {len(left)} stage{'s remain' if len(left) > 1 else ' remains'} ({about})"
    return text


def following(own: Stage, stages: list[Stage]) -> list[Stage]:
    """The other stages that will run after `own`, in the order of dvc.yaml."""
    will = {stage.name for stage in stages if not all(Path(path).exists() for path in stage.makes)} | {own.name}
    while True:
        changed = [path for stage in stages if stage.name in will and stage.name != CONSTANT for path in stage.makes]
        more = {stage.name for stage in stages if any(_overlap(path, other) for path in stage.reads for other in changed)} - will
        if not more:
            return [stage for stage in stages if stage.name in will and stage is not own]
        will |= more


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
            found.append(Stage(f"{name}@{case}" if case else name, command[1].split(), filled["deps"], makes))
    return found


def _fill(template: Any, values: dict[str, Any]) -> Any:
    """Replace ${a.b[0]} by its value; a template that consists only of it becomes the value itself."""
    if isinstance(template, list):
        return [_fill(each, values) for each in template]
    if isinstance(template, dict):
        return {_fill(name, values): each for name, each in template.items()}
    whole = re.fullmatch(r"\$\{([^}]+)\}", template)
    return _look_up(whole[1], values) if whole else re.sub(r"\$\{([^}]+)\}", lambda m: str(_look_up(m[1], values)), template)


def _look_up(path: str, values: Any) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def read_seconds() -> dict[str, float]:
    """How long each stage took in its last run here, in seconds."""
    return {path.name: float(path.read_text()) for path in (runs.state_folder() / "seconds").glob("*")}


def _dvc_yaml() -> dict[str, Any]:
    with open("dvc.yaml", "rb") as file:
        read: dict[str, Any] = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)
    return read


def _overlap(path: str, other: str) -> bool:
    """Whether the paths are equal or one contains the other."""
    one, two = Path(path).parts, Path(other).parts
    return all(a == b for a, b in zip(one, two, strict=False))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
