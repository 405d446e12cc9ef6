"""Every strategy, on three kinds of network, from preparation to proof: what was declared moved, and nothing else."""

from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stages.lib.core import plugins
from stages.lib.errors import UserError
from stages.lib.shell import checkpoints
from tests.lib.training.small import Judge, judged
from tests.lib.training.whole import HYPERPARAMETERS, finished, prepare, train, weights
from tests.tiny import PX, SMALL, noise, seen


def test_every_strategy_is_tested_here():
    assert sorted([*HYPERPARAMETERS, "auto"]) == plugins.names("strategies")
    for strategy, hyperparameters in HYPERPARAMETERS.items():
        declared = plugins.load("strategies", strategy).Params.model_fields
        assert hyperparameters.keys() == declared.keys()


SLOW = pytest.mark.slow  # all but the smallest networks
WITHOUT = {("lora", name) for name in [*PX, *SMALL] if name not in ("test_vit", "lenet5")} | {("norm_only", "lenet5")}
WITHOUT |= {("wise_ft", "mobilefacenet")}  # on this noise the best point of its line is the beginning, where nothing has moved
CASES = [
    pytest.param(strategy, network, marks=() if network in ("lenet5", "test_resnet") or strategy == "lora" else SLOW)
    for strategy in HYPERPARAMETERS
    for network in [*PX, *SMALL]
    if (strategy, network) not in WITHOUT
]


@pytest.mark.parametrize(("strategy", "network"), CASES)
def test_exactly_what_is_declared_moves(strategy, network):
    """Independently of the certificate: the names in the learning rates of the phases, the statistics of those normalisations
    of which a tensor is among them (where biases or normalisations alone are trained, they stay), and for adapters the weights
    of linear layers; then the certificate must agree."""
    setup, trained = finished(strategy, network)
    model = setup.model
    before, after = setup.before, model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(network).items() if name.startswith("backbone."))
    assert list(after) == list(before)
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}

    named = {name for phase in setup.phases for name in phase.lrs}
    if strategy == "lora":
        linear = [name for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)]
        named = {f"backbone.{name}.weight" for name in linear} | {"head.weight", "head.bias"}
    for name, module in model.named_modules():
        follows = isinstance(module, nn.BatchNorm2d) and strategy not in ("bitfit", "norm_only")
        if follows and named & {f"{name}.weight", f"{name}.bias"}:
            named |= {f"{name}.running_mean", f"{name}.running_var", f"{name}.num_batches_tracked"}
    if not setup.phases:
        assert strategy in ("linear_probe", "knn", "prototype", "frozen")
        named = {f"head.{name}" for name in model.head.state_dict()}
    assert moved == named

    whole = trained.certificate[trained.certificate.phase == "all"]
    assert (trained.certificate.verdict == "ok").all()
    assert list(whole.tensor) == list(before) and set(whole[whole.moved].tensor) == moved
    assert set(whole[whole.declared != "frozen"].tensor) == moved
    num_phases, beside = len(setup.phases), strategy == "dann"  # whose discriminator is not shipped
    listed = [str(n) for n in range(num_phases)] if num_phases > 1 or beside else []
    assert sorted(set(trained.certificate.phase)) == [*listed, "all"]
    assert (trained.certificate.declared == "not shipped").any() == beside


