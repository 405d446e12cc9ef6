"""The network that runs without this code takes samples, and answers as the model does on packed recordings."""

import inspect

import numpy as np
import onnxruntime
import pytest
import torch

from stages.lib.core.datasets import in_memory
from stages.lib.modalities.audio import inputs, standalone
from stages.lib.modalities.audio.features import MELS
from stages.lib.modalities.audio.inputs import padded
from tests.lib.modalities.audio.sounds import CARD, packed

DYNAMIC = torch.export.Dim.DYNAMIC


class Steps(torch.nn.Module):
    """The mean over each recording's steps of a linear layer."""

    def __init__(self, num):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(num, 3)

    def forward(self, batch):
        values, lengths = batch
        steps = values.transpose(1, 2) if values.ndim == 3 else values[:, :, None]
        return self.layer(steps).sum(1) / lengths[:, None]


def network(features):
    card = CARD | {"features": features}
    return standalone.network(Steps(MELS.get(features, 1)), card, lambda outputs: outputs.softmax(1)).eval(), card


@pytest.mark.parametrize("features", ["log_mel", "waves", "raw_waves"])
def test_it_gives_the_model_what_it_gets_here(features):
    rows = packed(4)
    alone, card = network(features)
    waves, lengths = padded(rows, torch.device("cpu"))
    batch = inputs.load(in_memory(rows, True), torch.zeros(4), card, torch.device("cpu")).inputs(torch.arange(4), "none", None)
    with torch.inference_mode():
        cut = batch._replace(values=batch.values[..., : batch.lengths.max()])  # here a batch has one of few lengths
        wanted = alone.model(cut).softmax(1)
        assert alone(waves, lengths).equal(wanted)
        behind = torch.rand(4, waves.shape[1]) * (torch.arange(waves.shape[1]) >= lengths[:, None])
        assert alone(waves + behind, lengths).equal(wanted), "what is behind the end is not heard"


@pytest.mark.parametrize(("features", "kind"), [("log_mel", "onnx"), ("log_mel", "pt2"), ("waves", "pt2")])
def test_decoded_samples_are_all_that_an_exported_network_needs(features, kind, tmp_path):
    alone, card = network(features)
    example = standalone.examples(card, 2)
    names = list(inspect.signature(alone.forward).parameters)
    shapes = tuple({each: DYNAMIC for each in standalone.VARYING[: part.ndim]} for part in example)
    if kind == "onnx":
        torch.onnx.export(
            alone, example, tmp_path / "x.onnx", dynamo=True, input_names=names, dynamic_shapes=shapes,
            verbose=False,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    else:
        torch.export.save(torch.export.export(alone, example, dynamic_shapes=shapes), tmp_path / "x.pt2")
        session = torch.export.load(tmp_path / "x.pt2").module()
    for num in (1, 5):
        given = standalone.examples(card, num)
        assert given[0].shape[0] == num and given[0].dtype == torch.float32 and given[1].dtype == torch.int64
        if kind == "onnx":
            (found,) = session.run(None, {name: part.numpy() for name, part in zip(names, given, strict=True)})
        else:
            found = session(*given).detach().numpy()
        np.testing.assert_allclose(found, alone(*given).detach().numpy(), atol=1e-5)
