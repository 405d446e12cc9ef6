"""Encoders of text and speech from transformers, with random weights; nothing is ever downloaded.

Only architectures are taken: sizes come from params.yaml or from the config.json that lies beside weights.
"""

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from stages.lib.errors import UserError, listed, nearest
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from torch import Tensor, nn

LICENCE = "Apache-2.0 (code of transformers)"
PER = ("example", "word", "frame")

# By the name that transformers calls model_type: what precedes the encoder's names in files that hold heads too.
TEXT: dict[str, tuple[str, ...]] = {
    "bert": ("bert.",), "camembert": ("roberta.",), "deberta-v2": ("deberta.",), "distilbert": ("distilbert.",),
    "electra": ("electra.",), "modernbert": ("model.",), "mpnet": ("mpnet.",), "roberta": ("roberta.",),
    "xlm-roberta": ("roberta.",),
}  # fmt: skip
AUDIO: dict[str, tuple[str, ...]] = {
    "hubert": ("hubert.",), "wav2vec2": ("wav2vec2.",), "wavlm": ("wavlm.",), "whisper": ("model.encoder.", "encoder."),
}  # fmt: skip

# Their first position is the one after that of padding (as in fairseq, where they come from).
SHIFTED = ("camembert", "mpnet", "roberta", "xlm-roberta")

# What belongs to training from scratch, or to other heads: it is fixed here, and not taken from a config.json.
FIXED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
NOT_TAKEN = (*FIXED, "decoder_*", "*suppress_tokens", "bos_token_id", "eos_token_id", "use_cache", "output_hidden_size")
NO_ENCODER = ("is_decoder", "add_cross_attention", "add_adapter")
# Read by transformers, but not declared in the class of the config.
UNDECLARED = {"deberta-v2": ("position_buckets", "norm_rel_ebd", "share_att_key", "conv_kernel_size", "conv_act",
                             "embedding_size")}  # fmt: skip

# In files whose names have no prefix: heads, and buffers that newer versions compute.
LEFT_OUT = ("pooler.", "cls.", "classifier.", "lm_head.", "qa_outputs.", "embeddings.position_ids", "masked_spec_embed")
RENAMED = [
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),  # files from TensorFlow
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
    (r"pos_conv_embed\.conv\.weight_g$", "pos_conv_embed.conv.parametrizations.weight.original0"),  # torch before 2.0
    (r"pos_conv_embed\.conv\.weight_v$", "pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"^embed_positions\.weight$", "positions"),  # of Whisper, see _encoders.py
]


class Params(Strict):
    model: str = Field(min_length=1)  # what transformers calls model_type
    pooling: Literal["mean", "first"]  # how the features of tokens or frames become one vector for an example
    config: dict[str, Any]  # {}: read from config.json beside the weights; else the values that differ from the defaults


def network(model: str, config: dict[str, Any], pooling: str, per: str) -> "nn.Module":
    """Build an encoder; its features are per example, word (of text) or frame (of audio).

    Raises:
        UserError: it is not among those supported, or its config does not fit it.
    """
    import inspect

    import torch
    from transformers.models.auto.modeling_auto import MODEL_MAPPING
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from stages.lib.libraries import _encoders

    settings = _settings(model, config)
    if per not in (able := ("example", "word") if model in TEXT else ("example", "frame")):
        raise UserError(f"architecture.model: {model} gives features per {' or '.join(able)}; needed: one per {per}.")
    try:
        kind: Any = WhisperEncoder if model == "whisper" else MODEL_MAPPING[type(settings)]
        no_pooler = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        base = kind._from_config(settings, dtype=torch.float32, **no_pooler)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:  # sizes that do not go together, ...
        raise UserError(f"architecture.config: transformers cannot build a {model} of {config}: {error}") from None
    size = settings.hidden_size
    if model == "whisper":
        base = _encoders.Whisper(base)
        return _encoders.Mels(base, size, pooling, per, settings.max_source_positions, ("base.conv1", "base.conv2"))
    _order(base, settings)
    if model in AUDIO:
        return _encoders.Waves(base, size, pooling, per, feature_encoder=("base.feature_extractor",))
    longest = settings.max_position_embeddings - (settings.pad_token_id + 1 if model in SHIFTED else 0)
    return _encoders.Text(base, size, pooling, per, longest)


def head(network: "nn.Module") -> str:
    """No head of its own: the features are its output."""
    return ""


