"""The signs of the classic mistakes: in made-up numbers, and in real trainings of tiny networks with and without them."""

import math

import pytest
import torch

from stages.lib.core.contracts import LoadedSplit
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.params.fields import Trainable
from stages.lib.strategies import full, lp_ft, partial
from stages.lib.training import diagnostics
from tests.lib.training.small import run
from tests.tiny import PX
from tests.tiny import network as tiny_network

RATES = {"backbone": 0.1, "head": 0.5}
LN2 = math.log(2)


def jumped(losses, guess=LN2, jump=2):
    return diagnostics.rate_too_high(losses, guess, jump, RATES)


def test_a_jump_is_told_with_its_size_the_rates_and_a_factor_to_try():
    told = jumped([0.7, 0.7, 0.7, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert told.startswith(diagnostics.RATE_TOO_HIGH)
    for words in ("from 0.70 to 2 (2.9 times)", "first 8 steps", "backbone 0.1, head 0.5", "Try 3 times less", "warmup_epochs"):
        assert words in told
    assert "Try 10 times less" in jumped([0.7] * 3 + [40.0] * 5)


def test_what_is_no_number_any_more_is_the_worst_that_can_happen():
    nan = math.nan
    for losses in ([0.7] * 4 + [nan] * 5, [0.7] * 4 + [math.inf] * 5, [0.7] + [nan] * 8, [0.7, 1e9, nan] + [3.0] * 6):
        told = jumped(losses)
        assert "from 0.70 until it was not a number" in told and "Try 10 times less" in told


@pytest.mark.parametrize("harm", [2e4, 50.0, 9.0])
def test_a_jump_in_the_very_first_step_is_measured_from_before_it(harm):
    """Without a warm-up only the first loss is from before the harm."""
    assert "from 0.70 to" in jumped([0.7, harm, harm, harm, harm, harm, harm])


@pytest.mark.parametrize(
    "losses",
    [
        [0.7] * 20,
        [0.7, 0.7, 0.7, 2.5, 0.7, 0.7, 0.7, 0.7],  # one bad batch
        [0.01, 0.02, 0.01] + [0.6] * 9,  # near zero any batch is a jump
        [0.45, 0.8, 0.7] + [0.9] * 9,  # the first batch was an easy one
        [0.7] * 3 + [40.0] * 2,  # too few steps to say
        [],
    ],
)
def test_noise_is_no_jump(losses):
    assert jumped(losses) is None


def test_how_far_is_a_jump_is_a_choice_and_near_the_loss_of_guessing_it_is_further():
    losses = [0.7] * 3 + [1.7] * 6
    assert jumped(losses, jump=2) and not jumped(losses, jump=3)
    early = [0.2] * 3 + [2.0] * 6
    assert jumped(early, guess=LN2) and not jumped(early, guess=math.log(100))


def test_ending_far_worse_than_guessing_is_told():
    told = diagnostics.worse_than_guessing(6.93, LN2, 2, RATES)
    assert told.startswith(diagnostics.RATE_TOO_HIGH)
    for words in ("is 6.93, 10.0 times that of guessing (0.69)", "backbone 0.1, head 0.5", "Try 10 times less"):
        assert words in told
    assert diagnostics.worse_than_guessing(1.99 * LN2, LN2, 2, RATES) is None
    assert diagnostics.worse_than_guessing(2.01 * LN2, LN2, 2, RATES)
    assert diagnostics.worse_than_guessing(2.01 * LN2, math.log(10), 2, RATES) is None


def test_a_validation_loss_that_jumps_is_told_with_the_epoch_the_factor_and_what_to_do():
    told = diagnostics.validation_jumped(0.4, 1.3, 2, LN2, 2, RATES)
    assert told.startswith(diagnostics.RATE_TOO_HIGH)
    for words in ("from 0.4 to 1.3 (3.2 times) in epoch 2", "backbone 0.1, head 0.5", "Try 3 times less", "warmup_epochs"):
        assert words in told
    assert "until it was not a number in epoch 3" in diagnostics.validation_jumped(0.4, math.nan, 3, LN2, 2, RATES)


@pytest.mark.parametrize(
    ("before", "after", "guess", "jump"),
    [(0.4, 0.79, LN2, 2), (0.4, 1.1, LN2, 3), (0.01, 0.3, LN2, 2), (0.4, 0.1, LN2, 2), (0.4, 9.0, 0, 2)],
)
def test_a_rise_of_the_validation_loss_that_is_small_or_near_zero_or_cannot_be_judged_is_no_jump(before, after, guess, jump):
    assert diagnostics.validation_jumped(before, after, 2, guess, jump, RATES) is None


def test_more_parameters_than_the_data_supports_are_told_with_what_to_do():
    assert diagnostics.too_many_parameters(2_000_000, 100, 20_000) is None
    told = diagnostics.too_many_parameters(2_000_001, 100, 20_000)
    for words in ("2,000,001 parameters", "100 examples", "20,000 for each", "feature_extraction", "params_per_example"):
        assert words in told


# Real trainings


def ramps(num, seed, px):
    """Noise with a faint ramp that rises to the left or to the right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (num,), generator=generator)
    ramp = torch.linspace(-0.5, 0.5, px) * (2 * labels[:, None, None, None] - 1)
    images = torch.randn(num, 3, px, px, generator=generator) + ramp
    return LoadedSplit(lambda indices, level, draws: images[indices], labels, num_draws=0)


SENSIBLE = {("adamw", 32): 0.003, ("adamw", 160): 0.003, ("sgd", 32): 0.02, ("sgd", 160): 0.005}


def trained(network, seed, times, *, optimizer="adamw", warmup_epochs=1.0):
    """Warnings of a short training whose rates are this many times what they should be; what it raises is a warning too."""
    model, px = tiny_network(network, seed), PX[network]
    lr = SENSIBLE[optimizer, px] * times
    try:
        return run(
            model, full.plan(model, epochs=3, lr=lr, head_lr=lr), train=ramps(40, seed, px), val=ramps(16, seed + 100, px),
            loss_jump=2, seed=seed, optimizer=optimizer, batch_size=8, warmup_epochs=warmup_epochs,
        ).warnings  # fmt: skip
    except UserError as error:
        return [str(error)]


@pytest.mark.parametrize("network", PX)
@pytest.mark.parametrize(("optimizer", "warmup_epochs"), [("adamw", 1.0), ("sgd", 0.0)])
def test_a_sensible_rate_raises_no_warning(network, optimizer, warmup_epochs):
    for seed in range(2):
        assert trained(network, seed, 1, optimizer=optimizer, warmup_epochs=warmup_epochs) == []


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet", pytest.param("test_vit", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("optimizer", "warmup_epochs"), [("adamw", 1.0), ("adamw", 0.0), ("sgd", 1.0), ("sgd", 0.0)])
def test_a_rate_a_hundred_times_too_high_is_named_with_a_factor(network, optimizer, warmup_epochs):
    for seed in range(2):
        (told,) = trained(network, seed, 100, optimizer=optimizer, warmup_epochs=warmup_epochs)
        rate = 100 * SENSIBLE[optimizer, PX[network]]
        assert "Learning rate" in told and f"backbone {rate:g}, head {rate:g}" in told
        assert any(f"ry {factor} times less" in told for factor in (3, 10))


@pytest.mark.parametrize("network", PX)
@pytest.mark.parametrize("times", [1e5, 1e12])
def test_an_absurd_rate_is_named(network, times):
    (told,) = trained(network, 0, times)
    assert "ry 10 times less" in told and f"backbone {0.003 * times:g}" in told


def test_a_rate_that_batch_normalisation_hides_from_the_training_loss_is_found_on_validation():
    """A seed that was looked for: here the training loss never doubles, and the model is useless."""
    (told,) = trained("test_resnet", 5, 100)
    assert "the lowest validation loss" in told and "times that of guessing (0.69)" in told


def test_a_part_of_a_network_counts_as_what_it_trains():
    """The backbone's parameters alone, and only those that are trained."""
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": "test_vit"}, 2)
    numbers = {name: parameter.numel() for name, parameter in model.named_parameters()}
    (phase,) = partial.plan(model, epochs=1, trainable=Trainable(last_blocks=1), lr=0.1, head_lr=0.1)
    num_trained = sum(numbers[name] for name in phase.lrs if name.startswith("backbone."))
    everything = sum(number for name, number in numbers.items() if name.startswith("backbone."))
    assert diagnostics.too_many_parameters(num_trained, 10, everything / 20) is None
    assert diagnostics.too_many_parameters(everything, 10, everything / 20)
    assert 0.1 < num_trained / everything < 0.2


@pytest.mark.parametrize(("lr", "jumps"), [(0.01, False), (0.03, True)])
def test_features_that_are_torn_when_the_whole_network_is_trained_are_found_on_validation(lr, jumps):
    """A head that was trained on them first; the training loss shows nothing, as each batch is normalised by itself."""
    model = tiny_network("test_resnet", 0)
    plan = lp_ft.plan(model, probe_epochs=6, head_lr=0.05, epochs=3, lr=lr)
    fitted = run(
        model, plan, train=ramps(80, 0, 32), val=ramps(40, 100, 32), loss_jump=2, seed=0, batch_size=8, warmup_epochs=1.0
    )
    losses = [row["val_loss"] for row in fitted.history]
    assert (losses[6] > 2 * losses[4]) == jumps, "the fifth epoch was kept"
    if not jumps:
        assert fitted.warnings == []
        return
    (told,) = fitted.warnings
    assert f"rose from {losses[4]:.2g} to {losses[6]:.3g}" in told and "in epoch 7" in told
