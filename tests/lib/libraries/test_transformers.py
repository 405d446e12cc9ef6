"""Encoders of transformers: features, padding, gradients, names of weights, blocks, export."""

import socket

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from torch import nn

from stages.lib.core.contracts import NO_STEP
from stages.lib.errors import UserError
from stages.lib.libraries import transformers as library
from stages.lib.networks import backbones, layers
from stages.lib.params.fields import Trainable
from tests.lib.libraries.encoders import ALL, BERT, IDS, LARGE, TINY, WAVE, alone, batch, built, steps_of

every = pytest.mark.parametrize(("model", "config"), ALL, ids=IDS)
TASKS = {  # a network with a head, as files hold them
    "hubert": "HubertForCTC", "wav2vec2": "Wav2Vec2ForPreTraining", "wavlm": "WavLMForCTC",
    "whisper": "WhisperForConditionalGeneration",
}  # fmt: skip


def whole(model, config):
    """A network of transformers with a head, and what its encoder gives for one example without padding (1, S, D)."""
    settings = transformers.AutoConfig.for_model(model, **config, mask_time_prob=0.05, layerdrop=0.0)
    if model in library.TEXT:
        network = transformers.AutoModelForMaskedLM.from_config(settings)
    else:
        network = getattr(transformers, TASKS[model])._from_config(settings)
    with torch.no_grad():
        for parameter in network.parameters():  # no two alike, and no zeros
            parameter.add_(0.02 * torch.randn_like(parameter))
    base = network.base_model.encoder if model == "whisper" else network.base_model
    names = {"whisper": "input_features"}.get(model, "input_ids" if model in library.TEXT else "input_values")
    return network.eval(), lambda values: base(**{names: values}).last_hidden_state


@every
def test_features_are_per_example_or_step_in_float32(model, config):
    inputs, per = batch(model), steps_of(model)
    example, step = built(model, config).eval()(inputs), built(model, config, per).eval()(inputs)
    assert example.shape == (3, 32) and step.shape[::2] == (3, 32) and example.dtype == step.dtype == torch.float32
    assert built(model, config).num_features == 32
    assert {tensor.dtype for tensor in built(model, config).parameters()} == {torch.float32}
    if per == "frame":
        there = step[..., :1] > NO_STEP / 2
        assert example.allclose((step * there).sum(1) / there.sum(1), atol=1e-5)
    first = built(model, config, pooling="first").eval()(inputs)
    assert not torch.allclose(first, example) and (per == "word" or torch.equal(first, step[:, 0]))


@every
def test_padding_changes_nothing(model, config):
    inputs = batch(model)
    for per in ("example", steps_of(model)):
        network = built(model, config, per).eval()
        together = network(inputs)
        for row in range(3):
            own = network(alone(inputs, row))[0]
            there = together[row][: len(own)] if per != "example" else together[row]
            assert there.allclose(own, atol=1e-5)
            assert per == "example" or (together[row][len(own) :] == NO_STEP).all()


@every
def test_when_everything_is_trained_everything_gets_a_gradient(model, config):
    for per in ("example", steps_of(model)):
        network = built(model, config, per).train()
        outputs = backbones.Model(network, nn.Identity())(batch(model))
        (outputs * torch.randn(32))[outputs > NO_STEP / 2].sum().backward()
        grads = {name: tensor.grad for name, tensor in network.named_parameters()}
        assert [name for name, grad in grads.items() if grad is None or not grad.any() or not grad.isfinite().all()] == []


@every
def test_weights_of_a_network_with_heads_load_strictly_and_give_what_transformers_computes(model, config):
    torch.manual_seed(0)
    network, hidden = whole(model, config)
    state, left_out = library.rename(network.state_dict(), {"model": model})
    ours = built(model, config, "example" if model in library.TEXT else "frame").eval()
    ours.load_state_dict(state)
    heads = ("lm_head", "cls", "generator", "vocab_", "head.", "decoder.", "lm_predictions", "quantizer", "project_", "proj_out",
             "model.decoder", "wav2vec2.masked_spec_embed", "hubert.masked_spec_embed", "wavlm.masked_spec_embed")  # fmt: skip
    assert left_out and all(name.startswith(heads) for name in left_out)
    inputs = batch(model)
    values = alone(inputs, 0)[0]
    if model == "whisper":  # transformers takes nothing shorter than the longest that it has positions for
        inputs = (torch.randn(1, 8, 60), torch.tensor([60]))
        values = inputs[0]
    expected = hidden(values)
    if model in library.TEXT:
        assert ours(alone(inputs, 0)).allclose(expected.mean(1), atol=1e-5)
        words = built(model, config, "word").eval()
        words.load_state_dict(state)
        assert words(alone(inputs, 0))[0].allclose(expected[0, [1, 3, 4]], atol=1e-5)
    else:
        assert ours(alone(inputs, 0)).allclose(expected, atol=1e-5)