def complete(architecture: dict[str, Any], beside: dict[str, bytes]) -> dict[str, Any]:
    """The architecture, with its config read from the config.json beside the weights if it is {}.

    Raises:
        UserError: there is none, or it is of another model.
    """
    if architecture["config"]:
        return architecture
    model = architecture["model"]
    kind, known = _config_class(model)
    try:
        given = json.loads(beside.get("config.json", b"{}"))
        if (found := given.get("model_type", model)) != model:
            raise UserError(f"architecture.model: {model} was given, but config.json beside the weights is that of a {found}.")
        whole, default = kind.from_dict(given).to_dict(), kind().to_dict()
    except UserError:
        raise
    except Exception as error:  # not JSON, not a block, or values of another type: each raises its own kind
        raise UserError(f"config.json beside the weights cannot be read as that of a {model}: {error}") from None
    if not given.keys() & {*known, *kind.attribute_map}:
        raise UserError(
            "architecture.config: {} was given, and there is no config.json of transformers beside the weights to read it from "
            "(weights: file takes a folder that holds both). "
            f"Give the values that differ from the defaults of {kind.__name__}, or one of them if none does, such as "
            f"{{vocab_size: {default['vocab_size']}}}."
        )
    taken = [name for name in known if name in whole and not any(fnmatchcase(name, pattern) for pattern in NOT_TAKEN)]
    config = {name: whole[name] for name in taken if name not in default or whole[name] != default[name]}
    return architecture | {"config": config or {"vocab_size": whole["vocab_size"]}}  # {} would mean: still to be read


def rename(state: "dict[str, Tensor]", architecture: dict[str, Any]) -> "tuple[dict[str, Tensor], list[str]]":
    """From the names in files, with or without heads, to those of `network`.

    Returns:
        The tensors in float32, and the names of those left out on purpose: heads, poolers, decoders, buffers that are computed.
        What is neither keeps its name, so that loading reports it.
    """
    prefixes = (TEXT | AUDIO)[architecture["model"]]
    prefix = next((each for each in prefixes if any(name.startswith(each) for name in state)), "")
    renamed, left_out = {}, []
    for name, tensor in state.items():
        own = name.removeprefix(prefix)
        if (prefix and own == name) or own.startswith(LEFT_OUT):  # what stands beside the encoder is a head
            left_out.append(name)
            continue
        for old, new in RENAMED:
            own = re.sub(old, new, own)
        renamed[f"base.{own}"] = tensor.float()
    return renamed, left_out


def _config_class(model: str) -> tuple[Any, list[str]]:
    """The class of a model's config, and the keys that it knows, without those that all models have (names, versions, labels)."""
    if model not in TEXT | AUDIO:
        raise UserError(
            f"architecture.model: transformers has no encoder {model!r} that is supported here.{nearest(model, TEXT | AUDIO)} "
            f"Allowed: for text {listed(TEXT)}; for audio {listed(AUDIO)}."
        )
    from dataclasses import fields

    from transformers.configuration_utils import PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind: Any = CONFIG_MAPPING[model]
    common = {field.name for field in fields(PreTrainedConfig)}
    return kind, [field.name for field in fields(kind) if field.name not in common] + [*UNDECLARED.get(model, ())]


def _settings(model: str, config: dict[str, Any]) -> Any:
    """transformers' config; every key must be one that it knows and that fits an encoder."""
    kind, known = _config_class(model)
    for key, value in config.items():
        where = f"architecture.config.{key}: {value} was given"
        if key not in known:
            called = f" It is called {kind.attribute_map[key]!r} there." if key in kind.attribute_map else nearest(key, known)
            raise UserError(f"{where}, which {kind.__name__} of transformers does not have.{called}")
        if key in NO_ENCODER and value:
            raise UserError(
                f"{where}, but networks here are encoders alone, from inputs to their features. Give a config without it."
            )
        if key in FIXED and value != FIXED[key]:
            raise UserError(f"{where}, but augmentation belongs to training.augment; leave it out.")
    try:
        return kind(**{key: value for key, value in FIXED.items() if key in known} | config)
    except Exception as error:  # huggingface_hub's own kinds, and those of each class
        raise UserError(f"architecture.config: {kind.__name__} of transformers refuses it: {error}") from None


def _order(base: Any, settings: Any) -> None:
    """Put modules in the order in which they are used, which decides the blocks that are trained and frozen."""
    modules = base.encoder._modules if hasattr(base, "encoder") else {}
    if "layer" in modules:  # of MPNet and DeBERTa: relative positions are embeddings, used in every layer
        modules["layer"] = modules.pop("layer")
    if getattr(settings, "do_stable_layer_norm", False):  # it normalises what the layers give
        modules["layer_norm"] = modules.pop("layer_norm")
