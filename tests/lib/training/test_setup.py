"""What a training begins with: the new head, what is declared to move, and what can be told before it begins."""

from contextlib import nullcontext

import pytest
import torch
from lightning_fabric import Fabric

from stages.lib.errors import UserError
from stages.lib.modalities.image import inputs
from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from stages.lib.strategies import gradual
from stages.lib.training import setup as setups
from tests.lib.training.whole import HYPERPARAMETERS, prepare, train, weights
from tests.tiny import HOW, PX, noise, options


def test_more_is_trained_than_the_data_supports_is_foreseen():
    _, setup = prepare("full")
    num = sum(parameter.numel() for name, parameter in setup.model.named_parameters() if name.startswith("backbone."))
    (told,) = setups.foreseen(setup, 24, 100)
    assert f"{num:,} parameters of the backbone on 24 examples" in told and "feature_extraction" in told
    assert setups.foreseen(setup, 24, num / 24) == []
    for strategy in ("feature_extraction", "knn", "norm_only"):
        assert setups.foreseen(prepare(strategy)[1], 24, 100) == []


def test_adapters_count_as_what_is_trained():
    _, setup = prepare("lora", "test_vit")
    num = sum(tensor.numel() for name, tensor in setup.model.named_parameters() if ".lora_" in name)
    (told,) = setups.foreseen(setup, 24, 100)
    assert f"{num:,} parameters of the backbone on 24 examples" in told


def test_what_several_phases_train_counts_once():
    both = [setups.foreseen(prepare(strategy)[1], 24, 100) for strategy in ("full", "gradual")]
    assert both[0] == both[1]


def test_random_weights_and_heads_come_from_the_seed():
    built = [prepare("scratch", seed=seed, from_random=True)[1].before for seed in (1, 1, 2)]
    assert all(torch.equal(tensor, built[1][name]) for name, tensor in built[0].items())
    assert not torch.equal(built[0]["backbone.conv1.0.weight"], built[2]["backbone.conv1.0.weight"])
    heads = [prepare("full", seed=seed)[1].before["head.weight"] for seed in (1, 2)]
    assert not torch.equal(*heads)


def test_a_head_is_built_from_its_specification_which_the_model_keeps():
    layers = {"hidden": 5, "dropout": 0.2, "zero": True}
    fabric, setup = prepare("gradual", head=layers | {"keep": False})
    assert setup.architecture == {"library": "timm", "model": "test_resnet", "head": {"kind": "linear", **layers}}
    val = noise(16, 1)
    assert (predict(setup.model, val, 8) == 0).all()
    trained = train(fabric, setup, noise(), val)
    assert (trained.certificate.verdict == "ok").all()
    again = backbones.build(setup.architecture, 2)
    again.load_state_dict(setup.model.state_dict())
    torch.testing.assert_close(predict(again, val, 16), predict(setup.model, val, 16), atol=1e-5, rtol=0)
    assert (predict(again, val, 8) != 0).any()


def test_the_head_of_the_starting_point_has_no_part_in_the_new_one():
    """Neither its specification nor its tensors, which are for another number of outputs."""
    start = {"library": "timm", "model": "test_resnet", "head": {"kind": "prototype", "temperature": 1.0}}
    tensors = weights("test_resnet") | {"head.means": torch.zeros(7, 96)}
    setup = setups.prepare(
        Fabric(accelerator="cpu", devices=1), tensors, start, 2, "example", strategy="full",
        hyperparameters=HYPERPARAMETERS["full"], options=options(), num_examples=24, seed=1, same_outputs=False,
    )  # fmt: skip
    assert setup.architecture["head"] == {"kind": "linear", "hidden": 0, "dropout": 0, "zero": False}
    shapes = {name: list(tensor.shape) for name, tensor in setup.model.head.named_parameters()}
    assert shapes == {"weight": [2, 96], "bias": [2]}


def test_an_image_size_that_the_network_does_not_take_is_told_before_training():
    _, setup = prepare("full", "test_vit")
    for px, taken in ((160, True), (100, False)):
        probe = inputs.probe(HOW | {"px": px}, torch.device("cpu"))
        message = rf"timm test_vit does not take inputs as datasets.birds packs them \(px {px}, fit squash\): "
        with nullcontext() if taken else pytest.raises(UserError, match=message):
            setups.require_that_it_takes(setup, probe, "birds", {"px": px, "fit": "squash"})


@pytest.mark.parametrize("network", PX)
def test_the_table_of_layers_says_who_trains_at_which_rate(network):
    with torch.device("meta"):
        model = backbones.build({"library": "timm", "model": network}, 3)
    phases = gradual.plan(model, epochs=1, steps=3, lr=0.1, head_lr=0.5, decay=0.5)
    table = setups.layer_table(model, phases)
    for number, phase in enumerate(phases):
        rows = table[table.phase == number]
        assert rows.trainable.sum() == sum(model.get_parameter(name).numel() for name in phase.lrs)
        assert set(rows.lr_max) - {0.0} == set(phase.lrs.values())
    assert prepare("gradual", network)[1].layers.block.iloc[-1] == "head"
