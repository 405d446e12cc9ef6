"""WiSE-FT keeps the best point on the line from the probed to the fine-tuned network."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from tests.lib.training.whole import run
from tests.tiny import PX, noise


@pytest.mark.parametrize(
    ("network", "swapped", "hyperparameters", "kept"),
    [
        ("test_resnet", True, {"lr": 0.02}, 0.0),  # fine-tuning only harms, on labels that say the opposite
        ("test_resnet", False, {"lr": 0.05, "epochs": 1}, 0.25),
        ("test_resnet", False, {"lr": 0.002}, 1.0),
        pytest.param("test_vit", True, {"lr": 0.02}, 0.0, marks=pytest.mark.slow),
        pytest.param("test_vit", False, {"lr": 0.002}, 0.25, marks=pytest.mark.slow),
        ("test_vit", False, {"lr": 0.0001}, 1.0),
    ],
)
def test_wise_ft_keeps_the_best_point_between_the_probe_and_the_fine_tuned(network, swapped, hyperparameters, kept):
    states, val = [], noise(16, 1, px=PX[network])
    val = val._replace(targets=1 - val.targets) if swapped else val
    setup, trained = run("wise_ft", network, val, hyperparameters, save=lambda state: states.append(copy.deepcopy(state)))
    table = trained.tables["alpha"]
    probe, tuned = states[-1]["start"], states[-1]["best"]["model"]
    assert list(table.alpha) == [0, 0.25, 0.5, 0.75, 1]
    model = backbones.build(setup.architecture, 2)
    for row in table.itertuples():
        mixed = {
            name: torch.from_numpy(np.asarray((1 - row.alpha) * probe[name].numpy() + row.alpha * tensor.numpy()))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in tuned.items()
        }
        model.load_state_dict(mixed)
        loss = cross_entropy(predict(model, val, 8), val.targets).item()
        assert row.val_loss == pytest.approx(loss, rel=1e-3, abs=1e-4)
    best = table.val_loss.idxmin()
    assert list(table.kept) == [index == best for index in range(5)]
    assert table.alpha[best] == kept
    assert trained.best["val_loss"] == table.val_loss[best] and trained.best["val_accuracy"] == table.val_accuracy[best]

    end = {0: probe, 1: tuned}.get(kept)
    if end:
        assert all(torch.equal(parameter, end[name]) for name, parameter in setup.model.named_parameters())
    assert (trained.certificate.verdict == "ok").all()
    whole = trained.certificate[trained.certificate.phase == "all"].set_index("tensor")
    backbone = [name for name, _ in setup.model.named_parameters() if name.startswith("backbone.")]
    assert whole.moved[backbone].any() == whole.moved[backbone].all() == (kept > 0)
    assert trained.certificate[trained.certificate.phase == "1"].moved.all()  # that fine-tuning did move is still proved
    phase = trained.history.set_index("epoch").phase[trained.best["epoch"]]
    assert phase == (0 if kept == 0 else 1)
