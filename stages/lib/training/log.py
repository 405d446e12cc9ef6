"""The progress of a training."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch

from stages.lib.training import diagnostics

if TYPE_CHECKING:
    from stages.lib.training.phases import Run


@dataclass
class Log:
    """The progress of a training: everything needed to resume it, saved after every epoch."""

    phase: int = 0
    epoch: int = 0  # finished epochs of the phase
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    certificates: list[list[dict[str, Any]]] = field(default_factory=list)  # of the finished phases
    losses: list[float] = field(default_factory=list)  # of the phase's first steps
    start: dict[str, torch.Tensor] | None = None  # the model at the start of the phase
    model: dict[str, torch.Tensor] | None = None
    best: dict[str, Any] | None = None  # of the phase: loss, and the model
    optimizer: dict[str, Any] | None = None
    average: dict[str, Any] | None = None
    penalties: list[dict[str, Any]] = field(default_factory=list)  # of those that have parameters, after a criterion that has
    answers: list[list[int]] = field(default_factory=list)  # of each epoch, for the unlabelled validation inputs

    def state(self, run: "Run") -> dict[str, Any]:
        """What is passed to `save`: plain values and tensors."""
        self.model, self.optimizer = run.model.state_dict(), run.optimizer.state_dict()
        self.average = run.average.state_dict() if run.average else None
        self.penalties = [module.state_dict() for module in run.own_modules]
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def epochs_since_best(self) -> int:
        """Finished epochs of this phase since the best one."""
        flags = [row["best"] for row in self.history if row["phase"] == self.phase]
        return flags[::-1].index(True) if True in flags else len(flags)

    def loss(self) -> float | None:
        """The validation loss with which the next epoch begins: of the last one, or of the one that an earlier phase kept; None
        before the first."""
        rows = self.history if self.epoch else [row for row in self.history if row["best"]]
        return rows[-1]["val_loss"] if rows else None

    def warn(self, found: str | None) -> None:
        """Add a warning once: a learning rate that is too high in one phase usually is in the next one too."""
        if found and not any(diagnostics.RATE_TOO_HIGH in warning for warning in self.warnings):
            self.warnings.append(found)
