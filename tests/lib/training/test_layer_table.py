"""The table of what each phase trains, layer by layer."""

import pytest
from torch import nn

from stages.lib.core.contracts import Phase
from stages.lib.networks import backbones, layers
from stages.lib.training.setup import layer_table, told
from tests.lib.training.whole import prepare
from tests.tiny import RESNET


def by_hand(backbone):
    return backbones.Model(backbone, nn.Linear(4, 2))


def test_the_table_says_what_each_phase_trains():
    model = backbones.build(RESNET | {"head": {"hidden": 4}}, 3)
    head = layers.head_rates(model, 0.5)
    assert head == dict.fromkeys(["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"], 0.5)
    mixed = {"backbone.layer4.0.conv2.weight": 0.1, "backbone.layer4.0.bn2.weight": 0.01, "backbone.layer4.0.bn2.bias": 0.2}
    table = layer_table(model, [Phase(head, 1, plain=True), Phase(head | mixed, 1)])
    found = layers.layers(model)
    assert table.phase.tolist() == [0] * (len(found) + 2) + [1] * (len(found) + 2)
    for phase in (0, 1):
        rows = table[table.phase == phase]
        assert rows.number.tolist() == list(range(1, len(found) + 3))
        assert rows.layer.tolist() == [layer.name for layer in found] + ["head.0", "head.2"]
        assert rows.block.tolist() == [layer.block for layer in found] + ["head", "head"]
        assert rows.parameters.sum() == sum(parameter.numel() for parameter in model.parameters())
        assert rows[rows.block == "head"].lr_min.tolist() == [0.5, 0.5]
    trained = table[(table.trainable > 0) & (table.block != "head")]
    width = model.backbone.layer4[0].bn2.num_features
    weight = model.backbone.layer4[0].conv2.weight.numel()
    assert trained[["phase", "layer", "parameters", "trainable", "lr_min", "lr_max"]].values.tolist() == [
        [1, "layer4.0.conv2", weight + 2 * width, weight + 2 * width, 0.01, 0.2]
    ]
    assert (table[table.trainable == 0][["lr_min", "lr_max"]] == 0).all(axis=None)


def test_a_layer_trained_in_part_has_a_lowest_rate_of_0():
    model = by_hand(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    table = layer_table(model, [Phase({"backbone.1.bias": 0.1}, 1)])
    assert table[["layer", "parameters", "trainable", "lr_min", "lr_max"]].values.tolist() == [
        ["0", 20, 0, 0.0, 0.0], ["1", 20, 4, 0.0, 0.1], ["head", 10, 0, 0.0, 0.0]]  # fmt: skip


def test_without_phases_or_a_trained_head_the_table_still_has_its_columns():
    model = backbones.Model(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Identity())
    assert layer_table(model, []).columns.tolist() == [
        "phase",
        "number",
        "layer",
        "block",
        "parameters",
        "trainable",
        "lr_min",
        "lr_max",
    ]
    assert layer_table(model, [Phase({"backbone.1.bias": 0.1}, 1)]).layer.tolist() == ["0", "1"]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("feature_extraction", ["1 of 16 layers are trained (head), 194 of {all} parameters; peak learning rate 0.01"]),
        ("lp_ft", ["Phase 1 of 2: 1 of 16 layers", "Phase 2 of 2: 16 of 16 layers are trained (8 blocks from", "{all} of {all}"]),
        ("partial", ["layers are trained (layer3.0, layer4.0, head), ", "peak learning rate 0.0005 to 0.01"]),
        ("knn", ["No layer is trained: the head is computed from the features of the training examples."]),
        ("linear_probe", ["No layer is trained: the head is computed from the features of the training examples."]),
        ("frozen", ["No layer is trained."]),
    ],
)
def test_what_is_trained_is_told_in_a_line_for_each_phase(strategy, words):
    setup = prepare(strategy)[1]
    lines = told(setup)
    assert len(lines) == max(1, len(setup.phases))
    num = sum(parameter.numel() for parameter in setup.model.parameters())
    for each in words:
        assert each.format(all=f"{num:,}") in "\n".join(lines)
