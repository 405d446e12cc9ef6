"""What a phase works with: features computed once, the moving average, penalties, and how long the loss is watched."""

import copy
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.lib.core.contracts import Phase
from stages.lib.strategies import full, l2_sp
from stages.lib.training import diagnostics
from tests.lib.training.small import (
    LRS,
    PLAIN,
    PLANS,
    Judge,
    copied,
    custom,
    equal,
    judged,
    linear,
    points,
    run,
    without_times,
)
from tests.tiny import network, noise


def test_features_computed_once_give_what_the_whole_network_gives():
    """The same phase, once on features and once through the frozen network in every step."""
    results = []
    for plain in (True, False):
        model = network(head={"hidden": 8})
        (phase,) = PLANS["feature_extraction"](model)
        through = []
        model.backbone.register_forward_hook(lambda *_, through=through: through.append(1))
        results.append((run(model, [phase._replace(plain=plain)]).history, model.state_dict(), len(through)))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(tensor, results[1][1][name], atol=1e-4, rtol=0)
    assert (
        results[0][2] == 4 + 3 + 2
    )  # batches of train and val once, and a few examples to fold normalisations, before and after
    assert results[1][2] == 3 * (4 + 3)


@pytest.mark.parametrize(
    ("schedule", "warmup_epochs", "watched"),
    [("cosine", 2.0, 9), ("cosine", 0.5, 5), ("constant", 0.0, 3), ("one_cycle", 0.0, 7)],
)
def test_the_loss_is_watched_until_the_rate_has_been_at_its_peak(monkeypatch, schedule, warmup_epochs, watched):
    monkeypatch.setattr(diagnostics, "WATCHED_STEPS", 3)
    seen = []
    model = network()
    run(model, [PLANS["full"](model)[0]._replace(epochs=4)], train=noise(24), batch_size=8, schedule=schedule,
        warmup_epochs=warmup_epochs, save=lambda state: seen.append(len(state["losses"])))  # fmt: skip
    assert seen[-1] == watched


def test_an_average_keeps_the_bits_of_what_is_frozen():
    """Minus zero and infinity too, which arithmetic does not keep."""
    torch.manual_seed(0)
    model = linear()
    with torch.no_grad():
        model.backbone.frozen.weight[:2] = -0.0
    model.backbone.register_buffer("mask", torch.tensor([-torch.inf, 0.0, -0.0]))
    before = copied(model)
    run(model, [Phase(LRS, 30)], train=points(), val=points(15, 1), patience=99, ema=0.99, **PLAIN)
    for name in ("backbone.frozen.weight", "backbone.frozen.bias", "backbone.mask"):
        assert torch.equal(model.state_dict()[name], before[name])
        assert torch.equal(model.state_dict()[name].signbit(), before[name].signbit())


def test_an_average_has_the_averaged_statistics_of_normalisations():
    """Weights of one moment with statistics of another would be a network that never was."""
    model, seen = network(), []
    model.backbone.conv1[1].register_forward_hook(
        lambda module, *_: seen.append(module.running_mean.clone()) if module.training else None
    )
    states = []
    run(model, PLANS["full"](model), ema=0.5, save=lambda state: states.append(copy.deepcopy(state)))
    assert len(seen) == 3 * 4
    average = seen[0]
    for step, mean in enumerate(seen[1:], start=1):
        average = average.lerp(mean, 1 - min(0.5, (1 + step) / (10 + step)))
    last = states[-1]["average"]["module.backbone.conv1.1.running_mean"]
    torch.testing.assert_close(last, average, atol=1e-6, rtol=0)
    assert not torch.equal(last, states[-1]["model"]["backbone.conv1.1.running_mean"])


def test_an_average_of_a_head_on_features_is_kept():
    model, states = network(), []
    fitted = run(model, PLANS["feature_extraction"](model), ema=0.9, save=lambda state: states.append(copy.deepcopy(state)))
    best = int(np.argmin([row["val_loss"] if row["best"] else 9e9 for row in fitted.history]))
    assert torch.equal(model.head.weight, states[best]["average"]["module.weight"])
    assert not torch.equal(model.head.weight, states[best]["model"]["head.weight"])


