"""What surrounds an encoder of transformers: padding is hidden from it, and its steps become features."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout, gelu

from stages.lib.core.contracts import NO_STEP


class Encoder(nn.Module, ABC):
    """An encoder whose steps (pieces of text, frames of audio) become features."""

    def __init__(
        self, base: nn.Module, num_features: int, pooling: str, per: str, longest: int = 0, feature_encoder: tuple[str, ...] = ()
    ):
        """Wrap an encoder.

        Args:
            base: the encoder of transformers.
            num_features: D.
            pooling: how the steps of an example become one vector: their "mean", or the "first" of them.
            per: what there is one vector for: an "example", a "word" or a "frame".
            longest: the largest number of steps that it has positions for; 0 if there is no limit.
            feature_encoder: names of the modules that are its convolutional part.
        """
        super().__init__()
        self.base = base
        self.num_features, self.pooling, self.per = num_features, pooling, per
        self.longest, self.feature_encoder = longest, feature_encoder

    @abstractmethod
    def steps(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The features of all steps (n, S, D), and which of them are no padding (n, S)."""

    def forward(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Features (n, D), or (n, S, D) with NO_STEP in padded steps."""
        steps, valid = self.steps(*inputs)
        steps, valid = steps.float(), valid[..., None]  # a mean of many steps needs more than bfloat16
        if self.per != "example":
            return steps.masked_fill(~valid, NO_STEP)
        if self.pooling == "first":
            return steps[:, 0]
        return steps.masked_fill(~valid, 0).sum(1) / valid.sum(1).clamp_min(1)


class Text(Encoder):
    """A BERT or one of its kind."""

    base: Any

    @property
    def embedding(self) -> torch.Tensor:
        """The vector of each piece (V, E)."""
        weight: torch.Tensor = self.base.get_input_embeddings().weight
        return weight

    def steps(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From pieces (n, T), mask (n, T) and starts (n, W): which piece stands for each word, its first one; -1 for none."""
        pieces, mask, starts = inputs[:3]
        if pieces.shape[1] > self.longest:
            raise ValueError(f"a text has {pieces.shape[1]} pieces, and this network has positions for {self.longest}")
        steps: torch.Tensor = self.base(input_ids=pieces, attention_mask=mask.long()).last_hidden_state
        if self.per != "word":
            return steps, mask
        rows = torch.arange(starts.shape[0], device=starts.device)[:, None]
        return steps[rows, starts.clamp_min(0)], starts >= 0


class Waves(Encoder):
    """wav2vec 2.0, HuBERT or WavLM."""

    base: Any

    def __init__(self, base: Any, *args: Any, **kwargs: Any):
        super().__init__(base, *args, **kwargs)
        if base.config.feat_extract_norm == "group":
            base.feature_extractor.conv_layers[0] = NormalisedOverTime(base.feature_extractor.conv_layers[0])

    def steps(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From waves (n, S) and the number of valid samples (n,)."""
        values, lengths = inputs
        hidden = values[:, None]
        for layer in self.base.feature_extractor.conv_layers:
            hidden = layer(hidden, lengths) if isinstance(layer, NormalisedOverTime) else layer(hidden)
        frames = self.base._get_feat_extract_output_lengths(lengths).clamp_min(1)
        valid = _first(frames, hidden.shape[2])
        projected = self.base.feature_projection(hidden.transpose(1, 2))
        projected = projected[0] if isinstance(projected, tuple) else projected
        return self.base.encoder(projected, attention_mask=valid).last_hidden_state, valid


class NormalisedOverTime(nn.Module):
    """The first convolution of wav2vec 2.0 base and its like, each of whose channels is normalised over time.

    Here over the valid frames only. In transformers padding changes an example's features: it was trained without any padding.
    """

    def __init__(self, layer: Any):
        super().__init__()
        self.conv, self.layer_norm, self.activation = layer.conv, layer.layer_norm, layer.activation

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """From (n, 1, S), of which `lengths` (n,) samples are valid, to (n, channels, frames)."""
        hidden, norm = self.conv(values).float(), self.layer_norm
        valid = _first((lengths - self.conv.kernel_size[0]) // self.conv.stride[0] + 1, hidden.shape[2])[:, None]
        num = valid.sum(2, keepdim=True).clamp_min(1)
        hidden = hidden - hidden.masked_fill(~valid, 0).sum(2, keepdim=True) / num
        variance = hidden.masked_fill(~valid, 0).square().sum(2, keepdim=True) / num
        normalised = hidden * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
        activated: torch.Tensor = self.activation(normalised)
        return activated


class Mels(Encoder):
    """The encoder of Whisper."""

    def steps(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From log-mel spectrograms (n, mels, T) and the number of valid frames (n,); a step is two frames."""
        values, lengths = inputs
        num = (values.shape[2] - 1) // 2 + 1
        if num > self.longest:
            raise ValueError(f"a recording has {values.shape[2]} frames, and this network has positions for {2 * self.longest}")
        valid = _first((lengths - 1) // 2 + 1, num)
        return self.base(values, _first(lengths, values.shape[2]), valid), valid


class Whisper(nn.Module):
    """The parts of transformers' WhisperEncoder, which itself takes nothing but 30 seconds, padded with silence.

    Its positions are sinusoids and are not trained (Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision,
    2022), so they are a buffer.
    """

    positions: torch.Tensor

    def __init__(self, whole: Any):
        super().__init__()
        self.dropout: float = whole.config.dropout
        self.conv1, self.conv2, self.layers, self.layer_norm = whole.conv1, whole.conv2, whole.layers, whole.layer_norm
        self.register_buffer("positions", whole.embed_positions.weight.detach())

    def forward(self, values: torch.Tensor, valid_frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """From (n, mels, T) to (n, S, D); what is valid of them: (n, T) and (n, S)."""
        # The first convolution adds its bias to padding too, and the second one looks a frame ahead.
        frames = gelu(self.conv1(values)).masked_fill(~valid_frames[:, None], 0)
        hidden = gelu(self.conv2(frames)).transpose(1, 2) + self.positions[: valid.shape[1]]
        hidden = dropout(hidden, self.dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden, valid[:, None, None, :])
        normalised: torch.Tensor = self.layer_norm(hidden)
        return normalised


def _first(lengths: torch.Tensor, num: int) -> torch.Tensor:
    """Of `num` steps, the first `lengths` (n,): (n, num) of bool."""
    return torch.arange(num, device=lengths.device) < lengths[:, None]
