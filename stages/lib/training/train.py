"""Train a model that was set up, and prove what changed."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch

from stages.lib.core import plugins
from stages.lib.core.contracts import Phase
from stages.lib.networks.inference import predict
from stages.lib.params.schema import TrainingOptions
from stages.lib.training.certificate import certify, require
from stages.lib.training.loop import fit
from stages.lib.training.phases import Data, Tensors
from stages.lib.training.setup import Setup


class Trained(NamedTuple):
    """The results of a training, apart from the model."""

    history: pd.DataFrame  # one row per epoch
    certificate: pd.DataFrame  # one row per tensor, for the whole training ("all") and, if there are several, per phase
    tables: dict[str, pd.DataFrame]  # the strategy's own results
    best: dict[str, float]  # best epoch, and the final model's metrics on validation
    warnings: list[str]


def train(
    fabric: Any, setup: Setup, data: Data, task: ModuleType, options: TrainingOptions, names: list[str], *,
    loss_jump: float, seed: int, state: dict[str, Any] | None, save: Callable[[dict[str, Any]], None],
) -> Trained:  # fmt: skip
    """Train a model that was set up, in place.

    Args:
        task: the `learning` module of a task.
        names: what the outputs mean; the rest as for stages.lib.training.loop.fit.

    Raises:
        UserError: training did not behave as declared, or diverged.
    """
    model, plugin = setup.model, setup.plugin
    fitted = fit(fabric, model, setup.phases, data, task, options, loss_jump=loss_jump, seed=seed, state=state, save=save)
    tables = {}
    if fitted.answers:  # what an evaluation later needs to tell which epoch the labels would have chosen
        tables["answers"] = pd.DataFrame({f"epoch_{n}": [names[i] for i in row] for n, row in enumerate(fitted.answers, start=1)})
    if hasattr(plugin, "finish"):
        own = plugins.taken(plugin.finish, {"options": options, **setup.hyperparameters})
        own |= {"unlabelled": data.unlabelled} if data.unlabelled else {}
        tables |= plugin.finish(
            fabric, model, start=fitted.start, train=data.train, val=data.val, task=task, batch_size=options.batch_size, **own
        )

    outputs = predict(model, data.val, options.batch_size)  # of the final model, which may differ from that of any epoch
    best = {f"val_{name}": value for name, value in task.figures(outputs, data.val.targets).items()}
    history = pd.DataFrame(fitted.history or [{"phase": 0, "epoch": 1, "train_loss": None, **best, "best": True}])
    rates = [column for column in history if column.startswith("lr_")]
    history[rates] = history[rates].fillna(0.0)  # a group of another phase is frozen in this one
    undone = _undone(setup.phases, fitted.start, model)
    kept = history[(history.phase == history.phase.max() - undone) & history.best].epoch.iloc[-1]

    whole = certify(setup.before, model.state_dict(), setup.declared).assign(phase="all")
    if undone:  # the certificate of its phase proves that it changed
        whole["verdict"] = whole.verdict.replace("never moved", "ok")
    require(whole)
    by_phase = [table.assign(phase=str(number)) for number, table in enumerate(fitted.certificates)]
    shown = by_phase if len(by_phase) > 1 else [table[table.declared == "not shipped"] for table in by_phase]
    certificate = pd.concat([whole, *(table for table in shown if len(table))])
    warnings = fitted.warnings + task.alarms(outputs, data.val.targets, names)
    return Trained(history, certificate, tables, {"epoch": int(kept)} | best, warnings)


def _undone(phases: list[Phase], start: Tensors, model: torch.nn.Module) -> bool:
    """Whether the strategy returned to the start of its last phase, as wise_ft may do."""
    parameters = dict(model.named_parameters())
    trained = phases[-1].lrs if phases else ()
    return bool(trained) and all(
        name in parameters and torch.equal(parameters[name].detach().cpu(), start[name].cpu()) for name in trained
    )
