"""A masked-language hop on a tiny BERT: the head of transformers, what moves, resuming, and that it learns."""

import copy

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from transformers import BertConfig, BertForMaskedLM

from stages.lib.core import contracts
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.networks.heads import MaskedLanguage
from stages.lib.networks.inference import predict
from stages.lib.params.fields import Trainable
from stages.lib.shell import checkpoints
from stages.lib.tasks.mlm import learning, measures
from stages.lib.tasks.mlm import outputs as to
from stages.lib.tasks.mlm.masking import masking
from stages.lib.training import setup as setups
from stages.lib.training import train as trains
from stages.lib.training.phases import Data
from tests import texts
from tests.lib.training.whole import HYPERPARAMETERS
from tests.tiny import options

HEAD = {"kind": "masked_language", "hidden": 0, "dropout": 0, "zero": False}
STRATEGIES = ["full", "partial", "feature_extraction", "lp_ft", "gradual", "lora", "bitfit", "bss", "delta"]
NAMES = learning.outputs([])


def how(**changes):
    return options(**{"augment": "none", "label_smoothing": 0, "batch_size": 6} | changes)


def sentences(num, seed):
    random = np.random.default_rng(seed)
    parts = [["the", "a"], ["film", "plot"], ["was"], ["very"], ["good", "bad", "dull"], ["and"], ["we", "it"], ["saw"]]
    return [" ".join(random.choice(words) for words in parts) for _ in range(num)]


def data(folder, num=24):
    made = (texts.packed(sentences(each, seed), ["O"] * each) for seed, each in ((0, num), (1, 12)))
    return Data(*(contracts.load(split, "text", "mlm", NAMES, texts.how(folder), torch.device("cpu")) for split in made))


def go(folder, strategy="full", state=None, save=lambda state: None, num=24, ema=0.0, **changes):
    torch.use_deterministic_algorithms(True)
    split, fabric = data(folder, num), Fabric(accelerator="cpu", devices=1)
    setup = setups.prepare(
        fabric, texts.bert(num_outputs=2).state_dict(), texts.ARCHITECTURE | {"config": texts.CONFIG}, len(NAMES), "word",
        strategy=strategy, hyperparameters=HYPERPARAMETERS[strategy] | changes, options=how(ema=ema), num_examples=num, seed=1,
        same_outputs=False, kind="masked_language",
    )  # fmt: skip
    trained = trains.train(
        fabric, setup, split, learning, how(ema=ema), NAMES, loss_jump=3, seed=1, state=state, save=save
    )  # fmt: skip
    return setup, trained, split


def test_the_head_is_that_of_transformers():
    torch.manual_seed(0)
    theirs = BertForMaskedLM(BertConfig(**texts.CONFIG)).eval()
    ours = backbones.build(texts.ARCHITECTURE | {"config": texts.CONFIG, "per": "word", "head": HEAD}, 4).eval()
    ours.backbone.base.load_state_dict(theirs.bert.state_dict())
    given = theirs.cls.predictions
    ours.head.load_state_dict({
        "bias": torch.randn(72), "transform.0.weight": given.transform.dense.weight,
        "transform.0.bias": given.transform.dense.bias + 0.1, "transform.2.weight": given.transform.LayerNorm.weight + 0.1,
        "transform.2.bias": given.transform.LayerNorm.bias,
    })  # fmt: skip
    with torch.no_grad():
        given.bias.copy_(ours.head.bias), given.transform.dense.bias.add_(0.1), given.transform.LayerNorm.weight.add_(0.1)
    tokenizer = texts.wordpiece()
    plain = texts_batch(tokenizer)
    batch = masking(tokenizer)(plain, torch.tensor([0.1, 0.6]))
    labels = torch.full_like(batch.pieces, -100)
    for row, places in enumerate(batch.places):
        labels[row, places[places >= 0]] = plain.pieces[row, places[places >= 0]]
    with torch.no_grad():
        answer = theirs(input_ids=batch.pieces, attention_mask=batch.mask.long(), labels=labels)
        outputs = ours(batch)
    losses = learning.criterion(torch.zeros(2, 1), how())(outputs, torch.zeros(2, 1))
    assert losses.mean().item() == pytest.approx(answer.loss.item(), rel=1e-5)
    for row, places in enumerate(batch.places):
        there = places >= 0
        best = answer.logits[row, places[there]].softmax(1).max(1)
        assert outputs[row, there, 2].long().equal(best.indices) and outputs[row, there, 3].allclose(best.values, atol=1e-5)
        assert (outputs[row, ~there] == contracts.NO_STEP).all()


