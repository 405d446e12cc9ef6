"""The results of states of the pipeline: of DVC's experiments and commits, and of MLflow's runs, as folders of the same files."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.lib.core import runs
from stages.lib.core.runs import Training
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.tracking import registry, store
from stages.lib.tracking.publish import PIPELINE

TIMEOUT_S = 60
SHORT = 8  # characters of a run's id that are shown
OLDER = "recorded by another version of this code"
WHERE: dict[str, tuple[Callable[[Training], Path], str]] = {  # what of a training is needed: its folder here, and in MLflow's run
    "predictions.csv": (lambda training: training.evaluation, "evaluate/"),
    "report.json": (lambda training: training.evaluation, "evaluate/"),
    "run.json": (lambda training: training.metrics, ""),
    "card.json": (lambda training: training.model, ""),
}


class State(NamedTuple):
    """The target of one state of the pipeline, trained from the first of its inits."""

    name: str  # of the experiment, or the beginning of the run's id
    params: Mapping[str, Any]
    folders: list[Path]  # one per seed, each with the files of WHERE


def named(names: Sequence[str], into: Path) -> list[State]:
    """The states that these names mean: a DVC experiment, branch, tag or commit; else a pipeline's run in MLflow, by the
    beginning of its id.

    Raises:
        UserError: nothing has this name, or it has no results.
    """
    return [of_dvc(name, into / str(number)) or of_mlflow(name, into / str(number)) for number, name in enumerate(names)]


def recorded(raw: Mapping[str, Any], into: Path) -> tuple[list[State], list[str]]:
    """All states of this target in MLflow, the first first.

    Args:
        raw: params.yaml: those that have the same task, test and seeds.
        into: a folder for their files.

    Returns:
        The states, and for each of the others a line that says why it is left out.
    """
    found, others = [], []
    client, experiment = store.connect(TIMEOUT_S)
    for number, run in enumerate(_pipelines(client, experiment)):
        folder = into / str(number)
        try:
            values = _params(client, run, folder)
            own, wanted = ({"task": each["target"]["task"], "test": each["target"]["test"], "seeds": each["seeds"]}
                           for each in (values, raw))  # fmt: skip
            if differing := [f"{key} {own[key]}" for key in wanted if own[key] != wanted[key]]:
                others.append(f"{_name(run)}: {', '.join(differing)}")
            else:
                found.append(_from_mlflow(client, run, values, folder))
        except KeyError:
            others.append(f"{_name(run)}: {OLDER}")
        except UserError as error:
            others.append(str(error))
    return found, others


def of_dvc(name: str, folder: Path) -> State | None:
    """The state of a DVC experiment or of a commit; None if git knows no such name.

    Raises:
        UserError: it has no results, or DVC's cache does not hold them.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import SCMError

    files = DVCFileSystem(rev=name)

    def fetch(source: Path, to: Path) -> Path:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(files.cat_file(source.as_posix()))
        return to

    path = params.PATH
    try:
        raw = params.read(fetch(path, folder / path))
    except (NotDvcRepoError, SCMError):
        return None
    try:
        return State(name, raw, _folders(raw, folder, lambda each, file, to: fetch(WHERE[file][0](each) / file, to)))
    except (DvcException, OSError) as error:
        raise UserError(f"{name}: its results are not in DVC's cache ({error}). Make them again, or fetch them (dvc exp pull, "
                        "dvc fetch).") from None  # fmt: skip


def of_mlflow(name: str, folder: Path) -> State:
    """The state of a pipeline's run in MLflow, by its id or the beginning of it."""
    client, experiment = store.connect(TIMEOUT_S)
    known = _pipelines(client, experiment)
    found = [run for run in known if re.fullmatch("[0-9a-f]{4,}", name) and run.info.run_id.startswith(name)]
    if len(found) != 1:
        names = ", ".join(map(_name, known)) or "none"
        what = "the beginning of several runs" if found else "no experiment of DVC, no commit and no run in MLflow"
        raise UserError(f"{name!r} is {what}. `dvc exp list` names the experiments; the pipeline's runs in MLflow: {names}.")
    return _from_mlflow(client, found[0], _params(client, found[0], folder), folder)


def _from_mlflow(client: Any, run: Any, raw: Mapping[str, Any], folder: Path) -> State:
    children = {
        each.data.tags["transfer.stage"]: each.info.run_id
        for each in store.search(client, run.info.experiment_id, state=run.data.tags["transfer.state"])
    }

    def fetch(training: Training, file: str, to: Path) -> None:
        got = registry.download(client, children[training.label], WHERE[file][1] + file, str(folder / training.label))
        if got is None:
            raise UserError(f"{_name(run)}: {OLDER}, which kept no {file} of {training.label}")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(got, to)

    return State(_name(run), raw, _folders(raw, folder, fetch))


def _folders(raw: Mapping[str, Any], into: Path, fetch: Callable[[Training, str, Path], object]) -> list[Path]:
    folders = []
    for seed in raw["seeds"]:
        training = runs.target(raw["inits"][0], seed, raw["target"]["data"])
        folders.append(into / training.name)
        for file in WHERE:
            fetch(training, file, folders[-1] / file)
    return folders


def _params(client: Any, run: Any, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    path = registry.download(client, run.info.run_id, params.PATH.name, str(folder))
    if path is None:
        raise UserError(f"{_name(run)}: it holds no {params.PATH}")
    return params.read(path)


def _name(run: Any) -> str:
    experiment = run.data.tags.get("dvc.experiment")
    return f"{run.info.run_id[:SHORT]}{f' ({experiment})' if experiment else ''}"


def _pipelines(client: Any, experiment: str) -> list[Any]:
    found = store.search(client, experiment, stage=PIPELINE)
    return [run for run in found if run.info.status == "FINISHED"]