def test_a_penalty_pulls_to_where_its_phase_began_also_after_a_resume():
    """A resumed model already lies elsewhere, and pulling it to there would be another training."""
    states = []
    (phase,) = l2_sp.plan(network(), epochs=4, lr=0.01, head_lr=0.05, trainable="all", alpha=50.0, beta=0.0)
    kinds = [run(model := network(), [phase], save=lambda state: states.append(copy.deepcopy(state))) and model]
    kinds.append(run(model := network(), [phase._replace(penalties=())]) and model)
    kinds.append(run(model := network(seed=99), [phase], state=copy.deepcopy(states[1])) and model)
    start = network()
    backbone = [name for name in phase.lrs if not name.startswith("head.")]
    pulled, free, resumed = (
        sum((start.get_parameter(name) - model.get_parameter(name)).square().sum().item() for name in backbone) for model in kinds
    )
    assert pulled < 0.5 * free
    assert resumed == pulled


# Penalties with parameters of their own


def judged_phase(model, epochs=3, made=None):
    (phase,) = full.plan(model, epochs=epochs, lr=0.01, head_lr=0.05)
    return phase._replace(penalties=(partial(judged, made=made),))


def test_what_a_penalty_owns_is_trained_with_its_own_rate_and_pulls_at_the_network():
    """One step of gradient descent on all examples, against gradients that are taken here."""
    model, made, states = custom(), [], []
    reference = copy.deepcopy(model)
    run(model, [judged_phase(model, 1, made)], save=lambda state: states.append(copy.deepcopy(state)),
        **PLAIN | {"momentum": 0.0})  # fmt: skip
    (judge,), train = made, noise()
    inputs = train.inputs(torch.arange(24), "none", None)
    judge.features = reference.backbone(inputs)
    (cross_entropy(reference.head(judge.features), train.targets) + judge(inputs)).backward()

    ((after,), (*_, group)) = states[0]["penalties"], states[0]["optimizer"]["param_groups"]
    for name, parameter in judge.named_parameters():
        assert parameter.grad.abs().max() > 1e-3
        torch.testing.assert_close(after[name], parameter - Judge.lr * parameter.grad, atol=1e-6, rtol=0)
    assert group["label"] == "penalty" and group["lr"] == Judge.lr and len(group["params"]) == 4
    for name, parameter in reference.named_parameters():
        lr = 0.05 if name.startswith("head.") else 0.01
        torch.testing.assert_close(model.get_parameter(name), parameter - lr * parameter.grad, atol=1e-6, rtol=0)


def test_a_penalty_with_parameters_resumes_to_the_same_bits_and_is_no_part_of_the_model():
    model, states = custom(), []
    names = list(model.state_dict())
    options = {"clip_norm": 0.5, "ema": 0.7, "schedule": "cosine", "warmup": "head"}
    fitted = run(model, [judged_phase(model)] * 2, save=lambda state: states.append(copy.deepcopy(state)), **options)
    assert list(model.state_dict()) == names
    assert [len(state["penalties"]) for state in states] == [1] * 6
    judges = [state["penalties"][0] for state in states]
    assert all(not torch.equal(one["layers.0.weight"], other["layers.0.weight"]) for one, other in pairwise(judges))
    assert [row["lr_penalty"] for row in fitted.history[:3]] == pytest.approx([Judge.lr * share for share in (0.75, 0.25, 0)])

    (first, second) = (table[table.declared == "not shipped"] for table in fitted.certificates)
    own = [f"penalty.{name}" for name, _ in Judge().named_parameters()]
    assert list(first.tensor) == list(second.tensor) == own and first.moved.all() and (first.verdict == "ok").all()
    assert set(fitted.certificates[0].tensor) == {*names, *own}

    for number, state in enumerate(states):
        later = []
        resumed = custom(seed=99)
        again = run(resumed, [judged_phase(resumed)] * 2, state=copy.deepcopy(state), **options,
                    save=lambda state, later=later: later.append(copy.deepcopy(state)))  # fmt: skip
        assert equal(resumed.state_dict(), model.state_dict()), number
        assert without_times(again.history) == without_times(fitted.history)
        for one, other in zip(fitted.certificates, again.certificates, strict=True):
            pd.testing.assert_frame_equal(one, other)
        for then, now in zip(judges[number + 1 :], later, strict=True):
            assert equal(then, now["penalties"][0])


def test_what_a_penalty_owns_begins_as_the_seed_and_the_phase_say():
    begins = []
    for seed in (3, 3, 4):
        model, made = custom(), []
        torch.manual_seed(len(begins))  # whatever the generator's state is
        run(model, [judged_phase(model, 1, made)] * 2, seed=seed)
        begins.append([copied(judge) for judge in made])
    assert all(equal(one, other) for one, other in zip(begins[0], begins[1], strict=True))
    assert not equal(*begins[0]) and not equal(begins[0][0], begins[2][0])
