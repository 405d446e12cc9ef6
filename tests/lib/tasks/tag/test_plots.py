"""The plot of a tagger."""

import numpy as np
import pytest
from PIL import Image

from stages.lib.tasks.tag import plots


def figure(value, spread=0.05):
    return {
        "value": value,
        "lower": None if value is None else value - spread,
        "upper": None if value is None else value + spread,
    }


@pytest.mark.parametrize("num", [1, 2, 20, 100])
@pytest.mark.parametrize("nothing", [0.2, 0.95])
def test_many_types_fit(tmp_path, num, nothing):
    per_type = {f"type {i} with a long name": {"f1": figure(i / num), "support": i, "predicted": 1} for i in range(num)}
    per_type["absent"] = {"f1": figure(None), "support": 0, "predicted": 0}
    report = {"per_type": per_type, "metrics": {"token_accuracy": figure(0.9), "entity_f1": figure(0.5)},
              "num_entities": 99, "token_accuracy_of_o": nothing}  # fmt: skip
    kinds = {"right": 9, "wrong type": 3, "wrong boundary": 0, "missed": 1234}
    for name in ("entities.png", "again.png"):
        plots.entities(tmp_path / name, report, kinds, "title")
    assert (tmp_path / "entities.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(tmp_path / "entities.png") as image:
        assert image.width <= 720 and image.height <= 1200
        assert np.asarray(image.convert("L")).std() > 10, "not blank"
