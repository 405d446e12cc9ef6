"""The linear probe, against scikit-learn, and the one optimum that it has."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.inference import features, predict
from stages.lib.strategies import linear_probe
from tests.lib.training.whole import prepare, run, train
from tests.tiny import PX, noise


def drawn(num, seed, counts=(1, 1)):
    """Noise whose classes differ in brightness, a little; `counts` are their proportions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * counts[0] + [1] * counts[1]).repeat(num)[:num]
    images = torch.randn(num, 3, 32, 32, generator=generator) + 0.1 * labels[:, None, None, None]
    return LoadedSplit(lambda indices, level, draws: images[indices], labels, num_draws=0)


def known(setup, split):
    """Features (N, D) of the backbone."""
    from lightning_fabric import Fabric

    found = features(Fabric(accelerator="cpu", devices=1), setup.model, split, 8)
    return found.inputs(torch.arange(len(split.targets)), "none", None).double().numpy()


@pytest.mark.parametrize("network", PX)
def test_it_answers_as_the_logistic_regression_of_scikit_learn_with_the_strength_that_suits_validation(network):
    given, val = noise(px=PX[network]), noise(16, 1, px=PX[network])
    setup, trained = run("linear_probe", network, val=val, hyperparameters={"l2": [0.01, 1.0, 100.0]})
    values, asked = known(setup, given), known(setup, val)
    mean, scale = values.mean(0), np.sqrt(values.var(0).mean())
    table = trained.tables["l2"]
    assert list(table.l2) == [100.0, 1.0, 0.01] and table.kept.sum() == 1
    losses = []
    for row in table.itertuples():
        reference = LogisticRegression(C=1 / (24 * row.l2), tol=1e-8, max_iter=10_000)
        reference.fit((values - mean) / scale, given.targets)
        chances = reference.predict_proba((asked - mean) / scale)
        losses.append(-np.log(chances[np.arange(16), val.targets]).mean())
        assert row.val_loss == pytest.approx(losses[-1], abs=2e-3)
        if row.kept:
            np.testing.assert_allclose(predict(setup.model, val, 5).softmax(1), chances, atol=2e-3)
    assert table.kept.idxmax() == int(np.argmin(losses))
    assert setup.architecture["head"] == {"kind": "linear", "hidden": 0, "dropout": 0.0, "zero": True}


def test_three_classes_have_three_outputs_and_no_gradient_is_left():
    """At the optimum the mean loss and its penalty, in the units of the scaled features, pull equally."""
    fabric, setup = prepare("linear_probe", l2=[0.1])
    head = torch.nn.Linear(setup.model.head.in_features, 3)
    setup.model.head = head
    setup.before.update({"head.weight": torch.zeros_like(head.weight), "head.bias": torch.zeros(3)})
    given = drawn(30, 0)._replace(targets=torch.arange(30) % 3)
    train(fabric, setup, given, given)
    values = torch.from_numpy(known(setup, given))
    scale = values.var(0, unbiased=False).mean().sqrt()
    scaled = (values - values.mean(0)) / scale
    weight = (setup.model.head.weight.detach().double() * scale).requires_grad_()
    bias = (setup.model.head.bias.detach().double() + setup.model.head.weight.detach().double() @ values.mean(0)).requires_grad_()
    loss = cross_entropy(scaled @ weight.T + bias, given.targets) + 0.05 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-3 and bias.grad.abs().max() < 1e-3
    assert weight.detach().abs().max() > 1e-3


def test_balance_makes_classes_count_equally_whether_it_weighs_or_draws():
    few = drawn(30, 0, counts=(9, 1))
    heads = {}
    for balance in ("none", "weights", "sampling"):
        fabric, setup = prepare("linear_probe", l2=[1.0])
        train(fabric, setup, few, drawn(16, 1), balance=balance)
        heads[balance] = setup.model.head.bias.detach().diff().item()
        chances = predict(setup.model, few, 8).softmax(1)[:, 1]
        assert chances.mean().item() == pytest.approx(0.1, abs=1e-3) if balance == "none" else chances.mean() > 0.2
    assert heads["weights"] == heads["sampling"] != heads["none"]


def test_it_depends_on_no_seed_and_repeats_itself_bit_for_bit():
    def head(seed):
        fabric, setup = prepare("linear_probe", seed=seed, l2=[0.01, 1.0])
        trained = train(fabric, setup, drawn(24, 0), drawn(16, 1), seed=seed)
        return setup.model.state_dict(), trained

    (one, first), (other, second) = head(1), head(2)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    pd.testing.assert_frame_equal(first.certificate, second.certificate)
    assert first.best == second.best and first.best["epoch"] == 1


def test_a_head_with_hidden_layers_is_not_built_whatever_training_says():
    setup = prepare("linear_probe", head={"hidden": 7, "dropout": 0.5, "zero": False, "keep": True})[1]
    assert isinstance(setup.model.head, torch.nn.Linear)


@pytest.mark.parametrize("wrong", [[], [0.0], [-1.0], [0.1, 0.1]])
def test_strengths_are_above_zero_and_differ(wrong):
    with pytest.raises(ValidationError):
        linear_probe.Params.model_validate({"l2": wrong})
