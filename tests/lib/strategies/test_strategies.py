"""What holds for several strategies."""

import inspect

import pytest
import torch
from pydantic import ValidationError

from stages.lib.core import plugins
from stages.lib.core.contracts import Phase
from stages.lib.networks import backbones
from stages.lib.params.fields import Trainable
from stages.lib.params.schema import TrainingOptions
from stages.lib.strategies import bss, delta, discriminative, gradual, l2_sp, partial
from tests.lib.strategies.blocks import BLOCKS, HEAD, everything, head, in_block, last
from tests.lib.training.whole import run

LAST = Trainable(last_blocks=2)


def test_the_blocks_of_these_tests_hold_every_tensor_once(model, network):
    listed = [name for index in range(len(BLOCKS[network])) for name in in_block(model, network, index)]
    assert sorted(listed + HEAD) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("strategy", [l2_sp, bss, delta], ids=["l2_sp", "bss", "delta"])
@pytest.mark.parametrize("part", [True, False])
def test_a_penalty_belongs_to_the_phase_that_trains_the_backbone(model, network, strategy, part):
    strengths = {l2_sp: {"alpha": 0.01, "beta": 0.02}, bss: {"eta": 0.03, "k": 2},
                 delta: {"alpha": 0.01, "beta": 0.02, "blocks": 2, "attention_examples": 4}}[strategy]  # fmt: skip
    probe = {"probe_epochs": 5} if strategy is delta else {}
    *before, phase = strategy.plan(model, epochs=2, lr=0.1, head_lr=0.5, trainable=LAST if part else "all", **strengths, **probe)
    assert before == ([Phase(lrs=head(0.5), epochs=5, plain=True, penalties=(), statistics=True)] if strategy is delta else [])
    trained = last(model, network, 2, 0.1) if part else everything(model, 0.1)
    (penalty,) = phase.penalties
    assert phase == Phase(lrs=trained | head(0.5), epochs=2, plain=False, penalties=(penalty,), statistics=True)
    assert penalty.func.__module__ == f"{strategy.__name__}.penalty"
    assert penalty.keywords == strengths
    inspect.signature(penalty).bind(None, None, None, None)  # nothing else is asked for


def test_a_head_of_several_layers_is_trained_whole(network):
    with torch.device("meta"):
        architecture = {"library": "timm", "model": network, "head": {"hidden": 4, "dropout": 0.1}}
        model = backbones.build(architecture, 3)
    wanted = {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
    for phase in gradual.plan(model, epochs=1, steps=2, lr=0.1, head_lr=0.5, decay=0.5):
        assert {name for name in phase.lrs if name.startswith("head.")} == wanted


@pytest.mark.parametrize(
    ("strategy", "wrong"),
    [(partial, {"trainable": {"last_blocks": 1, "freeze_layers": 1}}), (partial, {"blocks": 2}), (partial, {"trainable": "all"}),
     (discriminative, {"decay": 0}), (discriminative, {"decay": 1.1}), (discriminative, {"rates": {"a": 0}}),
     (discriminative, {"rates": {"a": "0.1"}}), (gradual, {"steps": 0}), (l2_sp, {"alpha": -1}), (l2_sp, {"trainable": "none"}),
     (bss, {"k": 0}), (delta, {"blocks": 0}), (delta, {"attention_examples": -1})]
)  # fmt: skip
def test_a_hyperparameter_out_of_range_is_refused(strategy, wrong):
    right = {"epochs": 1, "lr": 0.1, "head_lr": 0.5, "trainable": {"last_blocks": 1}, "decay": 0.5, "rates": {"a": 0.1},
             "steps": 2, "alpha": 0.1, "beta": 0.0, "eta": 0.1, "k": 1, "probe_epochs": 1, "blocks": 1,
             "attention_examples": 0}  # fmt: skip
    own = {name: value for name, value in right.items() if name in strategy.Params.model_fields}
    strategy.Params.model_validate(own)
    with pytest.raises(ValidationError):
        strategy.Params.model_validate(own | wrong)


@pytest.mark.parametrize("strategy", ["linear_probe", "knn", "prototype"])
def test_a_computed_head_does_not_depend_on_training_options(strategy):
    """All of which are named as unused, so that a block may not hold them."""
    one, other = (
        run(strategy, **changes)[0].model.state_dict()
        for changes in ({}, {"mixup": 1.0, "ema": 0.9, "optimizer": "sgd", "seed": 7, "label_smoothing": 0.3})
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    unused, used = (
        plugins.load("strategies", strategy).UNUSED,
        {"batch_size"} | ({"balance"} if strategy == "linear_probe" else set()),
    )
    assert set(unused) == TrainingOptions.model_fields.keys() - used
