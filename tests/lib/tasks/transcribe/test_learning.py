"""What training knows of transcription: targets, the CTC loss, what validation says, and a training that succeeds."""

import itertools
import math

import jiwer
import numpy as np
import pytest
import torch
from torch import nn

from stages.lib.core.contracts import NO_STEP, NO_TARGET
from stages.lib.errors import UserError
from stages.lib.tasks.transcribe import learning, measures
from stages.lib.tasks.transcribe import outputs as to
from tests.lib.tasks.transcribe.spoken import outputs, path, texts
from tests.tiny import options

NAMES = ["", " ", "a", "b", "c"]


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Targets and batches


def test_outputs_are_the_blank_the_space_and_the_characters_of_training_and_targets_their_indices():
    assert learning.outputs(["c b", "a  a"]) == NAMES
    found = learning.targets(["ab c", "", " b "], NAMES)
    assert found.dtype == torch.int64
    assert found.tolist() == [[2, 3, 1, 4], [NO_TARGET] * 4, [3, *[NO_TARGET] * 3]]
    assert learning.targets([], NAMES).shape == (0, 0)


def test_characters_that_training_never_had_are_kept_apart_and_not_refused():
    found = learning.targets(["axb", "ayb"], NAMES)
    assert found[:, [0, 2]].tolist() == [[2, 3], [2, 3]]
    assert found[0, 1] != found[1, 1] and (found[:, 1] < -1000).all()


@pytest.mark.parametrize(("num", "batch_size"), [(24, 8), (21, 6), (7, 100), (1, 1)])
def test_each_example_comes_once_in_batches_of_about_the_same_size(num, batch_size):
    batches = learning.batches(torch.zeros(num, 3), options(batch_size=batch_size), torch.Generator().manual_seed(0))
    sizes = [len(batch) for batch in batches]
    assert len(sizes) == math.ceil(num / batch_size) and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat(batches).tolist()) == list(range(num))


# The loss


def by_enumeration(logits, target):
    """The CTC loss by its definition: all paths through (T, C) that say the target."""
    chances, total = logits.softmax(-1).numpy(), 0.0
    for route in itertools.product(range(chances.shape[1]), repeat=len(chances)):
        if [index for index, _ in itertools.groupby(route) if index] == target:
            total += math.prod(chances[frame, index] for frame, index in enumerate(route))
    return -math.log(total) / max(1, len(target))


def test_the_loss_is_minus_the_log_of_all_paths_that_say_the_text_per_character():
    logits = random_logits(4, 5, 4)
    logits[1, 4:], logits[2, 3:] = NO_STEP, NO_STEP
    targets = torch.tensor([[2, 2, 3], [1, 3, NO_TARGET], [3, NO_TARGET, NO_TARGET], [NO_TARGET] * 3])
    found = learning.loss(logits, targets)
    wanted = [by_enumeration(logits[0], [2, 2, 3]), by_enumeration(logits[1, :4], [1, 3]),
              by_enumeration(logits[2, :3], [3]), by_enumeration(logits[3], [])]  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_the_loss_of_an_utterance_does_not_depend_on_padding_and_padding_has_no_gradient():
    logits, targets = random_logits(3, 9, 5), torch.tensor([[2, 3, 4], [4, 2, NO_TARGET], [2, 1, 3]])
    logits[1, 5:] = NO_STEP
    leaf = logits.clone().requires_grad_()
    found = learning.loss(leaf, targets)
    alone = learning.loss(logits[1:2, :5], torch.tensor([[4, 2, *[NO_TARGET] * 8]]))
    assert found[1].item() == pytest.approx(alone.item(), rel=1e-12)
    found.sum().backward()
    assert (leaf.grad[1, 5:] == 0).all() and (leaf.grad[1, :5] != 0).all() and (leaf.grad[[0, 2]] != 0).all()


def test_characters_outside_of_the_alphabet_are_left_out_of_the_loss():
    logits = random_logits(1, 9, 5)
    with_unknown = learning.loss(logits, learning.targets(["axb"], NAMES))
    assert with_unknown.equal(learning.loss(logits, learning.targets(["ab"], NAMES))) and with_unknown > 0


