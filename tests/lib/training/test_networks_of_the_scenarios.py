"""The networks that scenarios name beside those of the package index, with random weights: trained as their scenarios say."""

import pytest
import torch
from lightning_fabric import Fabric
from ruamel.yaml import YAML

from stages.commands.scenario import FOLDER
from stages.lib.core import plugins
from stages.lib.networks import backbones, layers
from stages.lib.networks.layers import normalisations
from stages.lib.params.fields import Trainable
from stages.lib.training import setup as setups
from tests.lib.training.whole import train
from tests.tiny import noise, options

CASES = [("products", "resnet50"), ("gentle", "resnet18"), ("xray", "densenet121"), ("keras", "resnet50")]


@pytest.mark.parametrize(("scenario", "name"), CASES)
def test_it_trains_what_the_scenario_says_and_nothing_else(scenario, name):
    overlay = YAML(typ="safe").load(FOLDER / f"{scenario}.yaml")
    strategy = overlay["strategy"]
    declared = plugins.load("strategies", strategy).Params.model_fields
    how = {key: value for key, value in overlay["strategies"][strategy].items() if key in declared} | {"epochs": 1}
    if "trainable" in how:
        how["trainable"] = Trainable(**how["trainable"])
    network = {"library": "torchvision", "model": name}
    torch.manual_seed(0)
    weights = backbones.build(network | {"head": {}}, 7).state_dict()

    torch.use_deterministic_algorithms(True)
    fabric = Fabric(accelerator="cpu", devices=1)
    setup = setups.prepare(
        fabric, weights, network, 2, "example", strategy=strategy, hyperparameters=how,
        options=options(head=overlay["training"]["head"], warmup_epochs=0.5), num_examples=16, seed=1, same_outputs=False,
    )  # fmt: skip
    trained = train(fabric, setup, noise(16), noise(8, seed=1), warmup_epochs=0.5, batch_size=8)
    whole = trained.certificate[trained.certificate.phase == "all"]
    assert (whole.verdict == "ok").all()

    table = layers.layers(setup.model)
    frozen = {"products": len(table), "gentle": 0, "xray": 50, "keras": len(table) * 8 // 10}[scenario]
    still = {tensor for layer in table[:frozen] for tensor in layer.tensors}
    moved = set(whole[whole.moved].tensor)
    assert still & moved == set() and {tensor for layer in table[frozen:] for tensor in layer.tensors} <= moved
    norms = [f"{path}." for path, module in setup.model.named_modules() if isinstance(module, normalisations())]
    statistics = {tensor for tensor in whole.tensor if tensor.endswith(("running_mean", "running_var"))}
    of_frozen = {tensor for tensor in statistics if tensor.rpartition(".")[0] + ".weight" in still}
    assert norms and of_frozen & moved == set() and statistics - of_frozen <= moved, "norms of frozen layers are frozen too"
    if scenario == "keras":
        assert [tuple(tensor.shape) for key, tensor in setup.model.head.state_dict().items() if key.endswith("weight")] == [
            (256, 2048),
            (2, 256),
        ]
