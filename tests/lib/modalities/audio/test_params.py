"""What the card of a source and the block of a dataset may say."""

import pytest
from pydantic import ValidationError

from stages.lib.modalities.audio import Packing, Preprocessing


def test_log_mel_is_made_for_16_khz():
    for features in ("log_mel", "log_mel_128"):
        assert Preprocessing(sample_rate=16_000, features=features)
        with pytest.raises(ValidationError, match=f"features {features} need sample_rate 16000"):
            Preprocessing(sample_rate=8_000, features=features)
    assert Preprocessing(sample_rate=8_000, features="waves")


@pytest.mark.parametrize("wrong", [{"sample_rate": 0}, {"sample_rate": "16000"}, {"features": "mfcc"}])
def test_other_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"sample_rate": 16_000, "features": "waves"} | wrong)


@pytest.mark.parametrize("seconds", [0, -1, 0.01, 1e9])
def test_limits_of_max_seconds(seconds):
    with pytest.raises(ValidationError):
        Packing(max_seconds=seconds)
