"""An ONNX file of a BERT: its weights under transformers' names."""

import re
from typing import TYPE_CHECKING, Any

from stages.lib.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FIRST = "embeddings.word_embeddings.weight"
QUANTISED = {"DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul", "MatMulNBits"}


def tensors(content: bytes) -> "dict[str, Tensor]":
    """The weights of a BERT as PyTorch exports it: initialisers keep their names, but for the weights of linear layers, which lie
    transposed beside their MatMul, whose name says which layer it is.

    Raises:
        UserError: it is no ONNX file, or of another network, or quantised, or its names were removed.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    try:
        graph: Any = onnx.load_model_from_string(content).graph
    except Exception as error:  # of protobuf, which has kinds of its own
        raise UserError(f"This is not an ONNX file, or only a part of one: {error}.") from None
    if found := sorted({node.op_type for node in graph.node} & QUANTISED):
        raise UserError(f"This ONNX file is quantised ({', '.join(found)}). Allowed: one with weights of float32 or float16.")
    stored = {each.name: each for each in graph.initializer}
    prefix = next((name.removesuffix(FIRST) for name in stored if name.endswith(FIRST)), None)
    if prefix is None:
        raise UserError(
            f"This ONNX file is not a BERT with the names that PyTorch gives it: no initialiser ends in {FIRST}. "
            f"It has, for example: {', '.join(list(stored)[:5]) or 'none'}."
        )
    names = {name: name.removeprefix(prefix) for name in stored}
    transposed = set()
    for node in graph.node:
        layer = re.search(r"(encoder\.layer\.\d+\..+)\.MatMul$", node.name.replace("/", "."))
        if node.op_type == "MatMul" and layer and node.input[1] in stored:
            names[node.input[1]] = f"{layer[1]}.weight"
            transposed.add(node.input[1])
    weights: dict[str, Tensor] = {}
    for name, each in stored.items():
        if each.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(f"This ONNX file keeps {name} in another file. Save it as one file (below 2 GB).")
        if each.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and each.dims:  # others are shapes and constants
            try:
                value = torch.from_numpy(numpy_helper.to_array(each).copy()).float()
            except ValueError as error:
                raise UserError(f"This ONNX file is damaged: {name}: {error}.") from None
            weights[names[name]] = value.T.contiguous() if name in transposed else value
    if not any(name.endswith(".attention.self.query.weight") for name in weights):
        raise UserError("This ONNX file does not say which weights are those of a BERT's layers, as older exports of PyTorch do "
                        "(dynamo=False). Take the weights as .safetensors instead.")  # fmt: skip
    return weights
