"""The preprocessing test: on simulated tables, on its words, and on a network that it must catch."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from stages.lib.advice import preprocessing, transferability
from stages.lib.advice.preprocessing import Row, compare, possible
from stages.lib.core.contracts import Variant
from stages.lib.modalities.image.variants import NORMALISATIONS, TRAINED_SIZE, VARIANTS, as_on_card

SETTINGS = {"confidence": 0.95, "num_resamples": 3000, "seed": 0}


# Which variants are tried.


def variant(change):
    """One that gives other numbers than a card that leaves packed examples as they are."""
    return Variant(lambda packed, preprocessing: change(packed), "Write another card.")


def test_variants_that_change_nothing_or_the_same_are_left_out():
    packed = torch.arange(100.0)
    tried = {
        "nothing": variant(lambda packed: packed + 1e-6),
        "doubled": variant(lambda packed: 2 * packed),
        "doubled again": variant(lambda packed: packed + packed),
        "shorter": variant(lambda packed: packed[:1]),
        "one example": variant(lambda packed: packed + (packed == 99)),
    }
    assert list(possible(tried, lambda packed, preprocessing: packed, packed, {})) == ["doubled", "shorter", "one example"]


# The comparison.


def table(num, better, random, spread=0.5, names="abcdefg"):
    """Correctness of the card and of variants on images of which some are hard for all; the first one is `better`."""
    hard = random.normal(0, 1.5, num)
    skill = [1.0, 1.0 + better] + [1.0] * (len(names) - 1)
    return {name: each - hard + random.normal(0, spread, num) > 0 for name, each in zip(["card", *names], skill, strict=True)}


def test_rows_hold_accuracies_and_paired_differences():
    correct = table(300, 1.0, np.random.default_rng(0), names="ab")
    rows = compare(correct, **SETTINGS)
    assert [row.name for row in rows] == ["a", "b"]
    for row in rows:
        assert row.accuracy == pytest.approx(correct[row.name].mean())
        assert row.difference == pytest.approx(correct[row.name].mean() - correct["card"].mean())
        assert row.lower <= row.difference <= row.upper
        assert row.wins == (row.lower > 0)
    assert [row.wins for row in rows] == [True, False]
    assert compare(correct, **SETTINGS) == rows
    assert compare({"card": correct["card"]}, **SETTINGS) == []


@pytest.mark.parametrize("names", ["a", "abcdefg"])
def test_the_intervals_are_corrected_for_the_number_of_variants(names):
    """Against the normal interval of a mean of paired differences."""
    correct = table(2000, 0.3, np.random.default_rng(1), spread=1.0, names=names)
    differences = correct["a"].astype(float) - correct["card"]
    width = 2 * norm.ppf(1 - 0.05 / len(names) / 2) * differences.std() / np.sqrt(2000)
    row = compare(correct, confidence=0.95, num_resamples=20_000, seed=0)[0]
    assert row.upper - row.lower == pytest.approx(width, rel=0.05)
    assert (row.upper + row.lower) / 2 == pytest.approx(row.difference, abs=0.05 * width)


@pytest.mark.parametrize(("num", "spread"), [(60, 1.0), (100, 0.3), (200, 0.3), (200, 1.0)])
def test_a_clean_card_is_seldom_accused(num, spread):
    """At most (1 - confidence) / 2 = 2.5 in 100 tables of seven variants that are no better; 1 in 1000 runs exceed the bound."""
    random = np.random.default_rng(0)
    accused = sum(
        any(row.wins for row in compare(table(num, 0, random, spread), **SETTINGS | {"seed": seed})) for seed in range(200)
    )
    assert accused <= binom.ppf(0.999, 200, 0.025)


def test_a_clean_card_is_seldom_accused_by_few_differences():
    """Variants that change 7 answers of 100, independently of each other; without the made-up examples 4 in 100 are."""
    random, card = np.random.default_rng(0), np.arange(100) % 2 == 0
    accused = 0
    for seed in range(200):
        correct = {"card": card} | {name: card ^ (random.random(100) < 0.07) for name in "abcdefg"}
        accused += any(row.wins for row in compare(correct, **SETTINGS | {"seed": seed}))
    assert accused <= binom.ppf(0.99, 200, 0.01)


def test_a_better_variant_is_found_and_a_worse_one_never():
    random = np.random.default_rng(0)
    for seed in range(20):
        rows = compare(table(200, 1.2, random), **SETTINGS | {"seed": seed})
        assert rows[0].wins and rows[0].difference > 0.05
        worse = compare(table(200, -1.2, random), **SETTINGS | {"seed": seed})[0]
        assert worse.upper < 0 and not worse.wins


def test_six_differences_of_one_sign_are_not_enough():
    card = np.zeros(100, bool)
    few, many = card.copy(), card.copy()
    few[:6], many[:16] = True, True
    rows = compare({"card": card, "few": few, "many": many} | {name: card for name in "abcde"}, **SETTINGS)
    assert [row.wins for row in rows[:2]] == [False, True]
    assert not any(row.wins for row in rows[2:])
    assert (rows[2].difference, rows[2].accuracy) == (0, 0)


def test_examples_of_one_group_count_less():
    random = np.random.default_rng(0)
    groups = np.repeat([f"module {index}" for index in range(12)], 20)
    card = random.random(240) < 0.5
    better = card | np.repeat(random.random(12) < 0.2, 20)
    assert 0 < better.mean() - card.mean() < 0.3
    (single,), (whole,) = (compare({"card": card, "a": better}, groups=each, **SETTINGS) for each in (None, groups))
    assert single.wins and not whole.wins and single.difference == whole.difference
    (one,) = compare({"card": card, "a": better}, groups=np.full(240, "module"), **SETTINGS)
    assert (one.lower, one.upper, one.wins) == (-1, 1, False)
    (alone,) = compare({"card": card, "a": better}, groups=np.full(240, ""), **SETTINGS)
    assert alone == single


def test_the_card_must_be_there():
    with pytest.raises(KeyError, match="card"):
        compare({"a": np.ones(3, bool)}, **SETTINGS)


# The words.


def words(rows, margin):
    return preprocessing.words(rows, VARIANTS, margin)


def row(name, accuracy, difference, wins=True):
    return Row(name, accuracy, difference, difference - 0.03 if wins else -0.01, difference + 0.03, wins)


def test_only_what_wins_by_more_than_the_margin_is_told():
    rows = [row("no normalisation", 0.84, 0.04), row("BGR", 0.90, 0.10, wins=False), row("half size", 0.7, -0.1, wins=False)]
    assert words(rows, 0.05) == []
    assert len(words(rows, 0.03)) == 1


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_warning_names_both_accuracies_and_the_card_to_write(name):
    (text,) = words([row(name, 0.9123, 0.2)], 0.05)
    mean, std = NORMALISATIONS[name]
    for part in (name, "91.2%", "71.2%", "source.<name>.preprocessing.mean", "source.<name>.preprocessing.std",
                 f"mean to [{mean[0]:.6g}, ", f"std to [{std[0]:.6g}, "):  # fmt: skip
        assert part in text


def test_normalisations_are_one_warning_for_the_best_of_them():
    rows = [row("no normalisation", 0.8, 0.1), row("mean and std 0.5", 0.9, 0.2), row("half size", 0.79, 0.09)]
    first, second = words(rows, 0.05)
    assert "90.0%" in first and "trained with mean and std 0.5" in first and "no normalisation, 80.0%" in first
    assert "half size" in second


@pytest.mark.parametrize("name", ["half size", TRAINED_SIZE])
def test_a_better_size_is_advice_on_px_and_no_accusation(name):
    (text,) = words([row(name, 0.9, 0.2)], 0.05)
    assert name in text and "datasets.<name>.px" in text and "does not mean that the card is wrong" in text
    assert "probably trained with" not in text


def test_swapped_channels_have_their_own_advice():
    (text,) = words([row("BGR", 0.9, 0.2)], 0.05)
    assert "blue, green, red" in text and "first convolution" in text


# A real network.


def shades(num, seed):
    """Noise in two brightnesses and two tints, near each other: four classes."""
    random, labels = np.random.default_rng(seed), np.arange(num) % 4
    level = np.array([110, 110, 145, 145])[labels] + random.normal(0, 8, num)
    tint = np.array([-14, 14, -14, 14])[labels] + random.normal(0, 6, num)
    pixels = (level[:, None] + tint[:, None] * [1, 0, -1])[:, None, None] + random.normal(0, 15, (num, 24, 24, 3))
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)), labels


def card(name):
    mean, std = NORMALISATIONS[name]
    return {"mean": mean, "std": std, "px": 24}


def trained(preprocessing):
    """A small network whose units saturate, so that it answers rightly to the inputs of its training only."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2), nn.Tanh(), nn.Conv2d(16, 32, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = nn.Sequential(backbone, nn.Linear(32, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    images, labels = shades(512, seed=1)
    inputs, labels = as_on_card(images, preprocessing), torch.from_numpy(labels)
    for step in range(120):
        batch = torch.arange(64) + 64 * (step % 8)
        loss = nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3, "it must have learned"
    return backbone.eval()


def rows_of(backbone, preprocessing):
    images, labels = shades(200, seed=2)
    ways = {"card": as_on_card} | {
        name: variant.prepare for name, variant in possible(VARIANTS, as_on_card, images, preprocessing).items()
    }
    with torch.inference_mode():
        features = {name: backbone(way(images, preprocessing)).numpy() for name, way in ways.items()}
    return compare({name: transferability.knn_accuracy(each, labels, k=5) for name, each in features.items()}, **SETTINGS)


@pytest.mark.parametrize("name", ["mean and std 0.5", "ImageNet mean and std"])
def test_a_wrong_card_is_found_and_the_right_one_named(name):
    right = card(name)
    backbone = trained(right)
    assert words(rows_of(backbone, right), 0.05) == [], "the right card raises nothing"

    (text,) = words(rows_of(backbone, card("0 to 255")), 0.05)
    assert f"trained with {name}," in text and f"mean to [{right['mean'][0]:.6g}, " in text


def test_two_normalisations_that_are_near_each_other_are_told_apart():
    backbone = trained(card("mean and std 0.5"))
    (text,) = words(rows_of(backbone, card("ImageNet mean and std")), 0.02)
    assert "trained with mean and std 0.5," in text
