"""One phase of a running training: freezing, features computed once, optimizer, moving average, penalties."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from stages.lib.core import plugins
from stages.lib.core.contracts import LoadedSplit, Phase
from stages.lib.core.seeds import seed_for
from stages.lib.networks.backbones import Model
from stages.lib.networks.inference import once, ready
from stages.lib.params.schema import TrainingOptions
from stages.lib.training import averaging, beginning, diagnostics, optimizers
from stages.lib.training.certificate import declare
from stages.lib.training.freezing import freeze
from stages.lib.training.log import Log

Tensors = dict[str, torch.Tensor]

# Steps until everything has changed: the first step may have learning rate 0, and gradients arrive a step or two later behind
# a head, an adapter or a residual branch that is initialised at zero.
STEPS_TO_MOVE = 4


class Data(NamedTuple):
    """The parts of a dataset that a training sees."""

    train: LoadedSplit  # to learn from
    val: LoadedSplit  # to choose the epoch on
    unlabelled: LoadedSplit | None = None  # inputs of another dataset to adapt to, if the strategy takes them
    unlabelled_val: LoadedSplit | None = None

    def map(self, change: Callable[[LoadedSplit], LoadedSplit]) -> "Data":
        """The same parts, each changed."""
        train, val, *unlabelled = (split and change(split) for split in self)
        assert train and val
        return Data(train, val, *unlabelled)


@dataclass
class Run:
    """Everything that one phase works with."""

    fabric: Any
    model: Model
    phase: Phase
    number: int
    seed: int
    task: ModuleType  # the learning module of a task
    options: TrainingOptions
    network: nn.Module  # what each step runs: the model, or only its head if features were computed once
    wrapped: Any  # the same, as Fabric wraps it
    optimizer: Any
    data: Data  # as `network` takes it
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    penalties: list[Callable[..., torch.Tensor]]
    average: AveragedModel | None
    follow: Callable[[float], None] | None  # updates the average after a step, given its decay
    declared: dict[str, str]
    start: Tensors
    own_start: list[Tensors]  # of `own_modules`
    num_batches: int
    peaks: dict[str, float]  # learning rate of each group

    @property
    def own_modules(self) -> list[nn.Module]:
        """The criterion and the penalties that have their own parameters."""
        return with_parameters(self.criterion, *self.penalties)

    @property
    def earliest(self) -> int:
        """The first epoch (counted from 0) by whose end everything can have changed."""
        return min(math.ceil(STEPS_TO_MOVE / self.num_batches), self.phase.epochs) - 1

    @property
    def warmed_up(self) -> int:
        """The epoch by whose end everything must have changed."""
        return max(self.earliest, min(math.ceil(self.options.warmup_epochs), self.phase.epochs - 1))

    @property
    def watched(self) -> int:
        """Steps during which the loss is watched for a learning rate that is too high."""
        rise = optimizers.rise(self.options.schedule, self.phase.epochs, self.options.warmup_epochs)
        return math.ceil(rise * self.num_batches) + diagnostics.WATCHED_STEPS

    def factor(self, progress: float, label: str) -> float:
        """The learning rate of a group after `progress` epochs, as a fraction of its peak."""
        warm = self.options.warmup == "all" or label.startswith("head")
        warmup_epochs = self.options.warmup_epochs if warm else 0
        return optimizers.schedule(self.options.schedule, progress, self.phase.epochs, warmup_epochs)

    def set_rates(self, progress: float) -> None:
        """Give every group its learning rate after `progress` epochs."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * self.factor(progress, group["label"])

    def penalty(self, inputs: Any, progress: float) -> Any:
        """The sum of the penalties on the last batch, after `progress` epochs; 0 without any."""
        given = (inputs,) if self.data.unlabelled is None else (inputs, progress / self.phase.epochs)
        return sum(penalty(*given) for penalty in self.penalties)

    def seed_for(self, *purpose: object) -> int:
        """A seed for one purpose in this phase."""
        return seed_for(self.seed, purpose[0], self.number, *purpose[1:])

    def kept(self) -> Tensors:
        """The model as it is validated and kept: with a moving average, the averaged tensors instead of the model's own."""
        found = copy_of(self.model)
        if self.average:
            prefix = "" if self.network is self.model else "head."
            found |= {prefix + name: value for name, value in copy_of(self.average.module).items()}
        return found