def test_utterances_with_too_few_frames_have_no_loss_and_no_gradient_and_are_told():
    """Three frames say "abc" but not "aab", which needs a blank between its equal characters."""
    targets = learning.targets(["abc", "aab", "abca", "", "bxb"], NAMES)
    logits = random_logits(5, 3, 5).requires_grad_()
    losses = learning.loss(logits, targets)
    losses.sum().backward()
    assert learning.too_short(logits.detach(), targets).tolist() == [False, True, True, False, False]
    assert (losses == 0).tolist() == [False, True, True, False, False] and losses.isfinite().all()
    assert (logits.grad == 0).all(2).all(1).tolist() == [False, True, True, False, False]
    told = [alarm for alarm in learning.alarms(logits.detach(), targets, NAMES) if "fewer frames" in alarm]
    assert len(told) == 1 and told[0].startswith("2 of 5 validation recordings have fewer frames")
    kept = losses[[0, 3, 4]].mean().item()
    assert learning.figures(logits.detach(), targets)["loss"] == pytest.approx(kept), "they do not make the mean look better"
    with pytest.raises(UserError, match="as many frames as its transcript needs"):
        learning.figures(logits[1:3].detach(), targets[1:3])


def test_the_criterion_is_the_plain_loss():
    logits, targets = random_logits(2, 6, 5), torch.tensor([[2, 3], [4, NO_TARGET]])
    criterion = learning.criterion(targets, options(label_smoothing=0, balance="none"))
    assert criterion(logits, targets).equal(learning.loss(logits, targets))


def test_a_training_that_diverges_shows_it():
    logits, targets = random_logits(2, 6, 5), torch.tensor([[2, 3], [4, NO_TARGET]])
    logits[1] = math.nan
    assert math.isnan(learning.figures(logits, targets)["loss"])


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_the_loss_of_guessing_is_about_what_the_same_output_for_every_frame_reaches(stride):
    """With as many blanks as there are frames without a new character, and characters as often as in the transcripts."""
    labels = texts(np.random.default_rng(0), 40, most_words=8)
    names = learning.outputs(labels)
    targets = learning.targets(labels, names)
    num_frames = stride * (targets != NO_TARGET).sum(1)
    shares = targets[targets != NO_TARGET].bincount(minlength=len(names)) / (targets != NO_TARGET).sum() / stride
    shares[0] = 1 - 1 / stride
    same = shares.clamp_min(1e-9).log().expand(len(labels), int(num_frames.max()), -1)
    padded = torch.arange(int(num_frames.max())) >= num_frames[:, None]
    losses = learning.loss(same.masked_fill(padded[..., None], NO_STEP), targets)
    uniform = learning.loss(torch.zeros_like(same).masked_fill(padded[..., None], NO_STEP), targets)
    assert losses.mean().item() == pytest.approx(learning.guess(targets), rel=0.08) and uniform.mean() > 1.5 * losses.mean()


# Validation


def test_figures_are_the_mean_loss_and_the_error_rates_of_jiwer():
    random = np.random.default_rng(1)
    said = texts(random, 70)
    names = learning.outputs(said)
    heard = [random.choice(said) if random.random() < 0.3 else text for text in said]
    logits, targets = outputs([path(text, names) for text in heard], len(names)), learning.targets(said, names)
    figures = learning.figures(logits, targets)
    assert list(figures) == ["loss", "cer", "wer"]
    assert figures["cer"] == pytest.approx(jiwer.cer(said, heard)) and figures["wer"] == pytest.approx(jiwer.wer(said, heard))
    enough = ~learning.too_short(logits, targets)
    assert figures["loss"] == pytest.approx(learning.loss(logits, targets)[enough].mean().item(), rel=1e-6)


def test_all_are_of_one_stratum():
    assert learning.strata(torch.zeros(4, 7)).tolist() == [0] * 4


def said_as(heard, said):
    """Alarms for a model that writes these texts, over long stretches of blanks if `heard` ends in dots (one dot, one blank)."""
    paths = [[*path(text.rstrip("."), NAMES), *[0] * text.count("."), 0, 0] for text in heard]
    return learning.alarms(outputs(paths, len(NAMES)), learning.targets(said, NAMES), NAMES)


