"""The trainings that params.yaml asks for, and where the files lie that the stages hand on to each other."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

MODELS, METRICS = Path("models"), Path("metrics")
SCRATCH: Final = "scratch"  # the arm from random weights; no source or hop may have this name

ADVICE = METRICS / "advise.json"
COMPARISON = METRICS / "compare.json"
VERDICT = METRICS / "verdict.md"
PLOTS = METRICS / "plots"
REPORT = METRICS / "report.html"

Kind = Literal["intermediate", "target", "scratch"]  # of a training: its DVC stage


class Training(NamedTuple):
    """One training of the pipeline and its files."""

    kind: Kind
    name: str  # what stands after the stage's @
    data: str  # its dataset

    @property
    def label(self) -> str:
        """As readers, MLflow and checkpoints call it: "target mono-0"."""
        return f"{self.kind} {self.name}"

    @property
    def stage(self) -> str:
        """As DVC calls it."""
        return f"{self.kind}@{self.name}"

    @property
    def evaluation_stage(self) -> str:
        """As DVC calls its evaluation."""
        return f"{'evaluate' if self.kind == 'target' else f'evaluate-{self.kind}'}@{self.name}"

    @property
    def model(self) -> Path:
        """Folder of what it trains."""
        return starting_point(self.name) if self.kind == "intermediate" else MODELS / self.kind / self.name

    @property
    def metrics(self) -> Path:
        """Folder of what it says of itself."""
        return METRICS / self.kind / self.name

    @property
    def recipe(self) -> Path:
        """How it is trained. The targets share one; so do the controls."""
        if self.kind == "target":
            return METRICS / "recipe.json"
        return METRICS / "recipes" / f"{SCRATCH if self.kind == SCRATCH else self.name}.json"

    @property
    def evaluation(self) -> Path:
        """Folder of what evaluate says of its model."""
        return METRICS / "evaluate" / f"{self.kind}-{self.name}"


class Session(NamedTuple):
    """What the command line gives a training while it runs."""

    state: dict[str, Any] | None  # where an earlier process stopped
    save: Callable[[dict[str, Any]], None]  # called with the state after every epoch
    log: Callable[[dict[str, Any]], None]  # shows a row of the history


class Watch(Protocol):
    """Opens the session of a training, which ends when its model is written."""

    def __call__(self, label: str, kind: str, key: str, settings: dict[str, Any]) -> AbstractContextManager[Session]: ...


def hop(name: str, data: str) -> Training:
    """A hop of the chain."""
    return Training("intermediate", name, data)


def target(init: str, seed: int | str, data: str) -> Training:
    """The target, from one starting point with one seed."""
    return Training("target", f"{init}-{seed}", data)


def scratch(seed: int | str, data: str) -> Training:
    """The control from random weights, with one seed."""
    return Training(SCRATCH, str(seed), data)


def arms(inits: Sequence[str], seeds: Sequence[int], data: str) -> dict[str, list[Training]]:
    """The trainings on the target's data by where they start, the proposal first and random weights last; one for each seed."""
    found = {init: [target(init, seed, data) for seed in seeds] for init in inits}
    return found | {SCRATCH: [scratch(seed, data) for seed in seeds]}


def shown(arm: str) -> str:
    """An arm as readers see it."""
    return "random weights" if arm == SCRATCH else arm


def expected(raw: Mapping[str, Any]) -> list[Training]:
    """The trainings that params.yaml asks for, in their order; files of others may still lie about."""
    hops = [hop(name, block["data"]) for name, block in raw["intermediate"].items()]
    return hops + [each for arm in arms(raw["inits"], raw["seeds"], raw["target"]["data"]).values() for each in arm]


def starting_point(name: str) -> Path:
    """Folder of a source's or a hop's model."""
    return MODELS / name


def target_model(name: str) -> Path:
    """Folder of one of the targets' models, "mono-0"."""
    return Training("target", name, "").model


def raw(download: str) -> Path:
    """Folder of what a block of `download` fetches."""
    return Path("data/raw") / download


def prepared(dataset: str) -> Path:
    """Folder of a prepared dataset."""
    return Path("data/prepared") / dataset


def state_folder() -> Path:
    """Folder of what outlives a run: checkpoints, locks, how long stages took. DVC_ROOT is the main repository also in the
    throw-away clones of experiments."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".transfer"


def forgetting(hop: str) -> Path:
    """Folder of what later training forgot of a hop's task."""
    return METRICS / "forgetting" / hop
