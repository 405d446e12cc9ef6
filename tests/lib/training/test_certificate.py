"""The certificate finds what the usual fine-tuning scripts get wrong."""

import pytest
import torch
from torch import nn

from stages.lib.errors import UserError
from stages.lib.networks import backbones, heads
from stages.lib.training.certificate import certify, certify_own, declare, fingerprint, require
from stages.lib.training.freezing import freeze


def forward(model, images):
    return model["head"](model["backbone"](images).mean((2, 3)))


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def steps(model, optimizer, num=5, set_to_none=True):
    generator = torch.Generator().manual_seed(0)
    for _ in range(num):
        images = torch.randn(8, 3, 8, 8, generator=generator) + 1
        nn.functional.cross_entropy(forward(model, images), torch.arange(8) % 2).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)


def test_frozen_stays_frozen_bit_for_bit(model):
    freeze(model, {"head.weight", "head.bias"}, True)
    declared, before = declare(model), state(model)
    steps(model, torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1))
    table = certify(before, model.state_dict(), declared)
    require(table)
    assert table.set_index("tensor").moved.to_dict() == {name: name.startswith("head") for name in before}


def test_batchnorm_that_drifts_in_training_mode_is_found(model):
    """The usual script: requires_grad = False for all, model.train(), and 'frozen' statistics that move."""
    freeze(model, {"head.weight", "head.bias"}, True)
    declared, before = declare(model), state(model)
    model.train()
    steps(model, torch.optim.SGD(model["head"].parameters(), 0.1))
    with pytest.raises(UserError, match=r"(?s)backbone.1.running_mean.*frozen but moved"):
        require(certify(before, model.state_dict(), declared))


def test_a_layer_in_the_optimizer_that_was_frozen_is_found(model):
    """The other usual script: a layer gets its own learning rate after it was frozen, and never moves."""
    everything = {name for name, _ in model.named_parameters()}
    freeze(model, everything, True)
    declared, before = declare(model), state(model)
    for parameter in model["backbone"].parameters():
        parameter.requires_grad_(False)
    steps(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(UserError, match=r"(?s)backbone.0.weight.*never moved"):
        require(certify(before, model.state_dict(), declared))


def test_weight_decay_that_moves_refrozen_weights_is_found(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    steps(model, optimizer, set_to_none=False)
    freeze(model, {"head.weight", "head.bias"}, True)
    declared, before = declare(model), state(model)
    steps(model, optimizer, set_to_none=False)
    with pytest.raises(UserError, match=r"backbone.0.weight \(declared frozen\): frozen but moved"):
        require(certify(before, model.state_dict(), declared))


def test_statistics_are_declared_only_where_they_follow_the_data(model):
    freeze(model, {"backbone.1.weight"}, True)
    assert declare(model)["backbone.1.running_mean"] == "statistics"
    freeze(model, {"backbone.1.weight"}, False)
    assert declare(model)["backbone.1.running_mean"] == "frozen"
    freeze(model, {"backbone.0.weight"}, True)
    assert declare(model)["backbone.1.running_mean"] == "frozen"


def computed_head(kind):
    spec = {"knn": {"neighbours": 2, "num_examples": 6}, "prototype": {}}[kind]
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    model = backbones.Model(backbone, heads.build(5, 3, kind=kind, temperature=0.1, **spec))
    freeze(model, set(), True)
    return model


@pytest.mark.parametrize("kind", ["knn", "prototype"])
def test_a_head_that_is_computed_must_have_been_computed(kind):
    """And is neither frozen, nor trained, nor a statistic that merely follows the data."""
    model = computed_head(kind)
    declared, before = declare(model), state(model)
    buffers = {"knn": {"head.features", "head.labels"}, "prototype": {"head.means"}}[kind]
    assert {name for name, what in declared.items() if what == "computed"} == buffers
    assert {what for name, what in declared.items() if name not in buffers} == {"frozen"}
    with pytest.raises(UserError, match=r"head\.\w+ \(declared computed\): never moved"):
        require(certify(before, model.state_dict(), declared))
    model.head.compute(torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]))
    table = certify(before, model.state_dict(), declared)
    require(table)
    assert set(table[table.moved].tensor) == buffers


def test_computing_a_head_hides_nothing_that_happens_to_the_backbone():
    model = computed_head("prototype")
    declared, before = declare(model), state(model)
    model.head.compute(torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]))
    with torch.no_grad():
        model.backbone[0].weight[0, 0] += 1e-6
    with pytest.raises(UserError, match=r"backbone.0.weight \(declared frozen\): frozen but moved"):
        require(certify(before, model.state_dict(), declared))


def test_statistics_that_do_not_follow_the_data_are_found(model):
    """A normalisation that is trained, but was left in evaluation mode."""
    freeze(model, {name for name, _ in model.named_parameters()}, True)
    declared, before = declare(model), state(model)
    model["backbone"][1].eval()
    steps(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(UserError, match=r"running_mean \(declared statistics\): never moved"):
        require(certify(before, model.state_dict(), declared))


def test_a_row_says_what_moved_how_far_and_from_which_bits_to_which():
    before = {"a": torch.tensor([[3.0, 4.0]]), "b": torch.zeros(2), "count": torch.tensor(7)}
    after = {"a": torch.tensor([[3.0, 4.5]]), "b": torch.tensor([0.0, 1e-30]), "count": torch.tensor(7)}
    table = certify(before, after, {"a": "trainable", "b": "statistics", "count": "frozen"}).set_index("tensor")
    assert list(table["shape"]) == ["1x2", "2", "scalar"]
    assert list(table.moved) == [True, True, False] and list(table.verdict) == ["ok"] * 3
    assert list(table.change) == [0.1, 1.0, 0.0]  # of a tensor of zeros there is no share
    assert table.before["a"] == fingerprint(before["a"]) != table.after["a"] == fingerprint(after["a"])


def test_a_long_list_of_mistakes_is_cut_and_counted():
    before = {f"layer{number}": torch.zeros(1) for number in range(25)}
    with pytest.raises(UserError, match=r"(?s)for 25 of 25 tensors:.*layer19 .*and 5 more\nA frozen") as error:
        require(certify(before, before, dict.fromkeys(before, "trainable")))
    assert "layer20" not in str(error.value)


def test_a_fingerprint_tells_one_bit_and_a_shape_apart():
    tensor = torch.zeros(4)
    other = tensor.clone()
    other[2] = -0.0  # equal in value, not in bits
    assert fingerprint(tensor) == fingerprint(torch.zeros(4))
    assert len({fingerprint(t) for t in (tensor, other, tensor.view(2, 2), tensor.double())}) == 4
    assert fingerprint(torch.zeros(2, 3, 4, 5)) == fingerprint(torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last))


def test_a_module_that_only_serves_the_training_is_not_shipped_and_need_not_move():
    before = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    table = certify_own(before, before | {"weight": 2 * torch.ones(2, 2)}).set_index("tensor")
    assert list(table.index) == ["penalty.weight", "penalty.bias"]
    assert list(table.declared) == ["not shipped"] * 2 and list(table.moved) == [True, False]
    require(table.reset_index())
