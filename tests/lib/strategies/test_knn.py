"""The nearest neighbours, against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from stages.lib.networks.inference import predict
from tests.lib.training.whole import run, unit_features
from tests.tiny import PX, noise


@pytest.mark.parametrize("network", PX)
def test_knn_trains_nothing_and_answers_as_scikit_learn(network):
    val = noise(16, 1, px=PX[network])
    setup, trained = run("knn", network, val=val)
    reference = KNeighborsClassifier(3, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / 0.07))
    reference.fit(unit_features(setup, noise(px=PX[network])), noise(px=PX[network]).targets)
    shares = predict(setup.model, val, 5).exp().numpy()
    np.testing.assert_allclose(shares, reference.predict_proba(unit_features(setup, val)).clip(1e-6), atol=2e-3)
    assert len(trained.history) == 1 and trained.best["epoch"] == 1
    assert setup.architecture["head"] == {"kind": "knn", "neighbours": 3, "temperature": 0.07, "num_examples": 24}
