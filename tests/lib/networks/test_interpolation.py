"""The line between two networks."""

import numpy as np
import torch

from stages.lib.networks.interpolation import between


def test_the_ends_of_a_line_are_exact():
    """In every bit of what is compared, also where rounding or infinity would change a straight line."""
    generator = torch.Generator().manual_seed(0)
    one = {"a": torch.randn(1000, generator=generator), "count": torch.tensor(3)}
    other = {"a": torch.randn(1000, generator=generator) * 1e6, "count": torch.tensor(8)}
    assert torch.equal(between(one, other, 0.0)["a"], one["a"])
    assert torch.equal(between(one, other, 1.0)["a"], other["a"])
    np.testing.assert_allclose(between(one, other, 0.3)["a"], 0.7 * one["a"] + 0.3 * other["a"], rtol=1e-4, atol=0.1)
    assert between(one, other, 0.3)["count"] == 8