@pytest.mark.parametrize("model", ["bert", "modernbert", "whisper", "hubert"])
def test_names_without_a_prefix_are_those_of_the_encoder_alone(model):
    torch.manual_seed(0)
    network, _ = whole(model, TINY[model])
    named = library.rename(network.state_dict(), {"model": model})[0]
    bare = library.rename(
        {name.removeprefix("model.").removeprefix("encoder.") if model == "whisper" else name: tensor
         for name, tensor in (network.base_model.encoder if model == "whisper" else network.base_model).state_dict().items()},
        {"model": model},
    )[0]  # fmt: skip
    assert bare.keys() == named.keys() and all(torch.equal(bare[name], named[name]) for name in named)


def test_old_names_are_translated_and_unknown_ones_are_kept():
    old = {"bert.embeddings.LayerNorm.gamma": 1, "bert.embeddings.LayerNorm.beta": 2, "bert.embeddings.position_ids": 3,
           "bert.pooler.dense.weight": 4, "cls.predictions.bias": 5, "bert.encoder.surprise": 6}  # fmt: skip
    state = {name: torch.tensor(float(value), dtype=torch.float16) for name, value in old.items()}
    renamed, left_out = library.rename(state, {"model": "bert"})
    assert {name: tensor.item() for name, tensor in renamed.items()} == {
        "base.embeddings.LayerNorm.weight": 1, "base.embeddings.LayerNorm.bias": 2, "base.encoder.surprise": 6
    }  # fmt: skip
    assert {tensor.dtype for tensor in renamed.values()} == {torch.float32}
    assert left_out == ["bert.embeddings.position_ids", "bert.pooler.dense.weight", "cls.predictions.bias"]
    state = built("wav2vec2", WAVE).state_dict()
    new = "pos_conv_embed.conv.parametrizations.weight.original"
    old_names = {
        name.removeprefix("base.").replace(f"{new}0", "pos_conv_embed.conv.weight_g"): tensor for name, tensor in state.items()
    }
    old_names = {name.replace(f"{new}1", "pos_conv_embed.conv.weight_v"): tensor for name, tensor in old_names.items()}
    assert f"base.encoder.{new}0" in state and "encoder.pos_conv_embed.conv.weight_g" in old_names
    assert library.rename(old_names, {"model": "wav2vec2"})[0].keys() == state.keys()


@pytest.mark.parametrize(("model", "config"), [("wav2vec2", WAVE), ("hubert", LARGE), ("wavlm", LARGE)])
def test_the_feature_encoder_is_what_transformers_freezes_under_this_name(model, config):
    network, _ = whole(model, config)
    network.freeze_feature_encoder()
    frozen = {name for name, tensor in network.base_model.named_parameters() if not tensor.requires_grad}
    ours = built(model, config)
    prefixes = tuple(f"{name}." for name in ours.feature_encoder)
    assert {f"base.{name}" for name in frozen} == {name for name, _ in ours.named_parameters() if name.startswith(prefixes)}
    assert built("bert", BERT).feature_encoder == () and built("whisper", TINY["whisper"]).feature_encoder == (
        "base.conv1",
        "base.conv2",
    )


def test_the_positions_of_whisper_are_fixed_and_nothing_masks_spectra():
    whisper = built("whisper", TINY["whisper"])
    assert [name for name, _ in whisper.named_buffers()] == ["base.positions"]
    assert "base.positions" in whisper.state_dict() and whisper.base.positions.std() > 0.1
    still = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0)
    for model in ("wav2vec2", "hubert", "wavlm"):
        network = built(model, WAVE | still).train()
        assert not any("masked_spec_embed" in name for name in network.state_dict())
        assert network(batch(model)).equal(network(batch(model))), "no layer is dropped, no frame masked"