@contextmanager
def open_phase(
    fabric: Any, model: Model, phase: Phase, data: Data, task: ModuleType, options: TrainingOptions, log: Log, seed: int
) -> Iterator[Run]:
    """Freeze, compute features once if nothing before them is trained, and create or resume the state of a phase."""
    continued = log.epoch > 0
    freeze(model, set(phase.lrs), phase.statistics)
    start = log.start if continued and log.start else copy_of(model)
    log.start = start
    network: nn.Module = model
    seen = data
    stack = ExitStack()
    if phase.plain and data.train.fixed and not any(parameter.requires_grad for parameter in model.backbone.parameters()):
        # The backbone gives the same features in every epoch: compute them once and train the head on them.
        network = model.head
        with fabric.autocast():
            backbone = ready(model.backbone, data.train)
        seen = data.map(lambda split: once(fabric, backbone, split, options.batch_size))
    elif data.unlabelled is None and beginning.always_the_same(phase, options, data.train):
        seen = Data(*stack.enter_context(beginning.skipped(fabric, model, phase, data[:2], options.batch_size)))
    declared = declare(model)
    average, follow = None, None
    if options.ema:
        average = AveragedModel(network)
        follow = averaging.updates(average, network, declared, prefix="" if network is model else "head.")
    with stack, _attached(fabric, phase, model, start, data.train, task, seed_for(seed, "penalty", log.phase)) as penalties:
        criterion = _criterion(fabric, model, data.train, task, options, seed_for(seed, "criterion", log.phase))
        own: list[Any] = with_parameters(criterion, *penalties)
        optimizer = optimizers.build(
            model, phase.lrs, optimizer=options.optimizer, momentum=options.momentum, weight_decay=options.weight_decay,
            others=[(label(each, criterion), list(each.parameters()), float(each.lr)) for each in own],
        )  # fmt: skip
        peaks = {group["label"]: group["peak_lr"] for group in optimizer.param_groups}
        wrapped, optimizer = fabric.setup(network, optimizer)
        run = Run(
            fabric, model, phase, log.phase, seed, task, options, network, wrapped, optimizer, seen,
            criterion=criterion, penalties=penalties, average=average, follow=follow, declared=declared,
            start=start, own_start=[copy_of(each) for each in own],
            num_batches=len(task.batches(seen.train.targets, options, torch.Generator())), peaks=peaks,
        )  # fmt: skip
        if continued:
            optimizer.load_state_dict(log.optimizer)
            if average:
                assert log.average is not None, "it is saved where there is one"
                average.load_state_dict(log.average)
            for module, state in zip(own, log.penalties, strict=True):
                module.load_state_dict(state)
        yield run


def copy_of(module: nn.Module) -> Tensors:
    """Copies of all tensors and buffers of a module, by name."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def with_parameters(*functions: Callable[..., torch.Tensor]) -> list[nn.Module]:
    """Those that are torch modules: they are trained with the learning rate in their attribute `lr`, and never shipped."""
    return [each for each in functions if isinstance(each, nn.Module)]


def label(module: nn.Module, criterion: object) -> str:
    """What one of these modules is called in the history and in the certificate."""
    return "criterion" if module is criterion else "penalty"


def _criterion(
    fabric: Any, model: Model, train: LoadedSplit, task: ModuleType, options: TrainingOptions, seed: int
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The training loss, on the device if it has parameters of its own."""
    torch.manual_seed(seed)
    wanted = {"num_outputs": model.num_outputs}
    made: Any = task.criterion(train.targets, options, **plugins.taken(task.criterion, wanted))
    return made.to(fabric.device) if isinstance(made, nn.Module) else made


@contextmanager
def _attached(
    fabric: Any, phase: Phase, model: Model, start: Tensors, train: LoadedSplit, task: ModuleType, seed: int
) -> Iterator[list[Callable[..., torch.Tensor]]]:
    """Attach the penalties of a phase; they get a frozen copy of the model from the start of the phase."""
    with ExitStack() as stack:
        penalties = []
        if phase.penalties:
            first = copy.deepcopy(model).requires_grad_(False).eval()
            first.load_state_dict(start)
            torch.manual_seed(seed)
            attached = [partial(attach, model, first, train, task.loss) for attach in phase.penalties]
            penalties = [stack.enter_context(attach()) for attach in attached]
        yield [penalty.to(fabric.device) if isinstance(penalty, nn.Module) else penalty for penalty in penalties]
