"""Results that do not belong together: a stage that was run anew by name while others hold what they made of its old one.

`dvc repro` leaves nothing mixed. `dvc repro STAGE` and `dvc repro -s STAGE` may, and dvc.lock and the reports show it: they say
which version of every file each stage read and wrote, and which weights each test measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.lib.core import runs
from stages.lib.core.runs import Training
from stages.lib.tracking import files


def in_lock(lock: Mapping[str, Any], names: Sequence[str], raw: Mapping[str, Any]) -> list[str]:
    """What does not agree in dvc.lock, one line each: files of which stages read or wrote different versions, and params that
    have other values now.

    Args:
        lock: the entries of dvc.lock by stage.
        names: the stages of one state; those that they depend on are checked too, and entries of removed blocks are not.
        raw: params.yaml.
    """
    stages = [name for name in lock if name in set(_with_upstream(lock, names))]
    versions: dict[str, dict[str, list[str]]] = {}
    wrote: dict[tuple[str, str], str] = {}
    for name in stages:
        for kind in ("deps", "outs"):
            for entry in lock[name].get(kind, ()):
                if "path" in entry and entry.get("md5"):
                    versions.setdefault(entry["path"], {}).setdefault(entry["md5"], []).append(name)
                    if kind == "outs":
                        wrote[entry["path"], name] = entry["md5"]
    lines = []
    for path, found in versions.items():
        if len(found) == 1:
            continue
        makers = {stage: md5 for (of, stage), md5 in wrote.items() if of == path}
        for maker, md5 in makers.items():
            others = [name for other, readers in found.items() if other != md5 for name in readers if name not in makers]
            lines += [f"{name} ran with another {path} than {maker} wrote last" for name in others]
        if not makers:
            first, *rest = found.values()
            lines += [f"{name} ran with another {path} than {first[0]}" for readers in rest for name in readers]
    for name in stages:
        for path, value in lock[name].get("params", {}).get("params.yaml", {}).items():
            now: Any = raw
            for key in path.split("."):
                now = now.get(key) if isinstance(now, Mapping) else None
            if now != value:
                lines.append(f"{name} ran with another {path} than params.yaml has now")
    return lines


def in_files(trainings: Sequence[Training]) -> list[str]:
    """The tests of other weights than their training has made, and those that the comparison does not know, one line each."""
    compared = files.read(runs.COMPARISON)["measured"]
    lines = []
    for each in trainings:
        made, measured = (files.read(folder / name)["model"] for folder, name in
                          ((each.metrics, "run.json"), (each.evaluation, "report.json")))  # fmt: skip
        if made != measured:
            lines.append(f"{each.evaluation_stage} measured the weights {measured[:8]}, and {each.model} is {made[:8]} now")
        if (known := compared.get(each.evaluation.name)) not in (None, measured):
            lines.append(
                f"compare read a test of the weights {known[:8]} of {each.label}, and {each.evaluation} is of {measured[:8]}"
            )
    return lines


def _with_upstream(lock: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """The stages and all whose outputs they read, whole or in part."""
    outs = [(entry["path"], name) for name in lock for entry in lock[name].get("outs", ()) if "path" in entry]
    todo, seen = [name for name in names if name in lock], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        deps = [f"{entry['path']}/" for entry in lock[name].get("deps", ()) if "path" in entry]
        todo += [maker for path, maker in outs for dep in deps if dep.startswith(f"{path}/")]
