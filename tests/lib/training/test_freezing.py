"""What is frozen is in evaluation mode, and what is trained in training mode."""

import pytest

from stages.lib.training.freezing import freeze, set_modes


def test_modes_follow_what_is_trained(model):
    freeze(model, {"head.weight"}, True)
    assert not any(module.training for module in model["backbone"].modules())  # dropout too
    freeze(model, {"backbone.1.weight"}, True)
    assert model["backbone"][1].training and model["backbone"][3].training and not model["head"].training
    assert not model["backbone"][0].training
    model.train()
    set_modes(model, True)
    assert not model["head"].training
    freeze(model, {"backbone.1.weight"}, False)
    assert not model["backbone"][1].training and model["backbone"][3].training


def test_an_unknown_name_is_an_error(model):
    with pytest.raises(KeyError, match=r"backbone\.9"):
        freeze(model, {"backbone.9.weight"}, True)
