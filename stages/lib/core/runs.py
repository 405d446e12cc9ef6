"""The trainings that params.yaml defines, and the paths of the files that the stages exchange."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

MODELS, METRICS = Path("models"), Path("metrics")
SCRATCH: Final = "scratch"  # the arm trained from random weights; no source or hop may have this name

ADVICE = METRICS / "advise.json"
LEAKS = METRICS / "leaks"  # what the training data share with test splits
CONTROLS = METRICS / "evaluate" / "controls"
RECIPES = METRICS / "recipe"  # of the target and its alternatives
COMPARISON = METRICS / "compare.json"
SHIPPED = METRICS / "shipped.json"  # the few figures that DVC shows
VERDICT = METRICS / "verdict.md"
PLOTS = METRICS / "plots"
REPORT = METRICS / "report.html"

Kind = Literal["intermediate", "target", "alternative", "scratch"]  # of a training: its DVC stage


class Training(NamedTuple):
    """One training of the pipeline and its files."""

    kind: Kind
    name: str  # the part after @ in the DVC stage's name
    data: str  # its dataset

    @property
    def label(self) -> str:
        """Its name in reports, MLflow and checkpoints: "target mono-0"."""
        return f"{self.kind} {self.name}"

    @property
    def stage(self) -> str:
        """The name of its DVC stage."""
        return f"{self.kind}@{self.name}"

    @property
    def evaluation_stage(self) -> str:
        """The name of the DVC stage that evaluates it."""
        return f"{'evaluate' if self.kind == 'target' else f'evaluate-{self.kind}'}@{self.name}"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return starting_point(self.name) if self.kind == "intermediate" else MODELS / self.kind / self.name

    @property
    def metrics(self) -> Path:
        """Folder of the training's own metrics."""
        return METRICS / self.kind / self.name

    @property
    def recipe(self) -> Path:
        """File of the training's settings, which all seeds of an arm share."""
        if self.kind == "target":
            return RECIPES / "target.json"
        if self.kind == "alternative":
            return RECIPES / f"{self.name.rpartition('-')[0]}.json"
        return METRICS / "recipes" / f"{SCRATCH if self.kind == SCRATCH else self.name}.json"

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluation of its model."""
        return METRICS / "evaluate" / f"{self.kind}-{self.name}"

    @property
    def calibration(self) -> Path | None:
        """Folder of what validation says of its model (stages.lib.calibration); None for models that are not shipped."""
        return METRICS / "calibrate" / self.name if self.kind == "target" else None


class Session(NamedTuple):
    """What the command line provides to a running training."""

    state: dict[str, Any] | None  # the state in which an earlier process stopped
    save: Callable[[dict[str, Any]], None]  # called with the state after every epoch
    log: Callable[[dict[str, Any]], None]  # shows a row of the history


class Watch(Protocol):
    """Opens the session of a training, which ends once its model is written."""

    def __call__(
        self, label: str, kind: str, key: str, settings: dict[str, Any], phases: Sequence[int]
    ) -> AbstractContextManager[Session]: ...


def hop(name: str, data: str) -> Training:
    """A hop of the chain."""
    return Training("intermediate", name, data)


def target(init: str, seed: int | str, data: str) -> Training:
    """The target, trained from one starting point with one seed."""
    return Training("target", f"{init}-{seed}", data)


def alternative(name: str, seed: int | str, data: str) -> Training:
    """The target, trained in another way with one seed."""
    return Training("alternative", f"{name}-{seed}", data)


def scratch(seed: int | str, data: str) -> Training:
    """The control, trained from random weights with one seed."""
    return Training(SCRATCH, str(seed), data)


def arms(inits: Sequence[str], alternatives: Mapping[str, str], seeds: Sequence[int], data: str) -> dict[str, list[Training]]:
    """The trainings that answer the target's question, one per seed, by the arm's name: the proposal first, random weights last.

    Args:
        alternatives: the data of each.
        data: of the target.
    """
    found = {init: [target(init, seed, data) for seed in seeds] for init in inits}
    found |= {name: [alternative(name, seed, its) for seed in seeds] for name, its in alternatives.items()}
    return found | {SCRATCH: [scratch(seed, data) for seed in seeds]}


def evaluations(arms: Mapping[str, Sequence[Training]]) -> dict[str, list[Path]]:
    """Folders of the evaluations of each arm, one per seed."""
    return {name: [each.evaluation for each in arm] for name, arm in arms.items()}


def as_is(hop: str) -> str:
    """The name of the arm of a hop that was not trained on the target."""
    return f"{hop} as it is"


def shown(arm: str) -> str:
    """The name of an arm in reports."""
    return "random weights" if arm == SCRATCH else arm


def expected(raw: Mapping[str, Any]) -> list[Training]:
    """The trainings that params.yaml defines, in order; files of removed trainings may still exist."""
    hops = [hop(name, block["data"]) for name, block in raw["intermediate"].items()]
    others = {name: block["data"] for name, block in raw["alternatives"].items()}
    return hops + [each for arm in arms(raw["inits"], others, raw["seeds"], raw["target"]["data"]).values() for each in arm]


def starting_point(name: str) -> Path:
    """Folder of a source's or a hop's model."""
    return MODELS / name


def target_model(name: str) -> Path:
    """Folder of the model of one target training, such as "mono-0"."""
    return Training("target", name, "").model


def raw(download: str) -> Path:
    """Folder of the raw data that a block of `download` fetches."""
    return Path("data/raw") / download


def prepared(dataset: str) -> Path:
    """Folder of a prepared dataset."""
    return Path("data/prepared") / dataset


def fingerprints(dataset: str) -> Path:
    """Folder of the fingerprints of a prepared dataset, beside it, so that inputs can be compared without opening a split."""
    return Path("data/fingerprints") / dataset


def state_folder() -> Path:
    """Folder of everything that outlives a run: checkpoints, locks, durations of stages. DVC_ROOT is the main repository, even
    in the temporary clones of experiments."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".transfer"


def control(arm: str) -> Path:
    """Folder of the evaluation of an arm that is measured without training on the target."""
    return CONTROLS / arm.replace(" ", "_")


def forgetting(hop: str) -> Path:
    """Folder of the results on how much of a hop's task later trainings forgot."""
    return METRICS / "forgetting" / hop