@pytest.mark.parametrize(
    ("model", "before", "stack"),
    [
        ("bert", ["embeddings"], "encoder.layer"),
        ("deberta-v2", ["embeddings", "encoder.rel_embeddings"], "encoder.layer"),
        ("distilbert", ["embeddings"], "transformer.layer"),
        ("electra", ["embeddings", "embeddings_project"], "encoder.layer"),
        ("modernbert", ["embeddings"], "layers"),
        ("mpnet", ["embeddings", "encoder.relative_attention_bias"], "encoder.layer"),
        ("wav2vec2", [*(f"feature_extractor.conv_layers.{index}" for index in range(3)), "feature_projection"], "encoder.layers"),
        ("whisper", ["conv1", "conv2"], "layers"),
    ],
)
def test_the_blocks_are_its_layers_after_what_makes_their_inputs(model, before, stack):
    encoder = backbones.Model(built(model, LARGE if model == "wav2vec2" else TINY[model]), nn.Linear(32, 2))
    found = layers.blocks(encoder)
    assert list(found) == [f"base.{name}" for name in [*before, *(f"{stack}.{index}" for index in range(3))]]
    assert [name for block in found.values() for name in block] == [
        name for name, _ in encoder.backbone.named_parameters("backbone")
    ]
    last = layers.select(encoder, Trainable(last_blocks=2))
    inside = tuple(f"backbone.base.{stack}.{index}." for index in (1, 2))
    after = {name for name in last if not name.startswith(inside)}  # the norm after the last layer belongs to it
    norm = {"modernbert": "final_norm", "wav2vec2": "encoder.layer_norm", "whisper": "layer_norm"}.get(model)
    assert after == (
        {name for name, _ in encoder.named_parameters() if name.startswith(f"backbone.base.{norm}.")} if norm else set()
    )


def test_a_seed_decides_the_weights_and_no_network_is_needed(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it asked the network"))
    for model, config in TINY.items():
        one, same, other = (built(model, config, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)


def test_it_is_built_and_loaded_as_any_backbone_and_has_no_head_of_its_own():
    architecture = {"library": "transformers", "model": "bert", "pooling": "mean", "config": BERT, "per": "word"}
    torch.manual_seed(0)
    model = backbones.build(architecture, 5)
    assert model(batch("bert")).shape == (3, 3, 5)
    state, _ = library.rename(whole("bert", BERT)[0].state_dict(), architecture)
    tensors = backbones.from_library(architecture, state, by_order=False)
    assert backbones.load(model, tensors) == []
    with pytest.raises(UserError, match=r"base\.encoder\.layer\.2\.output\.dense\.bias is missing"):
        backbones.from_library(
            architecture, {name: state[name] for name in state if "layer.2.output.dense.bias" not in name}, False
        )


@pytest.mark.parametrize(("model", "per"), [("bert", "frame"), ("whisper", "word"), ("hubert", "word")])
def test_text_has_words_and_audio_has_frames(model, per):
    with pytest.raises(UserError, match=f"needed: one per {per}"):
        library.network(model, TINY[model], "mean", per)


def test_what_is_longer_than_the_positions_is_refused_in_words():
    for model, longest in (("bert", 40), ("roberta", 38)):
        mask = torch.ones(1, longest + 1, dtype=torch.bool)
        inputs = (mask.long() + 4, mask, torch.zeros(1, 1, dtype=torch.int64))
        built(model, TINY[model])(tuple(each[:, :longest] for each in inputs))
        with pytest.raises(ValueError, match=f"{longest + 1} pieces, and this network has positions for {longest}"):
            built(model, TINY[model])(inputs)
    with pytest.raises(ValueError, match="61 frames, and this network has positions for 60"):
        built("whisper", TINY["whisper"])((torch.zeros(1, 8, 61), torch.tensor([61])))


@pytest.mark.parametrize("model", ["bert", "whisper"])
def test_exported_networks_take_any_number_of_examples_of_any_length(model):
    layers = {"whisper": {"encoder_layers": 1}}.get(model, {"num_hidden_layers": 1})
    network = built(model, TINY[model] | layers, steps_of(model)).eval()
    free, inputs = torch.export.Dim.DYNAMIC, batch(model)
    names = [f"in{number}" for number in range(len(inputs))]
    shapes = tuple({0: free, each.ndim - 1: free} for each in inputs)
    program = torch.export.export(network, (inputs,), dynamic_shapes=(shapes,))
    onnx = torch.onnx.export(network, (inputs,), dynamo=True, input_names=names, dynamic_shapes=(shapes,), verbose=False)
    session = onnxruntime.InferenceSession(onnx.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for part in (alone(inputs, 1), inputs, tuple(torch.cat([each, each]) for each in alone(inputs, 2))):
        expected = network(part).detach()
        assert program.module()(part).allclose(expected, atol=1e-5)
        (answer,) = session.run(None, dict(zip(names, (each.numpy() for each in part), strict=True)))
        assert np.allclose(answer, expected.numpy(), atol=1e-5)