def test_a_model_that_hears_well_is_no_alarm():
    assert said_as(["ab c", "b"] * 3, ["ab c", "b"] * 3) == []


def test_blanks_nearly_everywhere_are_an_alarm():
    (told,) = said_as(["." * 20, "a" + "." * 40], ["abc ab", "cab a"])
    assert "98% of the frames" in told and "writes 1 characters" in told and "Train longer" in told


def test_blanks_nearly_everywhere_are_right_where_frames_are_short():
    assert said_as(["ab" + "." * 90, "ca" + "." * 90], ["ab", "ca"]) == []


def test_empty_texts_are_an_alarm_but_not_where_nothing_is_said():
    (told,) = said_as(["a bc"] * 4 + ["...."] * 2, ["a bc"] * 5 + ["b"])
    assert "nothing for 2 of 6 validation recordings" in told
    assert said_as(["abc"] * 4 + [""] * 2, ["abc"] * 4 + [""] * 2) == []


def test_a_character_that_is_often_said_and_never_written_is_an_alarm():
    (told,) = said_as(["ab"] * 5, ["cb"] * 5)
    assert "never writes these characters on validation: 'c'." in told
    assert said_as(["ab"] * 5, ["ab"] * 4 + ["cb"]) == [], "too rare to tell"
    (told,) = said_as(["abc"] * 5, ["a bc"] * 5)
    assert "characters on validation: ' '." in told, "the space is a character too"


def test_characters_of_validation_that_training_never_had_are_named():
    (told,) = said_as(["ab", "ab"], ["ab’", "a!b’"])
    assert "that training never had: '!', '’'. Each counts as an error" in told


# A training


def sounds(said, names, random):
    """Frames (n, T, C): each character sounds for two or three frames, with noise, and a pause of as many follows it."""
    made = []
    for text in said:
        index = [
            each for character in text
            for each in [names.index(character)] * random.integers(2, 4) + [0] * random.integers(2, 4)
        ]  # fmt: skip
        made.append(torch.eye(len(names))[index] + 0.1 * torch.from_numpy(random.normal(size=(len(index), len(names)))).float())
    return nn.utils.rnn.pad_sequence(made, batch_first=True), torch.tensor(list(map(len, made)))


class Small(nn.Module):
    """A convolution over frames."""

    def __init__(self, num_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(num_outputs, 64, 3, padding=1), nn.GELU(), nn.Conv1d(64, num_outputs, 1))

    def forward(self, frames, lengths):
        padded = torch.arange(frames.shape[1]) >= lengths[:, None]
        return self.layers(frames.transpose(1, 2)).transpose(1, 2).masked_fill(padded[..., None], NO_STEP)


def test_a_small_network_learns_to_transcribe_without_errors():
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    train, val = texts(random, 150), texts(random, 30)
    names = learning.outputs(train)
    (frames, lengths), targets = sounds(train, names, random), learning.targets(train, names)
    heard, val_targets = sounds(val, names, random), learning.targets(val, names)
    network, how = Small(len(names)), options(label_smoothing=0, batch_size=12)
    criterion, optimizer = learning.criterion(targets, how), torch.optim.Adam(network.parameters(), lr=0.02)

    def validate():
        with torch.inference_mode():
            return network(*heard)

    before, alarms = learning.figures(validate(), val_targets), learning.alarms(validate(), val_targets, names)
    for epoch in range(12):
        for batch in learning.batches(targets, how, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            criterion(network(frames[batch], lengths[batch]), targets[batch]).mean().backward()
            optimizer.step()
    figures = learning.figures(validate(), val_targets)
    assert before["cer"] > 0.8 and before["loss"] > learning.guess(targets) and alarms
    assert figures["cer"] == figures["wer"] == 0 and figures["loss"] < 0.1
    assert learning.alarms(validate(), val_targets, names) == []
    answers = measures.served(to.predictions(validate()), names, [None] * len(val))
    assert answers["text"].tolist() == val and answers["confidence"].min() > 0.5
    assert jiwer.cer(val, answers["text"].tolist()) == 0
