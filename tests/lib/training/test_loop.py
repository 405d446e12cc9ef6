"""The training loop: freezing, phases, every option, resuming, and the same result over several processes.

Where an option has an effect on numbers, `by_hand` below trains the same two linear layers in numpy, from the papers.
"""

import copy
import json
import math
import os
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy

from stages.lib.core.contracts import LoadedSplit, Phase
from stages.lib.errors import UserError
from stages.lib.modalities.image.inputs import mix
from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from stages.lib.shell import checkpoints
from stages.lib.strategies import discriminative, full, lp_ft
from tests.lib.training.small import LRS, PLAIN, PLANS, copied, custom, equal, judged, linear, points, run, without_times
from tests.tiny import ROOT, network, noise

# What is trained


@pytest.mark.parametrize("strategy", ["feature_extraction", "partial", "full"])
def test_exactly_what_the_strategy_names_moves(strategy):
    """And the statistics of those normalisations whose scale or shift is trained."""
    model = network()
    (phase,) = PLANS[strategy](model)
    before = copied(model)
    fitted = run(model, [phase])
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    follow = {name for name in norms if phase.lrs.keys() & {f"{name}.weight", f"{name}.bias"}}
    buffers = {f"{name}.{which}" for name in follow for which in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved == phase.lrs.keys() | buffers
    assert bool(follow) == (strategy != "feature_extraction") and (follow == norms) == (strategy == "full")
    (table,) = fitted.certificates
    assert (table.verdict == "ok").all() and set(table[table.moved].tensor) == moved
    assert equal(fitted.start, before)


@pytest.mark.parametrize("strategy", PLANS)
def test_the_loss_falls(strategy):
    history = run(network(), PLANS[strategy](network()), label_smoothing=0.0).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_plain_phase_sees_no_augmentation_and_the_others_do():
    seen = []
    plain = noise()
    train = LoadedSplit(lambda *given: seen.append(given[1]) or plain.inputs(*given), plain.targets, plain.num_draws)
    model = network()
    run(model, PLANS["lp_ft"](model), train=train, augment="light")
    assert seen == ["none"] * 5 + ["light"] * 2 * 4, "a few examples are tried first, to fold normalisations"


@pytest.mark.parametrize("strategy", ["feature_extraction", "partial"])
def test_a_plain_phase_is_neither_mixed_nor_augmented(strategy):
    """Whether features are computed once, which stand for whole images, or the backbone is trained."""
    results = []
    for options in ({}, {"mixup": 1.0, "cutmix": 1.0, "augment": "light"}):
        model = network()
        phases = [phase._replace(plain=True) for phase in PLANS[strategy](model)]
        results.append((without_times(run(model, phases, **options).history), model.state_dict()))
    assert results[0][0] == results[1][0] and equal(results[0][1], results[1][1])


def test_each_phase_goes_on_from_the_best_weights_of_the_one_before():
    model, states = network(), []
    fitted = run(model, PLANS["gradual"](model), save=lambda state: states.append(copy.deepcopy(state)))
    assert [row["phase"] for row in fitted.history] == [0, 0, 1, 1, 2, 2]
    for before, after in ((states[1], states[2]), (states[3], states[4])):
        assert equal(before["best"]["model"], after["start"])
    assert equal(states[5]["best"]["model"], model.state_dict())
    assert equal(fitted.start, states[4]["start"])
    counts = [int(table.moved.sum()) for table in fitted.certificates]
    assert counts[0] == 2 and counts[0] < counts[1] < counts[2] == len(model.state_dict())


def test_the_best_epoch_is_restored():
    model, states, val = network(), [], noise(16, 1)
    val = LoadedSplit(val.inputs, 1 - val.targets, val.num_draws)  # what is learnt makes them worse
    (phase,) = full.plan(model, epochs=5, lr=0.003, head_lr=0.003)
    history = run(model, [phase], val=val, save=lambda state: states.append(copy.deepcopy(state))).history
    losses = [row["val_loss"] for row in history]
    best = int(np.argmin(losses))
    assert best < 4  # or restoring would be nothing
    assert [row["best"] for row in history] == [loss < min(losses[:epoch], default=9e9) for epoch, loss in enumerate(losses)]
    assert equal(model.state_dict(), states[best]["model"])


def test_training_stops_when_the_validation_loss_no_longer_falls():
    model = network()
    history = run(model, full.plan(model, epochs=50, lr=0.05, head_lr=0.05), patience=2, warmup_epochs=0).history
    assert len(history) < 50
    assert [row["best"] for row in history[-3:]] == [True, False, False]


def test_patience_counts_anew_in_every_phase():
    model = network()
    probe, tune = lp_ft.plan(model, probe_epochs=50, head_lr=5.0, epochs=50, lr=0.05)
    history = run(model, [probe, tune], patience=2, warmup_epochs=0, optimizer="sgd", loss_jump=1e9).history
    for number in (0, 1):
        flags = [row["best"] for row in history if row["phase"] == number]
        assert len(flags) < 50 and flags[-3:] == [True, False, False]


# What goes wrong, and is told


def test_a_learning_rate_of_zero_is_found_after_the_first_epoch():
    model, saved = network(), []
    (phase,) = PLANS["full"](model)
    with pytest.raises(UserError, match=r"(?s)head.weight.*never moved"):
        run(model, [phase._replace(lrs=phase.lrs | {"head.weight": 0.0}, epochs=9)], save=saved.append, weight_decay=0.0)
    assert len(saved) <= 1


class Cut(nn.Module):
    """A layer whose gradient is cut by a slip of the pen."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, features):
        return features + self.proj(features).detach()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_trainable_layer_that_gets_no_gradient_is_named(optimizer):
    model = custom(Cut())
    with pytest.raises(UserError) as error:
        run(model, PLANS["full"](model), optimizer=optimizer)
    told = str(error.value)
    assert "for 2 of 12 tensors" in told
    assert "backbone.8.proj.weight (declared trainable): never moved" in told and "backbone.8.proj.bias" in told


def test_frozen_statistics_that_are_moved_by_force_are_named():
    """A network that puts its normalisation into training mode by itself, as some published ones do."""
    model = network()
    model.backbone.bn1.register_forward_pre_hook(lambda module, inputs: module.train() and None)
    with pytest.raises(UserError, match=r"(?s)backbone.bn1.running_mean \(declared frozen\): frozen but moved"):
        run(model, [PLANS["partial"](model)[0]._replace(plain=False)])


def test_what_moves_late_is_found_at_the_end_of_the_phase():
    """After the look that follows the warm-up."""
    model = network()

    def nudge(state):
        if len(state["history"]) == 2:
            with torch.no_grad():
                model.backbone.conv1[0].weight += 1e-6

    with pytest.raises(UserError, match=r"(?s)backbone.conv1.0.weight \(declared frozen\): frozen but moved"):
        run(model, [PLANS["partial"](model)[0]._replace(epochs=8)], val=noise(), save=nudge)


def test_a_training_that_diverges_says_so():
    model = network()
    with pytest.raises(UserError, match=r"not a number.*backbone 1e\+30, head 1e\+30; try 10 times less"):
        run(model, full.plan(model, epochs=2, lr=1e30, head_lr=1e30), warmup_epochs=0)


def test_a_warning_of_a_phase_outlives_a_resume_and_is_given_once():
    states, warned = [], []
    for state in (None, 0, 1):
        model = network()
        (phase,) = full.plan(model, epochs=3, lr=2.0, head_lr=2.0)
        start = None if state is None else copy.deepcopy(states[state])
        fitted = run(
            model, [phase, phase], optimizer="sgd", state=start,
            save=lambda state: states.append(copy.deepcopy(state)) if len(states) < 3 else None,
        )  # fmt: skip
        warned.append(fitted.warnings)
    assert warned[0] == warned[1] == warned[2] and len(warned[0]) == 1
    assert "Learning rate too high" in warned[0][0]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_that_is_too_small_for_batchnorm_is_said(batch_size):
    """At 32 px the last maps have one pixel, so a batch of one image gives BatchNorm one value for each channel."""
    model = network()
    phases = full.plan(model, epochs=1, lr=0.01, head_lr=0.05)
    with pytest.raises(UserError, match=r"training\.batch_size: a batch of 1 example is too small for this network's BatchNorm"):
        run(model, phases, train=noise(5), batch_size=batch_size)


@pytest.mark.parametrize(("batch_size", "num_steps"), [(24, 1), (12, 2), (8, 3)])
@pytest.mark.parametrize("rate", [0.01, 3.0])
def test_few_steps_in_an_epoch_are_no_mistake(batch_size, num_steps, rate):
    """The first step has the rate 0, and a zero head gives the backbone no gradient before its own first step: what is kept,
    and what is checked early, must be later than that, even where the first epoch would have been the best (at a rate of 3)."""
    model = network(head={"zero": True})
    (phase,) = full.plan(model, epochs=6, lr=rate, head_lr=rate)
    fitted = run(model, [phase], batch_size=batch_size, warmup_epochs=1, weight_decay=0.0, optimizer="sgd")
    assert (fitted.certificates[0].verdict == "ok").all()
    first = [row["best"] for row in fitted.history].index(True)
    assert (first + 1) * num_steps >= 4


# Options: the same training in numpy


def arrays(given):
    return given.inputs(torch.arange(len(given.targets)), "none", None).double().numpy(), given.targets.numpy()


def softmax(logits):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def validation_loss(weights, given):
    values, labels = arrays(given)
    features = values @ weights["backbone.frozen.weight"].T + weights["backbone.frozen.bias"]
    features = features @ weights["backbone.last.weight"].T + weights["backbone.last.bias"]
    logits = features @ weights["head.weight"].T + weights["head.bias"]
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()


def by_hand(model, given, factors, *, lrs, optimizer="sgd", momentum=0.9, weight_decay=0.0, smoothing=0.0, class_weights=None,
            clip_norm=0.0, ema=0.0):  # fmt: skip
    """Train on all examples at once in every step; the weights after each step, averaged where `ema` says so."""
    weights = {name: tensor.double().numpy().copy() for name, tensor in model.state_dict().items()}
    values, labels = arrays(given)
    wanted = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    per_example = np.ones(len(labels)) if class_weights is None else class_weights[labels]
    first, second, average, ends = dict.fromkeys(lrs, 0.0), dict.fromkeys(lrs, 0.0), None, []
    hidden = values @ weights["backbone.frozen.weight"].T + weights["backbone.frozen.bias"]
    for step, factor in enumerate(factors, start=1):
        features = hidden @ weights["backbone.last.weight"].T + weights["backbone.last.bias"]
        logits = features @ weights["head.weight"].T + weights["head.bias"]
        slope = per_example[:, None] * (softmax(logits) - wanted) / len(labels)
        back = slope @ weights["head.weight"]
        gradients = {"head.weight": slope.T @ features, "head.bias": slope.sum(0),
                     "backbone.last.weight": back.T @ hidden, "backbone.last.bias": back.sum(0)}  # fmt: skip
        norm = math.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        for name, gradient in gradients.items():
            lr, decay = lrs[name] * factor(name), weight_decay if gradient.ndim > 1 else 0.0
            gradient = gradient * min(1.0, clip_norm / norm) if clip_norm else gradient
            if optimizer != "adamw":
                gradient = gradient + decay * weights[name]
            if optimizer == "sgd":
                first[name] = momentum * first[name] + gradient
                weights[name] = weights[name] - lr * (gradient + momentum * first[name])
                continue
            if optimizer == "adamw":
                weights[name] = weights[name] * (1 - lr * decay)
            first[name] = momentum * first[name] + (1 - momentum) * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            root = np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8
            weights[name] = weights[name] - lr * first[name] / (1 - momentum**step) / root
        kept = min(ema, step / (9 + step)) if step > 1 else 0.0
        average = dict(weights) if average is None else {k: kept * average[k] + (1 - kept) * weights[k] for k in weights}
        ends.append(dict(average if ema else weights))
    return ends


NUM_EPOCHS = 12


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({}, {}),
        ({"momentum": 0.0}, {"momentum": 0.0}),
        ({"weight_decay": 0.3}, {"weight_decay": 0.3}),
        ({"optimizer": "adam", "weight_decay": 0.3}, {"optimizer": "adam", "weight_decay": 0.3}),
        ({"optimizer": "adamw", "weight_decay": 0.3}, {"optimizer": "adamw", "weight_decay": 0.3}),
        ({"optimizer": "adamw", "momentum": 0.5}, {"optimizer": "adamw", "momentum": 0.5}),
        ({"label_smoothing": 0.3}, {"smoothing": 0.3}),
        ({"balance": "weights"}, {"class_weights": "balanced"}),
        ({"clip_norm": 0.05}, {"clip_norm": 0.05}),
        ({"ema": 0.8}, {"ema": 0.8}),
        ({"ema": 0.2, "optimizer": "adamw"}, {"ema": 0.2, "optimizer": "adamw"}),
        ({"warmup_epochs": 4}, {"factor": lambda name, step: min(1.0, step / 4)}),
        (
            {"warmup_epochs": 4, "warmup": "head"},
            {"factor": lambda name, step: min(1.0, step / 4) if name.startswith("head") else 1.0},
        ),
        ({"schedule": "cosine"}, {"factor": lambda name, step: (1 + math.cos(math.pi * step / NUM_EPOCHS)) / 2}),
        ({"schedule": "step"}, {"factor": lambda name, step: 1.0 if step < 6 else 0.1 if step < 9 else 0.01}),
    ],
    ids=lambda value: ",".join(f"{key}={inner}" for key, inner in value.items() if key != "factor") or "-",
)
def test_a_training_is_what_it_is_in_numpy(options, reference):
    """After every epoch of one step: the weights that are validated, their loss, and the learning rates in the history."""
    train, val, model = points(), points(15, 1), linear()
    shares = np.bincount(train.targets) / len(train.targets)
    given = {"factor": lambda name, step: 1.0} | reference
    given |= {"class_weights": 1 / (3 * shares)} if "class_weights" in given else {}
    factor = given.pop("factor")
    factors = [lambda name, step=step: factor(name, step) for step in range(NUM_EPOCHS)]
    ends = by_hand(model, train, factors, lrs=LRS, **given)
    before, states = copied(model), []
    fitted = run(model, [Phase(LRS, NUM_EPOCHS)], train=train, val=val, patience=99,
                 save=lambda state: states.append(copy.deepcopy(state)), **PLAIN | options)  # fmt: skip

    for epoch, (row, end) in enumerate(zip(fitted.history, ends, strict=True)):
        assert row["val_loss"] == pytest.approx(validation_loss(end, val), abs=2e-5), epoch
        for group, name in (("backbone", "backbone.last.weight"), ("head", "head.bias")):
            assert row[f"lr_{group}"] == pytest.approx(LRS[name] * factor(name, epoch + 1), abs=1e-9)
        validated = states[epoch]["average"] or states[epoch]["model"]
        for name, wanted in end.items():
            tensor = validated["module." + name if options.get("ema") else name]
            np.testing.assert_allclose(tensor.numpy(), wanted, atol=2e-5, err_msg=f"{name} after epoch {epoch}")
    losses = [validation_loss(end, val) if epoch >= 3 else math.inf for epoch, end in enumerate(ends)]
    for name, wanted in ends[int(np.argmin(losses))].items():
        np.testing.assert_allclose(model.state_dict()[name].numpy(), wanted, atol=2e-5, err_msg=name)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if "frozen" in name)
    if reference:  # the option does something
        plain = by_hand(linear(), train, [lambda name: 1.0] * NUM_EPOCHS, lrs=LRS)
        assert max(np.abs(plain[-1][name] - ends[-1][name]).max() for name in plain[-1]) > 1e-3


def test_clipping_bounds_the_norm_of_a_step():
    """One step of SGD without momentum: its length is the rate times the norm of the gradient."""
    lengths = {}
    for clip_norm in (0, 1e-3, 1e3):
        model = linear()
        before = copied(model)
        run(model, [Phase(dict.fromkeys(LRS, 0.1), 1)], train=points(), val=points(15, 1), clip_norm=clip_norm,
            **PLAIN | {"momentum": 0.0})  # fmt: skip
        lengths[clip_norm] = math.sqrt(sum(((model.state_dict()[name] - before[name]) ** 2).sum().item() for name in before))
    assert lengths[1e-3] == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert lengths[0] == lengths[1e3] > 0.1 * 1e-2


def test_class_weights_give_the_gradient_of_a_weighted_loss():
    """Against torch's own weighted loss, which divides by the sum of the weights; that sum is N here. A class that is missing
    among the examples has no part in it."""
    train = points()
    labels = torch.where(train.targets == 1, 0, train.targets)
    train, counts = train._replace(targets=labels), labels.bincount()
    model, reference = linear(), linear()
    weights = torch.tensor([len(labels) / (2 * count) if count else 0.0 for count in counts.tolist()])
    everything = train.inputs(torch.arange(len(labels)), "none", None)
    cross_entropy(reference(everything), labels, weight=weights).backward()
    run(model, [Phase(dict.fromkeys(LRS, 1.0), 1)], train=train, val=points(15, 1), balance="weights",
        **PLAIN | {"momentum": 0.0})  # fmt: skip
    for name in LRS:
        step = reference.get_parameter(name) - model.get_parameter(name)
        torch.testing.assert_close(step, reference.get_parameter(name).grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_balanced_sampling_draws_every_class_equally_often(balance):
    seen = []
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    values = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))

    def inputs(indices, level, draws):
        seen.extend(indices.tolist() if level == "light" else [])
        return values[indices]

    train = LoadedSplit(inputs, labels, num_draws=0)
    run(linear(), [Phase(LRS, 20)], train=train, val=train, balance=balance, augment="light", patience=99,
        **PLAIN | {"batch_size": 16, "loss_jump": 1e9})  # fmt: skip
    assert len(seen) == 20 * 100
    if balance == "none":  # each example once in every epoch, in another order
        epochs = np.array(seen).reshape(20, 100)
        assert (np.sort(epochs) == np.arange(100)).all() and len({tuple(epoch) for epoch in epochs}) == 20
    else:
        shares = np.bincount(labels[seen], minlength=3) / len(seen)
        np.testing.assert_allclose(shares, 1 / 3, atol=0.04)
        in_class = np.bincount(seen, minlength=100)[:90]
        assert in_class.min() >= 1 and in_class.max() < 4 * in_class.mean()  # no example of a class is preferred


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0, "balance": "sampling"}])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_images_are_learned_with_the_labels_of_their_pixels(options, smoothing):
    """Images that show their label, so that the mean over the pixels of what the network sees is the label it must be given."""
    labels = torch.arange(12) % 3
    images = torch.nn.functional.one_hot(labels, 3).float()[:, :, None, None].expand(-1, -1, 10, 10)
    train = LoadedSplit(lambda indices, level, draws: images[indices].contiguous(), labels, num_draws=0, mix=mix)
    torch.manual_seed(0)
    model = backbones.Model(nn.Sequential(nn.Flatten(), nn.Linear(300, 4)), nn.Linear(4, 3))
    reference, seen = copy.deepcopy(model), []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    everything = dict.fromkeys((name for name, _ in model.named_parameters()), 0.1)
    fitted = run(model, [Phase(everything, 1)], train=train, val=train, **PLAIN | options | {"label_smoothing": smoothing})
    (mixed,) = seen
    soft = mixed.mean((2, 3))
    assert ((soft > 0.01) & (soft < 0.99)).any()
    expected = cross_entropy(reference(mixed), soft, label_smoothing=smoothing).item()
    assert fitted.history[0]["train_loss"] == pytest.approx(expected, abs=1e-5)


def test_validation_sees_images_as_they_are():
    """Neither mixed nor augmented, and in evaluation mode."""
    seen, plain = [], noise(16, 1)
    val = LoadedSplit(lambda *given: seen.append(given) or plain.inputs(*given), plain.targets, plain.num_draws)
    model = network(head={"dropout": 0.5})
    fitted = run(model, PLANS["partial"](model), val=val, augment="light", mixup=1.0, cutmix=1.0)
    assert {(level, draws) for _, level, draws in seen} == {("none", None)}
    everything = plain.inputs(torch.arange(16), "none", None)
    best = min(row["val_loss"] for row in fitted.history)
    assert cross_entropy(model.eval()(everything), plain.targets).item() == pytest.approx(best, abs=1e-5)
    assert torch.allclose(predict(model, plain, 5), model(everything), atol=1e-5)


# Learning rates


@pytest.mark.parametrize("warmup", ["all", "head"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one_cycle"])
def test_the_history_says_each_groups_learning_rate_at_the_end_of_every_epoch(schedule, warmup):
    """And the steps have had those rates in between: they are looked at in the optimizer."""
    model, states = network(), []
    phases = discriminative.plan(model, epochs=4, lr=0.01, head_lr=0.05, decay=0.5, rates={"conv1.*": 0.002})
    warmup_epochs = 0 if schedule == "one_cycle" else 2
    history = run(model, phases, schedule=schedule, warmup=warmup, warmup_epochs=warmup_epochs, patience=99,
                  save=lambda state: states.append(copy.deepcopy(state))).history  # fmt: skip

    def share(progress, warm):
        if schedule == "one_cycle":
            if progress < 1.2:
                return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 1.2)) / 2
            return (1 + math.cos(math.pi * (progress - 1.2) / 2.8)) / 2
        if progress < warm:
            return progress / warm
        falling = (1 + math.cos(math.pi * (progress - warm) / (4 - warm))) / 2
        return {"constant": 1.0, "cosine": falling, "step": 1.0 if progress < 2 else 0.1 if progress < 3 else 0.01}[schedule]

    peaks = {"conv1.0..conv1.6": 0.002, **{f"layer{4 - back}.0": 0.01 * 0.5**back for back in range(4)}, "head": 0.05}
    peaks["conv1.6"] = 0.01 * 0.5**4  # bn1 has no layer of its own and is in that block, but not in the pattern
    assert {column for column in history[0] if column.startswith("lr_")} == {f"lr_{label}" for label in peaks}
    for epoch, (row, state) in enumerate(zip(history, states, strict=True)):
        for label, peak in peaks.items():
            warm = warmup_epochs if warmup == "all" or label == "head" else 0
            assert row[f"lr_{label}"] == pytest.approx(peak * share(epoch + 1, warm)), label
            last = peak * share(epoch + 3 / 4, warm)  # of four steps in an epoch the last begins there
            rates = [group["lr"] for group in state["optimizer"]["param_groups"] if group["label"] == label]
            assert rates == [pytest.approx(last)] * len(rates) and rates, label


def test_every_phase_has_its_own_warm_up_and_its_own_rates():
    model = network()
    history = pd.DataFrame(run(model, PLANS["gradual"](model), schedule="constant", warmup_epochs=1.25).history)
    np.testing.assert_allclose(history.lr_head, [0.04, 0.05, 0.008, 0.01, 0.004, 0.005])
    np.testing.assert_allclose(history.lr_backbone, [np.nan, np.nan, 0.008, 0.01, 0.004, 0.005])


# Going on after a kill

RESUMED = {
    "feature_extraction": {},
    "full": {"mixup": 1.0, "cutmix": 1.0, "optimizer": "sgd", "clip_norm": 0.5, "balance": "sampling"},
    "gradual": {"ema": 0.7, "augment": "light", "balance": "weights"},
    "lp_ft": {"ema": 0.7, "mixup": 0.5, "schedule": "one_cycle", "warmup_epochs": 0, "patience": 1},
    "l2_sp": {"optimizer": "adam", "schedule": "step", "warmup": "head", "weight_decay": 0.0},
}


@pytest.mark.parametrize(
    "strategy", [pytest.param(each, marks=pytest.mark.slow if each == "gradual" else ()) for each in RESUMED]
)
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(strategy, tmp_path):
    """With dropout, from the file that a stage writes, in a model whose own weights are others. Every later state is the same
    too, so nothing is frozen or forgotten in between."""

    def train(seed, state, name):
        model, files = network(seed=seed, head={"hidden": 6, "dropout": 0.3}), []

        def save(state):
            files.append(tmp_path / f"{name}-{len(files)}.pt")
            checkpoints.save(files[-1], state)

        fitted = run(model, PLANS[strategy](model), state=state, save=save, **RESUMED[strategy])
        return model, fitted, files

    whole, fitted, files = train(0, None, "whole")
    assert len(files) == len(fitted.history) >= 3
    for number, file in enumerate(files):
        resumed, again, later = train(99, checkpoints.load(file), f"from-{number}")
        assert equal(whole.state_dict(), resumed.state_dict()), number
        assert without_times(again.history) == without_times(fitted.history)
        assert again.warnings == fitted.warnings and equal(again.start, fitted.start)
        for one, other in zip(fitted.certificates, again.certificates, strict=True):
            pd.testing.assert_frame_equal(one, other)
        trained = {name for name, parameter in resumed.named_parameters() if parameter.requires_grad}
        assert trained == PLANS[strategy](whole)[-1].lrs.keys()
        for file_then, file_now in zip(files[number + 1 :], later, strict=True):
            then, now = checkpoints.load(file_then), checkpoints.load(file_now)
            assert equal(then["model"], now["model"]) and then["phase"] == now["phase"] and then["epoch"] == now["epoch"]


def test_a_training_that_has_only_diverged_so_far_resumes_too():
    """Such a state has no best weights yet."""
    states, model = [], network()
    (phase,) = full.plan(model, epochs=3, lr=1e30, head_lr=1e30)
    with pytest.raises(UserError, match="diverged"):
        run(model, [phase], warmup_epochs=0, save=lambda state: states.append(copy.deepcopy(state)))
    assert states[1]["best"] is None
    again = []
    with pytest.raises(UserError, match="diverged"):
        run(network(), [phase], warmup_epochs=0, state=states[1], save=lambda state: again.append(state["epoch"]))
    assert again == [3]


def test_the_order_of_an_epoch_depends_on_the_seed_the_phase_and_the_epoch_alone():
    orders = {}
    for seed in (3, 4):
        seen = []
        plain = noise()

        def inputs(indices, level, draws, seen=seen, plain=plain):
            seen.extend(zip(indices.tolist(), draws[:, 0].tolist(), strict=True) if level == "light" else [])
            return plain.inputs(indices, level, draws)

        model = network()
        torch.manual_seed(seed * 7)  # whatever the generator's state is
        run(model, PLANS["full"](model), train=plain._replace(inputs=inputs), augment="light", seed=seed)
        orders[seed] = [tuple(seen[start : start + 24]) for start in range(0, 72, 24)]
    epochs = [*orders[3], *orders[4]]
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 6
    assert len({tuple(sorted(draw for _, draw in epoch)) for epoch in epochs}) == 6
    for in_turn in orders.values():
        for one, other in pairwise(in_turn):
            assert {index for index, _ in one} == {index for index, _ in other} == set(range(24))


def test_how_a_batch_is_mixed_depends_on_the_seed_the_phase_the_epoch_and_the_step_alone():
    drawn = []
    for seed in (3, 3, 4):
        fractions, model = [], network()
        train = noise()._replace(mix=lambda *given, seen=fractions: seen.append(given[2].fraction) or mix(*given))
        np.random.seed(len(drawn))  # whatever the generators' states are
        run(model, PLANS["full"](model) * 2, train=train, mixup=1.0, seed=seed)
        drawn.append(fractions)
    assert drawn[0] == drawn[1] and len({*drawn[0], *drawn[2]}) == 2 * 2 * 3 * 4


# Several processes

WORKER = """
    import json, sys
    from lightning_fabric import Fabric
    sys.path.insert(0, {root!r})
    from tests.lib.training.test_loop import shared
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    results = shared(fabric)
    if fabric.is_global_zero:
        print("RESULT" + json.dumps(results))
"""
SHARED = {
    "feature_extraction": {},
    "full": {"mixup": 1.0, "cutmix": 1.0, "balance": "sampling", "augment": "light"},
    "partial": {"clip_norm": 0.05, "balance": "weights", "optimizer": "sgd"},
    "gradual": {"ema": 0.7, "clip_norm": 0.05},
    "l2_sp": {"cutmix": 1.0},
}


def shared(fabric):
    """Losses and some weights of several trainings. 21 examples in batches of 6, 5, 5 and 5 cannot be shared evenly by two:
    the weights of the loss must make up for it."""
    torch.use_deterministic_algorithms(True)
    results = {}
    for strategy, options in SHARED.items():
        model = custom()
        fitted = run(model, PLANS[strategy](model), train=noise(21), fabric=fabric, **options)
        losses = [value for row in fitted.history for value in (row["train_loss"], row["val_loss"])]
        results[strategy] = losses + beginnings(model.state_dict())

    model, states = custom(), []  # 24 examples in batches of 6: where parts are equally large, the mean of means is the mean
    (phase,) = PLANS["full"](model)
    run(model, [phase._replace(penalties=(judged,))], fabric=fabric, optimizer="sgd", clip_norm=0.3, save=states.append)
    results["a penalty with parameters"] = beginnings(model.state_dict()) + beginnings(states[-1]["penalties"][0])
    return results


def beginnings(tensors):
    return [value for tensor in tensors.values() for value in tensor.flatten()[:3].tolist()]


@pytest.mark.slow
def test_two_processes_train_to_what_one_trains_to(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER.format(root=str(ROOT))))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads(done.stdout.split("RESULT")[1].splitlines()[0])
    one = shared(Fabric(accelerator="cpu", devices=1))
    for strategy, values in one.items():
        np.testing.assert_allclose(two[strategy], values, atol=1e-4, err_msg=strategy)
