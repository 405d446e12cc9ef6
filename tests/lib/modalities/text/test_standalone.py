"""What is exported: a network from pieces to predictions that runs without this code, with any number and length of texts."""

import numpy as np
import onnxruntime
import pytest
import torch

from stages.lib.core.contracts import NO_STEP
from stages.lib.modalities.text import inputs, standalone
from tests import texts
from tests.texts import LONG


def softmax(outputs):
    return outputs.softmax(-1)


@pytest.fixture
def how(tmp_path):
    return texts.how(tmp_path)


@pytest.mark.parametrize("per", ["example", "word"])
def test_it_gives_the_predictions_of_the_network(how, per):
    model = texts.bert(per=per)
    network = standalone.network(model, how, softmax).eval()
    batch = inputs.batch_of([*texts.SENTENCES, LONG], inputs.tokenizer_of(how), how)
    with torch.no_grad():
        found = network(*batch[: 2 if per == "example" else 3])
        torch.testing.assert_close(found, softmax(model(batch)))
    assert found.shape == ((6, 2) if per == "example" else (6, 16, 2))


@pytest.mark.parametrize("num", [1, 2, 5, 30])
def test_examples_are_texts_that_the_network_takes(how, num):
    batch = standalone.examples(how, num)
    again = standalone.examples(how, num)
    assert all(first.equal(second) for first, second in zip(batch, again, strict=True))
    assert len(batch.pieces) == num and batch.pieces.dtype == torch.int64 and batch.mask.dtype == torch.bool
    assert batch.mask.sum(1).min() >= 3 and batch.pieces.shape[1] <= how["max_tokens"]
    assert batch.pieces.max() < len(texts.pieces()) and not batch.pieces[~batch.mask].any()
    begins = batch.starts[batch.starts >= 0]
    assert len(begins) and batch.mask[torch.arange(num)[:, None], batch.starts.clamp_min(0)][batch.starts >= 0].all()
    for per in ("example", "word"):
        assert texts.bert(per=per)(batch).isfinite().all()
    few = standalone.examples(how | {"max_tokens": 4}, num)
    assert few.pieces.shape[1] == 4 and texts.bert(per="word")(few).shape[:2] == few.starts.shape


@pytest.mark.parametrize("per", ["example", "word"])
def test_onnx_runtime_answers_as_the_network_does(how, per, tmp_path):
    """Exported with two texts, asked with one and with six; predictions of words that were cut off say so."""
    model = texts.bert(per=per)
    network = standalone.network(model, how, lambda outputs: outputs).eval()
    names = ["pieces", "mask", "starts"][: 2 if per == "example" else 3]
    varying = tuple(dict.fromkeys(standalone.VARYING, torch.export.Dim.DYNAMIC) for _ in names)
    examples = standalone.examples(how, 2)[: len(names)]
    torch.onnx.export(network, examples, str(tmp_path / "m.onnx"), dynamo=True, input_names=names, dynamic_shapes=varying,
                      verbose=False)  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for sentences in (["awful"], [*texts.SENTENCES, LONG]):
        batch = inputs.batch_of(sentences, inputs.tokenizer_of(how), how)
        (answer,) = session.run(None, {name: each.numpy() for name, each in zip(names, batch, strict=False)})
        with torch.no_grad():
            np.testing.assert_allclose(answer, model(batch), atol=1e-4, rtol=1e-5)
        if per == "word":
            assert ((answer < NO_STEP / 2).all(-1) == (batch.starts < 0).numpy()).all()
