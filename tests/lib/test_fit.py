"""The training loop: freezing, phases, early stopping, resuming, and the same result over several processes."""

import copy
import json
import os
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from stages.lib import backbones, certificate
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.fit import fit, predict, schedule
from stages.lib.strategies import Phase, feature_extraction, full, partial

ROOT = Path(__file__).parents[2]
TINY = {"library": "timm", "model": "test_resnet"}
SETTINGS = {"batch_size": 8, "weight_decay": 0.05, "warmup_epochs": 0.5, "patience": 9, "label_smoothing": 0.1, "seed": 3}
PLANS = {
    "feature_extraction": lambda model: feature_extraction.plan(model, epochs=3, head_lr=0.05),
    "partial": lambda model: partial.plan(model, epochs=3, blocks=2, lr=0.01, head_lr=0.05, augment="none"),
    "full": lambda model: full.plan(model, epochs=3, lr=0.01, head_lr=0.05, augment="none"),
}


def examples(num=24, seed=0):
    """Two classes of noise around two mean images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 2
    images = torch.randn(num, 3, 32, 32, generator=generator) + labels[:, None, None, None] * 0.5
    return Examples(lambda indices, level, draws: images[indices], labels, num_draws=3)


def tiny(seed=0):
    torch.manual_seed(seed)
    return backbones.build(TINY, 2)


def run(model, phases, state=None, save=lambda state: None, **changes):
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(accelerator="cpu", devices=1)
    settings = SETTINGS | changes
    return fit(fabric, model, phases, examples(), examples(16, 1), **settings, state=state, save=save)


@pytest.mark.parametrize("strategy", PLANS)
def test_exactly_what_the_strategy_names_moves(strategy):
    model = tiny()
    phases = PLANS[strategy](model)
    certificate.freeze(model, set(phases[0].lrs))
    declared = certificate.declare(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history = run(model, phases)
    table = certificate.certify(before, model.state_dict(), declared)
    assert (table.verdict == "ok").all(), table[table.verdict != "ok"]
    assert set(table[table.declared == "trainable"].tensor) == set(phases[0].lrs)
    statistics = table[table.tensor.str.contains("running_")]
    assert statistics.moved.any() == (strategy != "feature_extraction")
    assert not statistics.moved.all() or strategy == "full"
    assert len(history) == 3


@pytest.mark.parametrize("strategy", PLANS)
def test_the_loss_falls(strategy):
    history = run(tiny(), PLANS[strategy](tiny()))
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_features_computed_once_give_what_the_whole_network_gives():
    model = tiny()
    run(model, PLANS["feature_extraction"](model))
    val = examples(16, 1)
    features = model.backbone.eval()(val.inputs(torch.arange(16), "none", None))
    assert torch.allclose(predict(model, val, 5), model.head(features), atol=1e-5)


def test_the_best_epoch_is_restored():
    model, states = tiny(), []
    history = run(model, PLANS["full"](model), save=lambda state: states.append(copy.deepcopy(state)), warmup_epochs=0)
    best = min(range(3), key=lambda epoch: history[epoch]["val_loss"])
    assert [row["best"] for row in history][best]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, states[best]["model"][name]), name


def test_training_stops_when_the_validation_loss_no_longer_falls():
    model = tiny()
    history = run(model, full.plan(model, epochs=50, lr=0.05, head_lr=0.05, augment="none"), patience=2, warmup_epochs=0)
    assert len(history) < 50
    assert [row["best"] for row in history[-3:]] == [True, False, False]


@pytest.mark.parametrize("strategy", PLANS)
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_resumed_training_ends_with_the_same_bits(strategy, killed_after):
    whole, states = tiny(), []
    history = run(whole, PLANS[strategy](whole), save=lambda state: states.append(copy.deepcopy(state)))
    resumed = tiny(seed=99)  # its own weights must not matter, except the frozen ones, which the state holds too
    again = run(resumed, PLANS[strategy](resumed), state=copy.deepcopy(states[killed_after - 1]))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    drop = [{key: value for key, value in row.items() if key != "time_ms"} for row in history]
    assert [{key: value for key, value in row.items() if key != "time_ms"} for row in again] == drop


def test_phases_follow_each_other_and_resume_between_them():
    def plan(model):
        return PLANS["feature_extraction"](model) + PLANS["full"](model)

    whole, states = tiny(), []
    history = run(whole, plan(whole), save=lambda state: states.append(copy.deepcopy(state)))
    assert [row["phase"] for row in history] == [0, 0, 0, 1, 1, 1]
    for state in states:
        resumed = tiny()
        run(resumed, plan(resumed), state=copy.deepcopy(state))
        assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_a_learning_rate_of_zero_is_found_after_the_first_epoch():
    model = tiny()
    lrs = full.plan(model, epochs=3, lr=0.01, head_lr=0.05, augment="none")[0].lrs
    with pytest.raises(UserError, match=r"(?s)head.weight.*never moved"):
        run(model, [Phase(lrs | {"head.weight": 0.0}, 3, "none")])


def test_a_training_that_diverges_says_so():
    model = tiny()
    with pytest.raises(UserError, match=r"diverged|not a number"):
        run(model, full.plan(model, epochs=2, lr=1e30, head_lr=1e30, augment="none"), warmup_epochs=0)


def test_schedule_warms_up_from_zero_and_decays_to_zero():
    values = [schedule(step / 10, 8, 1) for step in range(81)]
    assert values[0] == 0
    assert values[10] == 1 == max(values)
    assert values[80] == pytest.approx(0, abs=1e-9)
    assert all(a < b for a, b in pairwise(values[:11]))
    assert all(a >= b for a, b in pairwise(values[10:]))
    assert schedule(0, 8, 0) == 1


def test_norms_and_biases_do_not_decay():
    from stages.lib.fit import _adamw

    model = tiny()
    groups = _adamw(model, PLANS["full"](model)[0].lrs, 0.05).param_groups
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


WORKER = """
    import json, sys, torch
    from lightning_fabric import Fabric
    sys.path.insert(0, {root!r})
    from tests.lib import test_fit as t
    from stages.lib import backbones
    from stages.lib.fit import fit
    from stages.lib.strategies import full, feature_extraction
    devices, strategy = int(sys.argv[1]), sys.argv[2]
    fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto")
    fabric.launch()
    torch.manual_seed(0)
    model = backbones.build({{"library": "timm", "model": "test_vit"}}, 2)
    images = t.examples(21)
    big = lambda e: t.Examples(lambda i, l, d: torch.nn.functional.interpolate(e.inputs(i, l, d), 160), e.labels, 3)
    train, val = big(images), big(t.examples(16, 1))
    history = fit(fabric, model, t.PLANS[strategy](model), train, val, **t.SETTINGS, state=None, save=lambda s: None)
    if fabric.is_global_zero:
        print("RESULT" + json.dumps([[row["train_loss"], row["val_loss"]] for row in history]))
"""


@pytest.mark.parametrize("strategy", ["full", "feature_extraction"])
def test_two_processes_train_to_the_same_losses_as_one(strategy, tmp_path):
    """21 examples in batches of 7 cannot be shared evenly by two: the weights of the loss must make up for it."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER.format(root=str(ROOT))))
    losses = []
    for devices in (1, 2):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(script), str(devices), strategy]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append(json.loads(done.stdout.split("RESULT")[1].splitlines()[0]))
    difference = (torch.tensor(losses[0]) - torch.tensor(losses[1])).abs().max()
    assert difference < 1e-4, losses
