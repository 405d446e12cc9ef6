"""What one `dvc` process will run: planned when its first stage begins, and kept until it ends.

DVC starts each stage as a process of its own and does not tell it what else will run. This follows from dvc.yaml, dvc.lock and
params.yaml as they were at the start: a stage will run if its command, its params or its code differ from those in dvc.lock, if
one of its outputs is missing, or if it reads an output of a stage that will run. A stage may still turn out to have nothing to do
(its inputs were made again, and are the same), so the plan is an upper bound.
"""

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    import psutil

CONSTANT = "check"  # its output is always the same, so nothing runs because of it
FILE = Path(".transfer/plan.json")  # in the folder in which dvc runs, which may be the temporary clone of an experiment
CODE = (".py", ".html", ".css", ".js")  # what counts in a folder of code (.dvcignore)
SETTINGS = (".yaml", ".in")  # other files whose content is looked at; data are not, because they may be large


class Stage(NamedTuple):
    """A stage of dvc.yaml with its templates filled in."""

    name: str  # DVC's name for it: target@mono-0
    words: list[str]  # its arguments: ["target", "mono", "0"]
    reads: list[str]
    makes: list[str]
    cmd: str = ""
    always: bool = False  # whether it runs each time


class Plan(NamedTuple):
    """What a `dvc` process runs."""

    stages: list[str]  # in the order of dvc.yaml
    begun: list[str]
    since: float  # seconds since the epoch


def of_this_run(own: Stage, stages: Sequence[Stage], params: Mapping[str, Any]) -> Plan | None:
    """The plan of the `dvc` process that started this one, in which `own` now begins; None if no `dvc` did.

    The first of its stages makes it.
    """
    process = _dvc()
    if process is None:
        return None
    who = [process.pid, process.create_time()]
    try:
        kept = json.loads(FILE.read_text(encoding="utf-8"))
        plan = Plan(**kept["plan"]) if kept["dvc"] == who else None
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or another version of this code wrote it
        plan = None
    plan = plan or Plan([], [], time.time())
    if own.name not in plan.stages:  # the first; or one whose data have changed, which is seen only now
        will = {*plan.stages, *will_run(own, stages, read_lock(), params, process.cmdline())}
        plan = plan._replace(stages=[stage.name for stage in stages if stage.name in will])
    plan = plan._replace(begun=[*plan.begun, own.name])
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({"dvc": who, "plan": plan._asdict()}), encoding="utf-8")
    return plan


def left(own: Stage, plan: Plan, stages: Sequence[Stage]) -> list[Stage]:
    """The planned stages that have not begun; of those that `own` depends on, one that has not had nothing to do."""
    done = {*plan.begun, *(stage.name for stage in upstream([own], stages))}
    return [stage for stage in stages if stage.name in plan.stages and stage.name not in done]


def will_run(
    own: Stage, stages: Sequence[Stage], lock: Mapping[str, Any], params: Mapping[str, Any], asked: Collection[str]
) -> list[str]:
    """The names of the stages that will run, in the order of dvc.yaml.

    Args:
        own: runs already, so that its outputs may be gone.
        lock: the entries of dvc.lock by stage.
        params: params.yaml.
        asked: words of the command line of dvc; if none of them names a stage or a group of stages, all are asked for.
    """
    will = {stage.name for stage in stages if stage.name == own.name or stale(stage, lock.get(stage.name), params)}
    while True:
        changed = [path for stage in stages if stage.name in will and stage.name != CONSTANT for path in stage.makes]
        more = {stage.name for stage in stages if any(overlap(path, other) for path in stage.reads for other in changed)} - will
        if not more:
            break
        will |= more
    named = [stage for stage in stages if {stage.name, stage.name.partition("@")[0]} & set(asked)]
    wanted = {stage.name for stage in (upstream(named, stages) if named else stages)} | {own.name}
    return [stage.name for stage in stages if stage.name in will & wanted]


def stale(stage: Stage, entry: Mapping[str, Any] | None, params: Mapping[str, Any]) -> bool:
    """Whether a stage runs whatever the others do: its command, params or code differ from dvc.lock, or an output is missing."""
    if entry is None or stage.always or entry["cmd"] != stage.cmd or not all(Path(path).exists() for path in stage.makes):
        return True
    read = {each["path"]: each["md5"] for each in entry.get("deps", ())}
    if read.keys() != set(stage.reads):
        return True
    code = [path for path in stage.reads if path.startswith("stages/") or Path(path).suffix in SETTINGS]
    if any(read[path] != md5(path) for path in code):
        return True
    known = entry.get("params", {}).get("params.yaml", {})
    return any(look_up(path, params, None) != value for path, value in known.items())


@cache
def md5(path: str) -> str:
    """The hash that DVC gives a file or a folder of code."""
    if Path(path).is_file():
        return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
    files = sorted((file.relative_to(path).as_posix(), str(file)) for file in Path(path).rglob("*") if file.suffix in CODE)
    entries = [{"md5": md5(file), "relpath": name} for name, file in files]
    return f"{hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest()}.dir"


def upstream(of: Iterable[Stage], stages: Sequence[Stage]) -> list[Stage]:
    """These stages, and all that they depend on."""
    found = {stage.name: stage for stage in of}
    todo = list(found.values())
    while todo:
        stage = todo.pop()
        more = [each for each in stages if each.name not in found and any(overlap(a, b) for a in stage.reads for b in each.makes)]
        found |= {each.name: each for each in more}
        todo += more
    return list(found.values())


def overlap(path: str, other: str) -> bool:
    """Whether the paths are equal or one contains the other."""
    one, two = f"{path}/", f"{other}/"
    return one.startswith(two) or two.startswith(one)


def look_up(path: str, values: Any, *default: Any) -> Any:
    """The value at a path like a.b[0]; the default, if there is one, where there is none."""
    for part in path.replace("[", ".").replace("]", "").split("."):
        try:
            values = values[int(part)] if isinstance(values, list) else values[part]
        except (KeyError, IndexError, TypeError, ValueError):
            if not default:
                raise
            return default[0]
    return values


def read_lock() -> Mapping[str, Any]:
    """The entries of dvc.lock by stage; none before the first run."""
    try:
        with open("dvc.lock", "rb") as file:
            found: Mapping[str, Any] = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
    except FileNotFoundError:
        return {}
    return found


def _dvc() -> "psutil.Process | None":
    """The `dvc` that started this process, through a shell."""
    import psutil  # asked for on a terminal alone

    for process in psutil.Process(os.getpid()).parents():
        try:
            if any(Path(word).name in ("dvc", "dvc.exe") for word in process.cmdline()[:3]):
                return process
        except psutil.Error:  # of another user, or gone
            continue
    return None
