"""What stands for the advised strategy trains nothing by itself."""

import pytest

from stages.lib.errors import UserError
from stages.lib.strategies import auto


def test_auto_says_that_the_advised_strategy_must_be_put_in_its_place(model):
    assert not auto.Params.model_fields
    with pytest.raises(UserError, match=r"stands for the advised strategy\. Run the stages advise and recipe first"):
        auto.plan(model)
