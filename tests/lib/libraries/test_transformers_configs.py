"""Configs of encoders of transformers: given in params.yaml, or read from config.json beside weights."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from pydantic import ValidationError

from stages.lib.errors import UserError
from stages.lib.libraries import transformers as library
from tests.lib.libraries.encoders import ALL, IDS, batch, built

every = pytest.mark.parametrize(("model", "config"), ALL, ids=IDS)


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        ("brt", {}, ["no encoder 'brt'", "Did you mean 'bert'", "whisper"]),
        ("gpt2", {}, ["no encoder 'gpt2'", "for text bert"]),
        ("bert", {"hiden_size": 32}, ["config.hiden_size: 32", "BertConfig", "Did you mean 'hidden_size'"]),
        ("distilbert", {"hidden_size": 32}, ["It is called 'dim' there"]),
        ("bert", {"hidden_size": "32"}, ["BertConfig", "expected int, got str"]),
        ("bert", {"hidden_size": 30, "num_attention_heads": 4}, ["cannot build a bert", "not a multiple"]),
        ("bert", {"hidden_act": "gulu"}, ["cannot build a bert", "gulu"]),
        ("bert", {"is_decoder": True}, ["config.is_decoder: True", "encoders alone"]),
        ("roberta", {"add_cross_attention": True}, ["encoders alone"]),
        ("wav2vec2", {"add_adapter": True}, ["encoders alone"]),
        ("wav2vec2", {"mask_time_prob": 0.05}, ["config.mask_time_prob: 0.05", "training.augment"]),
        ("wav2vec2", {"conv_dim": [16]}, ["Wav2Vec2Config", "convolutional layers"]),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused_in_words(model, given, says):
    with pytest.raises(UserError) as error:
        library.network(model, given, "mean", "example")
    assert all(text in str(error.value) for text in says), str(error.value)


def architecture(model, config):
    return {"library": "transformers", "model": model, "pooling": "mean", "config": config}


@every
def test_the_config_beside_the_weights_is_reduced_to_what_decides_the_network(model, config):
    saved = transformers.AutoConfig.for_model(model, **config, name_or_path="a/b", architectures=["X"], torch_dtype="float16")
    found = library.complete(architecture(model, {}), {"config.json": saved.to_json_string(use_diff=False).encode()})
    assert json.loads(json.dumps(found)) == found and library.complete(found, {}) == found
    assert not found["config"].keys() & {
        "name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "model_type",
    }
    assert not [name for name in found["config"] if name.startswith(("decoder", "mask", "layerdrop"))]
    kind = type(saved)()
    assert all(value != getattr(kind, name, None) for name, value in found["config"].items())
    torch.manual_seed(0)
    ours, expected = built(model, found["config"]), built(model, config)
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in expected.state_dict().items()
    }
    assert ours.eval()(batch(model)).equal(expected.eval()(batch(model)))


def test_a_config_that_is_given_or_all_defaults():
    given = architecture("bert", {"hidden_size": 32})
    assert library.complete(given, {"config.json": b'{"hidden_size": 64}'}) == given
    defaults = json.dumps({"model_type": "bert", "vocab_size": 30522, "hidden_size": 768}).encode()
    assert library.complete(architecture("bert", {}), {"config.json": defaults})["config"] == {"vocab_size": 30522}
    old = json.dumps({"hidden_size": 32, "position_embedding_type": "absolute", "gradient_checkpointing": False}).encode()
    assert library.complete(architecture("bert", {}), {"config.json": old})["config"] == {"hidden_size": 32}


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({}, ["no config.json", "vocab_size: 30522"]),
        ({"config.json": b'{"alignment_heads": []}'}, ["no config.json of transformers"]),
        ({"config.json": b'{"model_type": "roberta"}'}, ["bert was given", "that of a roberta"]),
        ({"config.json": b"{"}, ["cannot be read"]),
        ({"config.json": b"[]"}, ["cannot be read"]),
        ({"config.json": b'{"hidden_size": "a"}'}, ["cannot be read", "hidden_size"]),
    ],
)
def test_a_config_that_is_missing_or_of_another_model_is_refused_in_words(beside, says):
    with pytest.raises(UserError) as error:
        library.complete(architecture("bert", {}), beside)
    assert all(text in str(error.value) for text in says), str(error.value)


def test_params_have_no_defaults():
    block = {"model": "bert", "pooling": "mean", "config": {}}
    assert library.Params.model_validate(block).model_dump() == block
    for wrong in (
        {**block, "pooling": "max"},
        {**block, "model": ""},
        *({k: block[k] for k in block if k != left} for left in block),
    ):
        with pytest.raises(ValidationError):
            library.Params.model_validate(wrong)


def test_checking_params_imports_neither_torch_nor_transformers():
    code = "import sys, stages.lib.libraries.transformers; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