def texts_batch(tokenizer):
    from stages.lib.modalities.text.inputs import batch_of

    return batch_of([texts.LONG, "awful film"], tokenizer, {"special_tokens": True})


def test_the_embeddings_are_tied_and_no_parameter_of_the_head():
    model = backbones.build(texts.ARCHITECTURE | {"config": texts.CONFIG, "per": "word", "head": HEAD}, 4)
    assert [name for name in model.state_dict() if name.startswith("head.")] == [
        "head.bias", "head.transform.0.weight", "head.transform.0.bias", "head.transform.2.weight", "head.transform.2.bias",
    ]  # fmt: skip
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.backbone.embedding.mul_(2)
    batch = masking(texts.wordpiece())(texts_batch(texts.wordpiece()), None)
    features = torch.randn(2, batch.places.shape[1], 16)
    one, two = (each.head(features, batch.hidden, each.backbone.embedding) for each in (model.eval(), other.eval()))
    assert not one.allclose(two)


@pytest.mark.parametrize("wrong", [{"hidden": 4}, {"zero": True}])
def test_options_that_the_head_lacks_are_refused(wrong):
    with pytest.raises(UserError, match="hidden: 0 and zero: false"):
        MaskedLanguage(16, (72, 16), **wrong)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exactly_what_is_declared_moves(strategy, tmp_path):
    setup, trained, _ = go(tmp_path, strategy)
    moved = {name for name, tensor in setup.model.state_dict().items() if not torch.equal(tensor, setup.before[name])}
    assert (trained.certificate.verdict == "ok").all() and moved
    whole = trained.certificate[trained.certificate.phase == "all"]
    assert set(whole[whole.moved].tensor) == moved and {name for name in moved if name.startswith("head.")}
    if strategy == "feature_extraction":
        assert all(name.startswith("head.") for name in moved)
    if strategy == "full":
        assert moved == set(setup.before)


@pytest.mark.parametrize(("strategy", "ema"), [("full", 0.0), ("full", 0.9), ("lp_ft", 0.0)])
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(strategy, ema, tmp_path):
    files = []

    def save(state):
        files.append(tmp_path / str(len(files)))
        checkpoints.save(files[-1], state)

    setup, trained, _ = go(tmp_path / "how", strategy, save=save, ema=ema)
    whole = setup.model.state_dict()
    for file in list(files):
        again, resumed, _ = go(tmp_path / "how", strategy, state=checkpoints.load(file), ema=ema)
        assert all(torch.equal(tensor, whole[name]) for name, tensor in again.model.state_dict().items())
        assert resumed.best == trained.best


def test_it_learns_the_language_of_the_texts_and_says_so_if_not(tmp_path):
    setup, trained, split = go(tmp_path, num=120, epochs=12, lr=0.01, head_lr=0.01)
    first = trained.history.val_loss.iloc[0]
    assert trained.best["val_loss"] < first - 0.5 and trained.best["val_masked_accuracy"] > 0.5 and not trained.warnings
    outputs = predict(setup.model, split.val, 6)
    predictions = to.predictions(outputs)
    ones = np.ones((1, len(predictions)))
    (perplexity,) = measures.perplexity(predictions.astype(np.float64), np.zeros((12, 1)), ones)
    assert perplexity == pytest.approx(np.exp(trained.best["val_loss"]), rel=1e-4)
    _, nothing, _ = go(tmp_path, epochs=1, lr=1e-6, head_lr=1e-6)
    assert any("has not learned the language" in warning for warning in nothing.warnings)


def test_the_head_is_dropped_and_the_next_task_starts_from_the_backbone(tmp_path):
    setup, _, _ = go(tmp_path)
    fabric = Fabric(accelerator="cpu", devices=1)
    after = setups.prepare(
        fabric, setup.model.state_dict(), setup.architecture, 3, "word", strategy="partial",
        hyperparameters=HYPERPARAMETERS["partial"] | {"trainable": Trainable(last_blocks=1)}, options=how(), num_examples=24,
        seed=1, same_outputs=False,
    )  # fmt: skip
    for name, tensor in setup.model.state_dict().items():
        assert name.startswith("head.") or after.before[name].equal(tensor)
    assert after.architecture["head"]["kind"] == "linear"
