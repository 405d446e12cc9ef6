"""Train on a subset of the examples, in memory."""

from typing import Any, NamedTuple

import torch

from stages.lib.core import cards, plugins
from stages.lib.core.contracts import part
from stages.lib.learning_curve.subset import subset
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import setup as setups
from stages.lib.training.phases import Data, Tensors
from stages.lib.training.train import train


class Fitted(NamedTuple):
    """A model trained on a few examples, in the form that stages.lib.evaluation.measure takes."""

    tensors: Tensors
    card: cards.ModelCard
    best: dict[str, float]  # as in stages.lib.training.train.Trained
    warnings: list[str]


def train_on_subset(
    fabric: Any, tensors: Tensors | None, start: cards.ModelCard, packed: cards.DataCard, data: Data, names: list[str], *,
    task: str, num: int, strategy: str, hyperparameters: dict[str, Any], options: TrainingOptions, loss_jump: float, seed: int,
) -> Fitted:  # fmt: skip
    """Train like the stage target, but on a subset of the examples and without writing files: for learning curves and benchmarks.

    Args:
        tensors: of the starting point; None for random weights.
        start, packed: cards of the starting point and of the data.
        data: all examples.
        num: number of training examples to draw.
        seed: of the training and of the subset. With all examples, the result equals that of a hop with this seed.

    Raises:
        UserError: as for `train`, or `num` examples cannot be drawn.
    """
    learning, inputs = plugins.load("tasks", task, "learning"), plugins.load("modalities", packed.modality, "inputs")
    chosen = subset(learning.strata(data.train.targets), learning.strata(data.val.targets), num, seed)
    drawn = Data(*(part(split, torch.from_numpy(rows)) for split, rows in zip((data.train, data.val), chosen, strict=True)))
    setup = setups.prepare(
        fabric, tensors, start.architecture, len(names), plugins.load("tasks", task).PER,
        strategy=strategy, hyperparameters=hyperparameters, options=options, num_examples=num, seed=seed,
        same_outputs=start.task == task and start.output_names == names,
    )  # fmt: skip
    names = setup.names(names)
    setups.require_that_it_takes(setup, inputs.probe(start.how | packed.packing, fabric.device), packed.name, packed.packing)
    trained = train(
        fabric, setup, drawn, learning, options, names, loss_jump=loss_jump, seed=seed, state=None, save=lambda state: None
    )
    card = start.model_copy(update={
        "kind": "target", "name": f"{strategy} on {num} examples", "architecture": setup.architecture, "task": task,
        "output_names": names, "preprocessing": start.preprocessing | packed.packing,
    })  # fmt: skip
    return Fitted(setup.model.state_dict(), card, trained.best, trained.warnings)
