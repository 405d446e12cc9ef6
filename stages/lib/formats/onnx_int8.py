"""An ONNX file with integer weights and scales for blocks of them: its weights in float32, under the names in the file.

Only weights are quantised so (OpenCV's model zoo calls it int8bq): the file computes in float32, and so does what is read here.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from stages.lib.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

QUANTISED = "_quantized"  # what is added to a weight's name


def is_one(content: bytes) -> bool:
    """Whether it is an ONNX file in which all that is dequantised are weights, and not what the network computes."""
    import onnx

    try:
        graph: Any = onnx.load_model_from_string(content).graph
    except Exception:  # of protobuf, which has kinds of its own
        return False
    stored = {each.name for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    return bool(nodes) and all(name in stored for node in nodes for name in node.input)


def tensors(content: bytes) -> "dict[str, Tensor]":
    """The weights by name: (integers - zero points) * scales, in the shape that the network uses, and those that are stored as
    float32 or float16. Other numbers are shapes and settings.

    Raises:
        UserError: the file is damaged, or keeps weights in another one.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    graph: Any = onnx.load_model_from_string(content).graph
    stored: dict[str, np.ndarray] = {}
    for each in graph.initializer:
        if each.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(f"This ONNX file keeps {each.name} in another file. Save it as one file (below 2 GB).")
        try:
            stored[each.name] = numpy_helper.to_array(each)
        except ValueError as error:
            raise UserError(f"This ONNX file is damaged: {each.name}: {error}.") from None
    weights: dict[str, np.ndarray] = {}
    used, names = set[str](), dict[str, str]()  # what only dequantising needs; the weight that an output of a node is
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            name = node.input[0].removesuffix(QUANTISED)
            settings = {each.name: each.i for each in node.attribute}
            weights[name] = _dequantised(name, [stored[each] for each in node.input], **settings)
            used |= set(node.input)
        elif node.op_type == "Reshape" and node.input[0] in names and node.input[1] in stored:
            name = names[node.input[0]]
            weights[name] = weights[name].reshape(stored[node.input[1]])
            used.add(node.input[1])
        else:
            continue
        names[node.output[0]] = name
    weights |= {name: value for name, value in stored.items() if name not in used and value.dtype.kind == "f" and value.ndim}
    return {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in weights.items()}


def _dequantised(name: str, given: list[np.ndarray], *, axis: int = 1, block_size: int = 0, **others: int) -> np.ndarray:
    """One tensor of float32; the defaults are those of ONNX.

    Args:
        given: the integers, their scales and, unless they are 0, the zero points: one for all, one for each place of the axis,
            or as many as the integers have blocks of `block_size` on the axis.

    Reference:
        https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """
    integers, *factors = given

    def spread(each: np.ndarray) -> np.ndarray:
        if block_size:
            return each.repeat(block_size, axis).take(range(integers.shape[axis]), axis)
        if each.size > 1:
            return each.reshape([-1 if place == axis % integers.ndim else 1 for place in range(integers.ndim)])
        return each

    try:
        scales, *zeros = (spread(each).astype(np.float32) for each in factors)
        found: np.ndarray = (integers.astype(np.float32) - (zeros[0] if zeros else 0)) * scales
        return found
    except (ValueError, IndexError):
        shapes = f"{list(integers.shape)} integers and {list(factors[0].shape)} scales"
        raise UserError(f"This ONNX file is damaged: {name} has {shapes}.") from None
