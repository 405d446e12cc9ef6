"""Who of the known people it is, or nobody."""

import numpy as np
import pytest

from stages.lib.tasks.embed.gallery import identified


def test_the_nearest_person_is_named_if_near_enough():
    known = np.array([[3.0, 0, 0], [1, 0.2, 0], [0, 1, 0], [0, 1, 0.3]])
    asked = np.array([[2.0, 0.1, 0], [0, 9, 1], [0, 0, -1], [1, 1, 0]])
    found = identified(known, ["anna", "anna", "ben", "ben"], asked, 0.8)
    assert found["person"].tolist() == ["anna", "ben", "nobody", "nobody"]
    assert found["nearest"].tolist()[:2] == ["anna", "ben"]
    lengths = np.linalg.norm(known, axis=1), np.linalg.norm(asked, axis=1)
    cosines = asked @ known.T / lengths[1][:, None] / lengths[0]
    assert found["similarity"] == pytest.approx(np.maximum(cosines[:, :2].mean(1), cosines[:, 2:].mean(1)))
    certain = identified(known, ["anna", "anna", "ben", "ben"], asked, -2)
    assert "nobody" not in certain["person"] and identified(known[:1], ["anna"], asked, 1.1)["person"].tolist() == ["nobody"] * 4
