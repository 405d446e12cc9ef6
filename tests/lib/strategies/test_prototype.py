"""The class means, against numpy."""

import numpy as np
import pytest

from stages.lib.networks.inference import predict
from tests.lib.training.whole import run, unit_features
from tests.tiny import PX, noise


@pytest.mark.parametrize("network", PX)
def test_prototypes_train_nothing_and_answer_as_class_means_do(network):
    val = noise(16, 1, px=PX[network])
    setup, _ = run("prototype", network, val=val)
    values, labels = unit_features(setup, noise(px=PX[network])), noise(px=PX[network]).targets.numpy()
    means = np.stack([values[labels == label].mean(0) for label in (0, 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(predict(setup.model, val, 5), unit_features(setup, val) @ means.T / 0.07, atol=2e-3)
