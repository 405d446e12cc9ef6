"""Explanations mark the words that decide, and everything from data is shown as it is."""

import numpy as np
import pytest
import torch
from tokenizers import processors
from torch import nn

from stages.lib.modalities.text import explain, inputs
from stages.lib.networks.backbones import Model
from stages.lib.networks.heads import EachStep
from tests import texts
from tests.fragments import Shown
from tests.texts import LONG


class Sum(nn.Module):
    """Features are the sums of the embeddings of a text's pieces, or the embedding of each word's first piece."""

    def __init__(self, weights: dict[int, float], per: str):
        super().__init__()
        self.embedding = nn.Embedding(texts.CONFIG["vocab_size"], 1)
        nn.init.zeros_(self.embedding.weight)
        with torch.no_grad():
            for piece, weight in weights.items():
                self.embedding.weight[piece] = weight
        self.per = per

    def forward(self, batch: inputs.Texts) -> torch.Tensor:
        steps = self.embedding(batch.pieces)
        if self.per == "word":
            rows = torch.arange(len(steps))[:, None]
            return steps[rows, batch.starts.clamp_min(0)].masked_fill(batch.starts[..., None] < 0, -1e9)
        return (steps * batch.mask[..., None]).sum(1)


def deciding(per="example", **weights):
    """A network of two outputs, for which only these pieces count; the first output gets minus the second."""
    known = texts.wordpiece().get_vocab()
    head = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    pieces = {known[piece.replace("__", "##")]: weight for piece, weight in weights.items()}
    return Model(Sum(pieces, per), EachStep(head) if per == "word" else head).eval()


@pytest.fixture
def how(tmp_path):
    return texts.how(tmp_path)


@pytest.mark.parametrize(
    ("text", "important"),
    [
        ("the film was awful", [0, 0, 0, 1]),
        ("awful film", [1, 0]),
        ("The AWFUL, film", [0, 1, 0]),
        ("film \u200b awful", [0, 0, 1]),
        ("awful \u200b film", [1, 0, 0]),
        ("film \u200b \u200b awful film \u200b", [0, 0, 0, 1, 0, 0]),
        ("awful and awful", [1, 0, 1]),
        ("film", [0]),
        ("\u200b", [0]),
        (f"{LONG} awful", [0] * 8 + [1] + [0] * 8),
    ],
)
@pytest.mark.parametrize("output", [0, 1])
def test_the_word_that_decides_is_the_most_important_one(how, text, important, output):
    assert explain.importance(deciding(awful=2.0), how, text, output) == important


@pytest.mark.parametrize("special", [True, False])
def test_pieces_count_for_the_word_that_they_are_of(how, special):
    how["special_tokens"] = special
    model = deciding(un=1.0, __like=-2.0, __ly=1.5, awful=1.5, **{",": 1.5})
    assert explain.importance(model, how, "film unlikely awful, awful", 1) == pytest.approx([0, 1, 3 / 4.5, 1.5 / 4.5])


def test_marks_around_a_text_count_for_no_word(how):
    assert explain.importance(deciding(**{"[SEP]": 5.0, "[CLS]": 5.0, "awful": 1.0}), how, "film awful film", 1) == [0, 1, 0]


@pytest.mark.parametrize("template", ["$A", "$A [SEP]", "[CLS] $A", "[CLS] $A [SEP] [SEP]", "[CLS] [CLS] $A [SEP]"])
def test_whatever_the_marks_are(tmp_path, template):
    tokenizer = texts.wordpiece()
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    how = texts.how(tmp_path, tokenizer)
    model = deciding(**{"[SEP]": 5.0, "[CLS]": 5.0, "awful": 1.0})
    assert explain.importance(model, how, "film awful", 1) == [0, 1]
    assert explain.importance(model, how, "awful film", 1) == [1, 0]


def test_of_outputs_per_word_that_of_the_word_is_explained(how):
    model = deciding("word", awful=3.0, bad=2.0, good=-4.0)
    for word, text in enumerate(["bad", "film", "awful", "good"]):
        decides = [float(text != "film" and place == word) for place in range(4)]
        assert explain.importance(model, how, "bad film awful good", (word, 1)) == decides


@pytest.mark.parametrize("per", ["example", "word"])
def test_of_a_bert_too_and_it_stays_as_it_was(how, per):
    model = texts.bert(per=per, pooling="first" if per == "example" else "mean")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        batch = inputs.batch_of([LONG], inputs.tokenizer_of(how), how)
        outputs = model(batch)
    first, again = (explain.importance(model, how, f"{LONG} good", 1 if per == "example" else (2, 1)) for _ in range(2))
    assert first == again and max(first) == 1 and min(first[:14]) > 0
    assert first[14:] == [0, 0, 0], "cut off at 16 tokens, two of which are special"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.inference_mode():
        assert torch.equal(model(batch), outputs)


# What is written.


def explained(path, model, how, sentences, titles=None, output=1):
    rows = np.arange(len(sentences))
    titles = titles or [f"bad (99%)\nis good\n{row}" for row in rows]
    explain.explained(path, model, how, texts.packed(sentences or ["x"]), rows, np.full(len(rows), output), titles)
    shown = Shown(path.read_text(encoding="utf-8"))
    assert shown.open == []
    return shown


def test_the_words_that_mattered_are_marked(how, tmp_path):
    shown = explained(
        tmp_path / explain.FILE, deciding(awful=2.0, bad=1.0, dull=0.1), how, ["a bad, awful\nand dull film", "a film"]
    )
    assert [word for _, word in shown.marked] == ["bad,", "awful"], "less than a tenth of the most important is not marked"
    assert [style for style, _ in shown.marked] == [f"background:rgba(230,159,0,{shade})" for shade in ("0.40", "0.80")]
    assert "a bad, awful\nand dull film" in shown.text and shown.tags == {"ol", "li", "b", "br", "span"}
    assert "bad (99%)" in shown.text and "· is good · 0" in shown.text


def test_what_looks_like_html_is_shown_as_it_is(how, tmp_path):
    evil = '<script>alert("1")</script> awful&lt; <img src=x onerror=alert(1)> \'"></li></ol>'
    label = "<script>evil()</script>"
    shown = explained(tmp_path / "x.html", deciding(awful=2.0), how, [evil], [f"{label} (98%)\nis <b>{label}\n<i>key</i>"])
    assert shown.tags == {"ol", "li", "b", "br", "span"}
    assert evil in shown.text and f"{label} (98%)" in shown.text and f"· is <b>{label} · <i>key</i>" in shown.text
    assert [word for _, word in shown.marked] == ["awful&lt;"]
    assert "<script" not in (tmp_path / "x.html").read_text()


def test_without_mistakes_that_is_what_is_said(how, tmp_path):
    assert explained(tmp_path / "x.html", deciding(awful=2.0), how, []).text == "No mistakes.\n"


def test_a_text_that_was_cut_is_shown_whole(how, tmp_path):
    shown = explained(tmp_path / "x.html", texts.bert(), how, [f"{LONG} <end>"])
    assert f"{LONG} <end>" in shown.text and "<end>" not in [word for _, word in shown.marked]