@pytest.mark.parametrize(("strategy", "network"), CASES)
def test_the_history_and_the_best_values_are_those_of_the_model(strategy, network):
    setup, trained = finished(strategy, network)
    val, history = seen(network, 16, 1), trained.history
    logits = setup.model.eval()(val.inputs(torch.arange(16), "none", None)).detach()
    assert trained.best["val_loss"] == pytest.approx(cross_entropy(logits, val.targets).item(), abs=1e-4)
    assert trained.best["val_accuracy"] == pytest.approx((logits.argmax(1) == val.targets).float().mean().item())
    answers = logits.argmax(1).unique()  # two epochs are few: some networks answer the same for all, and nothing else is wrong
    told = [warning[:18] for warning in trained.warnings if "the validation loss rose" not in warning]  # it may, on noise
    assert told == ["The model predicts"] * (len(answers) == 1)
    assert list(history.epoch) == list(range(1, len(history) + 1))
    kept = history[history.epoch == trained.best["epoch"]].iloc[0]
    assert kept.best
    if strategy not in ("wise_ft", "lora"):  # what they end with is not the model of an epoch
        assert trained.best["val_loss"] == pytest.approx(kept.val_loss, abs=1e-5)
    rates = [column for column in history if column.startswith("lr_")]
    assert bool(rates) == bool(setup.phases) and not history[rates].isna().any().any()
    for number, phase in enumerate(setup.phases):
        rows = history[history.phase == number]
        assert len(rows) == phase.epochs
        in_use = {column for column in rates if rows[column].iloc[0] > 0}
        assert ("lr_head" in in_use) and (in_use == {"lr_head"}) == all(name.startswith("head.") for name in phase.lrs)


def test_what_moves_after_the_last_phase_is_named():
    fabric, setup = prepare("partial")

    def finish(fabric, model, *, start, train, val, task, batch_size):
        with torch.no_grad():
            model.backbone.conv1[0].weight += 1e-6
        return {}

    setup = setup._replace(plugin=SimpleNamespace(finish=finish))
    with pytest.raises(UserError, match=r"(?s)backbone.conv1.0.weight \(declared frozen\): frozen but moved"):
        train(fabric, setup, noise(), noise(16, 1))


@pytest.mark.parametrize(
    ("strategy", "network"), [("wise_ft", "test_resnet"), ("lora", "test_vit"), ("delta", "test_efficientnet")]
)
def test_a_whole_training_resumed_after_any_epoch_ends_with_the_same_model_and_proof(strategy, network, tmp_path):
    """What follows the last phase (merging, a line to where the phase began) needs more than the weights."""

    def go(state, name):
        files = []

        def save(state):
            files.append(tmp_path / f"{name}-{len(files)}")
            checkpoints.save(files[-1], state)

        fabric, setup = prepare(strategy, network)
        trained = train(fabric, setup, seen(network), seen(network, 16, 1), state=state, save=save, ema=0.6)
        return setup.model.state_dict(), trained, files

    model, trained, files = go(None, "whole")
    assert len(files) == (2 if strategy == "lora" else 4)
    for number, file in enumerate(files):
        again, resumed, _ = go(checkpoints.load(file), f"from-{number}")
        assert all(torch.equal(tensor, again[name]) for name, tensor in model.items())
        pd.testing.assert_frame_equal(resumed.certificate, trained.certificate)
        pd.testing.assert_frame_equal(resumed.history.drop(columns="time_ms"), trained.history.drop(columns="time_ms"))
        assert resumed.tables.keys() == trained.tables.keys() and resumed.best == trained.best
        for name, table in trained.tables.items():
            pd.testing.assert_frame_equal(resumed.tables[name], table)


def test_what_a_penalty_owns_is_in_the_certificate_and_not_in_the_model():
    fabric, setup = prepare("full")
    names, (phase,) = list(setup.before), setup.phases
    setup = setup._replace(phases=[phase._replace(penalties=(partial(judged, num_features=96),))])
    trained = train(fabric, setup, noise(), noise(16, 1))
    assert list(setup.model.state_dict()) == names
    own = trained.certificate[trained.certificate.declared == "not shipped"]
    assert [f"penalty.{name}" for name in Judge().state_dict()] == list(own.tensor)
    assert set(own.phase) == {"0"} and own.moved.all() and (own.verdict == "ok").all()
    others = trained.certificate.drop(own.index)
    assert list(others.tensor) == names and set(others.phase) == {"all"}
    assert "lr_penalty" in trained.history
