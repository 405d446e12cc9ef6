"""Common wrong preprocessings of recordings, which the advisor tries (stages.lib.advice.preprocessing)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly

from stages.lib.core.contracts import Variant
from stages.lib.modalities.audio.features import HOP, MELS, Recordings, features, inside, mel_filters, power
from stages.lib.modalities.audio.files import FULL
from stages.lib.modalities.audio.inputs import padded

CPU = torch.device("cpu")


def as_on_card(packed: list[np.ndarray], preprocessing: dict[str, Any]) -> Recordings:
    """The card's preprocessing, with the arguments of a variant: packed recordings -> a batch."""
    waves, lengths = padded(packed, CPU)
    return features(waves, lengths, preprocessing)


def _at_rate(up: int, down: int) -> Callable[[list[np.ndarray], dict[str, Any]], Recordings]:
    """As if the weights had been trained at up / down times the sample rate of the card."""

    def prepare(packed: list[np.ndarray], preprocessing: dict[str, Any]) -> Recordings:
        resampled = [resample_poly(each.astype(np.float32), up, down) for each in packed]
        return as_on_card([each.round().clip(-FULL, FULL - 1).astype(np.int16) for each in resampled], preprocessing)

    return prepare


def _as(kind: str, factor: float) -> Callable[[list[np.ndarray], dict[str, Any]], Recordings]:
    """As if the weights had been trained on waves of another kind; spectrograms stay as they are."""

    def prepare(packed: list[np.ndarray], preprocessing: dict[str, Any]) -> Recordings:
        if preprocessing["features"] in MELS:
            return as_on_card(packed, preprocessing)
        values, lengths = as_on_card(packed, preprocessing | {"features": kind})
        return Recordings(values * factor, lengths)

    return prepare


def _mels(
    scale: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[list[np.ndarray], dict[str, Any]], Recordings]:
    """As if the weights had been trained on spectrograms of another scale; waves stay as they are.

    Args:
        scale: of the natural logarithms of the power (n, T, mels), with the frames that are no padding, (n, T, 1).
    """

    def prepare(packed: list[np.ndarray], preprocessing: dict[str, Any]) -> Recordings:
        if preprocessing["features"] not in MELS:
            return as_on_card(packed, preprocessing)
        waves, lengths = padded(packed, CPU)
        mels = power(waves, lengths, mel_filters(preprocessing["sample_rate"], MELS[preprocessing["features"]]))
        here = inside(lengths // HOP, mels.shape[1])[:, :, None]
        return Recordings((scale(mels.log(), here) * here).transpose(1, 2).contiguous(), lengths // HOP)

    return prepare


def _each_mel(logs: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 in each mel of each recording."""
    num = here.sum(1, keepdim=True)
    mean = (logs * here).sum(1, keepdim=True) / num
    variance = ((logs - mean).square() * here).sum(1, keepdim=True) / num
    return (logs - mean) / (variance + 1e-5).sqrt()


OTHER_RATE = (
    "The weights were probably trained on samples at {} the rate on their card. Look up how they were trained; if so, set "
    "source.<name>.preprocessing.sample_rate to that (log_mel is at 16,000 Hz alone: such weights were trained on recordings "
    "whose rate was mistaken)."
)
OTHER_FEATURES = (
    "The weights were probably trained on {}. Look up how they were trained (do_normalize in preprocessor_config.json); if so, "
    "set source.<name>.preprocessing.features to {}."
)
NOT_WHISPER = (
    "The weights were probably not trained on spectrograms as Whisper scales them, but on {}. Look up how they were trained; if "
    "so, they cannot be used here as they are."
)
# Each takes packed recordings and a card's preprocessing, and returns a batch.
VARIANTS: dict[str, Variant] = {
    "half the sample rate": Variant(_at_rate(1, 2), OTHER_RATE.format("half"), "rate"),
    "twice the sample rate": Variant(_at_rate(2, 1), OTHER_RATE.format("twice"), "rate"),
    "waves from -1 to 1": Variant(
        _as("raw_waves", 1), OTHER_FEATURES.format("samples from -1 to 1 that were not scaled", "raw_waves"), "scale"
    ),
    "waves of mean 0 and variance 1": Variant(
        _as("waves", 1), OTHER_FEATURES.format("recordings scaled to mean 0 and variance 1", "waves"), "scale"
    ),
    "waves of 16-bit numbers": Variant(
        _as("raw_waves", FULL),
        "The weights were probably trained on samples from -32768 to 32767. Look up how they were trained; if so, multiply the "
        "weights of their first layer by 32768, and set source.<name>.preprocessing.features to raw_waves.",
        "scale",
    ),
    "natural logarithms": Variant(_mels(lambda logs, here: logs), NOT_WHISPER.format("natural logarithms"), "scale"),
    "each mel of mean 0 and variance 1": Variant(_mels(_each_mel), NOT_WHISPER.format("mels of mean 0 and variance 1"), "scale"),
}
