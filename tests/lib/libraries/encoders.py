"""Tiny encoders of every supported kind, and batches for them: three examples of different lengths."""

from typing import Any

import torch

from stages.lib.libraries import transformers as library

BERT = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 40}  # fmt: skip
WAVE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [16, 16, 16],
        "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 3], "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4}  # fmt: skip
LARGE = WAVE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}  # as the large ones of each kind
TINY: dict[str, dict[str, Any]] = dict.fromkeys(library.TEXT, BERT) | {
    "distilbert": {"vocab_size": 60, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40},
    "electra": BERT | {"embedding_size": 16},
    "modernbert": BERT | {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
                          "local_attention": 8},
    "deberta-v2": BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
                          "norm_rel_ebd": "layer_norm", "position_buckets": 8, "share_att_key": True, "type_vocab_size": 0},
    "wav2vec2": WAVE, "hubert": WAVE, "wavlm": WAVE,
    "whisper": {"vocab_size": 60, "num_mel_bins": 8, "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4,
                "encoder_ffn_dim": 64, "max_source_positions": 30, "decoder_layers": 1, "decoder_attention_heads": 4,
                "decoder_ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
                "begin_suppress_tokens": [3]},
}  # fmt: skip
ALL = [*TINY.items(), ("wav2vec2", LARGE), ("hubert", LARGE), ("wavlm", LARGE)]
IDS = [*TINY, *(f"{model}-large" for model in ("wav2vec2", "hubert", "wavlm"))]


def built(model: str, config: dict[str, Any], per: str = "example", pooling: str = "mean", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return library.network(model, config, pooling, per)


def batch(model: str) -> tuple[torch.Tensor, ...]:
    """Padded with 0, as modalities make them."""
    draws = torch.Generator().manual_seed(1)
    lengths = torch.tensor(
        {"text": [14, 5, 9], "whisper": [51, 18, 33]}.get("text" if model in library.TEXT else model, [801, 400, 633])
    )
    padded = torch.arange(lengths.max()) >= lengths[:, None]
    if model in library.TEXT:
        pieces = torch.randint(3, 60, padded.shape, generator=draws).masked_fill(padded, 0)
        return pieces, ~padded, torch.tensor([[1, 3, 4], [1, -1, -1], [2, 5, -1]])
    if model == "whisper":
        return torch.randn(3, 8, padded.shape[1], generator=draws).masked_fill(padded[:, None], 0), lengths
    return torch.randn(padded.shape, generator=draws).masked_fill(padded, 0), lengths


def alone(inputs: tuple[torch.Tensor, ...], row: int) -> tuple[torch.Tensor, ...]:
    """One example of a batch, without padding."""
    if len(inputs) == 3:
        pieces, mask, starts = (each[row : row + 1] for each in inputs)
        return pieces[:, : mask.sum()], mask[:, : mask.sum()], starts[:, : (starts >= 0).sum()]
    values, lengths = (each[row : row + 1] for each in inputs)
    return values[..., : int(lengths)], lengths


def steps_of(model: str) -> str:
    return "word" if model in library.TEXT else "frame"
