"""Whisper's model.bin of CTranslate2 (of which faster-whisper is made): its weights under transformers' names.

The format is that of ctranslate2/specs/model_spec.py, version 6: a header, variables with their sizes, and aliases of variables.
"""

import re
import struct
from typing import TYPE_CHECKING, Any

from stages.lib.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 6
MOST_DIMENSIONS = 8  # of a variable; Whisper needs 3
PARTS = {
    "conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm", "self_attention/linear_1": "self_attn.out_proj",
    "self_attention/layer_norm": "self_attn_layer_norm", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2",
    "ffn/layer_norm": "final_layer_norm",
}  # fmt: skip
KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def is_one(content: bytes) -> bool:
    """Whether a file begins as those of CTranslate2 do, of any network."""
    return re.match(rb"[\x01-\x40]\0\0\0[\x02-\x40]\0\w+Spec\0", content[:80]) is not None


def tensors(content: bytes) -> "dict[str, Tensor]":
    """The weights of a Whisper in float32; those of the decoder, which nothing here uses, as they are.

    Raises:
        UserError: it is another network, another version of the format, quantised, or damaged.
    """
    found: dict[str, Tensor] = {}
    for name, value in _variables(content).items():
        side, _, path = name.partition("/")
        if side != "encoder":
            found[name.replace("/", ".")] = value
        elif value.ndim:  # the others are settings, such as the number of heads
            found |= {f"encoder.{own}": tensor for own, tensor in _renamed(path, value).items()}
    return found


def _renamed(path: str, value: "Tensor") -> "dict[str, Tensor]":
    """One variable of the encoder, by its path there; that of three projections becomes three."""
    if not value.is_floating_point():
        raise UserError(f"This file of CTranslate2 is quantised: encoder/{path} has the type {value.dtype}. "
                        "Allowed: float32, float16, bfloat16.")  # fmt: skip
    value = value.float()
    if path == "position_encodings/encodings":
        return {"embed_positions.weight": value}
    layer, number, inner = re.fullmatch(r"(layer_(\d+)/)?(.+)", path).groups()  # type: ignore[union-attr]  # it matches anything
    part, _, kind = inner.rpartition("/")
    prefix = f"layers.{number}." if layer else ""
    if kind in KINDS and part in PARTS:
        return {f"{prefix}{PARTS[part]}.{KINDS[kind]}": value}
    if kind in KINDS and part == "self_attention/linear_0" and len(value) % 3 == 0:
        query, key, values = value.chunk(3)
        if kind == "bias":
            if key.any():
                raise UserError(f"encoder/{path}: Whisper's keys have no bias, but this file has one.")
            return {f"{prefix}self_attn.q_proj.bias": query.clone(), f"{prefix}self_attn.v_proj.bias": values.clone()}
        projected = zip(PROJECTIONS, (query, key, values), strict=True)
        return {f"{prefix}self_attn.{name}.weight": each.clone() for name, each in projected}
    raise UserError(f"encoder/{path} is not a part of Whisper as CTranslate2 writes it.")


def _variables(content: bytes) -> "dict[str, Tensor]":
    """All variables, by their names and aliases."""
    import torch

    types = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
    read = _Reader(content)
    version, network = read.number("I"), read.text()
    if network != "WhisperSpec" or version != VERSION:
        raise UserError(f"This file of CTranslate2 holds {network}, version {version} of the format. Allowed: WhisperSpec, "
                        f"version {VERSION}.")  # fmt: skip
    read.number("I")  # the revision of the network's names, which are checked one by one
    found: dict[str, Tensor] = {}
    for _ in range(read.number("I")):
        name, num_dimensions = read.text(), read.number("B")
        if num_dimensions > MOST_DIMENSIONS:
            raise read.damaged(f"{name} has {num_dimensions} dimensions")
        shape = [read.number("I") for _ in range(num_dimensions)]
        kind, num_bytes = read.number("B"), read.number("I")
        num_values = 1
        for size in shape:
            num_values *= size
        if kind >= len(types) or num_values * types[kind].itemsize != num_bytes or not num_values:
            raise read.damaged(f"{name} has the shape {shape} and {num_bytes} bytes")
        found[name] = torch.frombuffer(bytearray(read.take(num_bytes)), dtype=types[kind]).reshape(shape)
    for _ in range(read.number("I")):
        alias, name = read.text(), read.text()
        if name not in found:
            raise read.damaged(f"{alias} is another name of {name}, which is missing")
        found[alias] = found[name]
    if read.at != len(content):
        raise read.damaged(f"{len(content) - read.at} bytes are left over")
    return found


class _Reader:
    """Reads a file from its start and never past its end."""

    def __init__(self, content: bytes):
        self.content, self.at = memoryview(content), 0

    def take(self, num_bytes: int) -> memoryview:
        if num_bytes > len(self.content) - self.at:
            raise self.damaged(f"{num_bytes} bytes are needed, and {len(self.content) - self.at} are left")
        self.at += num_bytes
        return self.content[self.at - num_bytes : self.at]

    def number(self, kind: str) -> int:
        value: Any = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]
        return int(value)

    def text(self) -> str:
        raw = bytes(self.take(self.number("H")))
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            raise self.damaged("a name is no text")
        return raw[:-1].decode("ascii")

    def damaged(self, what: str) -> UserError:
        return UserError(f"This file of CTranslate2 is damaged or incomplete, near byte {self.at}: {what}.")
