"""Recordings of sound: mono, 16-bit, each as long as it is."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from stages.lib.params.fields import Strict

NOUN = "recording"  # what an example is called in messages
AUGMENTATIONS = ("none", "light", "strong")
MIXES = False  # two recordings at once are another task
RAGGED = True  # packed recordings differ in length
PER = ("example", "frame")  # what its networks can give one output for
PACKAGES = ("scipy", "soundfile", "transformers")  # what the served model needs besides torch and the like
WHISPER_RATE = 16_000  # Hz; the windows and filters of log_mel are made for this rate alone

# What is shown beside the most certain mistakes.
CAPTION = (
    "The pictures are spectrograms: time goes to the right, low tones are at the bottom, loud is dark. For one answer per "
    "recording, the strip below shows what it comes from: the darker, the more its score falls if that part is silenced."
)


class Preprocessing(Strict):
    """How recordings were preprocessed when the weights were trained.

    features: "log_mel" as Whisper computes it with 80 mels, "log_mel_128" with 128 (its large-v3); "waves" with mean 0 and
    variance 1 in each recording, as wav2vec 2.0 and HuBERT take them (do_normalize: true in their preprocessor_config.json);
    "raw_waves" from -1 to 1 (do_normalize: false, as for WavLM base).
    """

    sample_rate: int = Field(ge=4_000, le=192_000)  # samples per second
    features: Literal["log_mel", "log_mel_128", "waves", "raw_waves"]

    @model_validator(mode="after")
    def _rate_of_whisper(self) -> Self:
        if self.features.startswith("log_mel") and self.sample_rate != WHISPER_RATE:
            words = {"features": self.features, "rate": WHISPER_RATE, "given": self.sample_rate}
            raise PydanticCustomError(
                "log_mel_rate", "features {features} need sample_rate {rate}, as Whisper has it, and not {given}", words
            )
        return self


class Packing(Strict):
    """How the recordings of a dataset are packed, in addition to the source's card."""

    max_seconds: float = Field(ge=0.1, le=3_600)  # longer recordings are cut after this time
