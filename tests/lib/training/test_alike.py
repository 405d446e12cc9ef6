"""Batches of examples of like length: nothing is lost, little is padding, and a training resumes to the same bits."""

from itertools import pairwise

import torch
from lightning_fabric import Fabric

from stages.lib.core.contracts import LoadedSplit
from stages.lib.shell import checkpoints
from stages.lib.training.loop import POOL, alike
from tests.lib.training.small import PLANS, copied, custom, equal, run, without_times
from tests.tiny import noise

LENGTHS = (torch.randn(1000, generator=torch.Generator().manual_seed(0)).mul(0.6).exp() * 20).long() + 1  # as sentences


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(num=1000, size=16, seed=0):
    """Batches of an epoch as tasks make them: of sizes that differ by at most one."""
    return torch.randperm(num, generator=generator(seed)).tensor_split(-(-num // size))


def padding(batches):
    """The share of steps that are padding."""
    steps = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
    return 1 - sum(int(LENGTHS[batch].sum()) for batch in batches) / steps


def test_the_same_examples_in_as_many_batches_of_the_same_sizes():
    for num, size in ((1000, 16), (1000, 999), (7, 3), (5, 8), (1, 1)):
        batches = drawn(num, size)
        before = [batch.clone() for batch in batches]
        made = alike(batches, LENGTHS, generator())
        assert torch.cat(made).sort().values.equal(torch.arange(num))
        assert sorted(map(len, made)) == sorted(map(len, batches))
        assert all(one.equal(other) for one, other in zip(batches, before, strict=True))


def test_examples_that_are_drawn_twice_are_there_twice():
    batches = torch.randint(0, 1000, (1000,), generator=generator()).split(16)
    made = alike(batches, LENGTHS, generator())
    assert torch.cat(made).sort().values.equal(torch.cat(batches).sort().values)


def test_little_is_padding():
    batches = drawn()
    assert padding(batches) > 0.5 and padding(alike(batches, LENGTHS, generator())) < 0.3


def test_examples_stay_in_their_pool_and_are_sorted_in_it():
    """So the order stays random: an example meets others in every epoch."""
    batches = drawn()
    pool_of = {int(index): number // POOL for number, batch in enumerate(batches) for index in batch}
    made = alike(batches, LENGTHS, generator())
    pools = [{pool_of[int(index)] for index in batch} for batch in made]
    assert all(len(pool) == 1 for pool in pools)
    for number in range(-(-len(batches) // POOL)):
        ranges = sorted((int(LENGTHS[batch].min()), int(LENGTHS[batch].max()))
                        for batch, pool in zip(made, pools, strict=True) if pool == {number})  # fmt: skip
        assert all(one[1] <= other[0] for one, other in pairwise(ranges))
    longest = [int(LENGTHS[batch].max()) for batch in made]
    assert longest != sorted(longest) and len({tuple(pool) for pool in pools[:POOL]}) > 1, "batches are shuffled"


def test_the_order_comes_from_the_generator_alone():
    first, again, other = (alike(drawn(), LENGTHS, generator(seed)) for seed in (0, 0, 1))
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))
    assert not all(one.equal(two) for one, two in zip(first, other, strict=True))
    assert {tuple(batch.tolist()) for batch in first} == {tuple(batch.tolist()) for batch in other}, "the same batches"


def test_equal_lengths_stay_in_the_order_in_which_they_were_drawn():
    batches = drawn(64, 16)
    made = alike(batches, torch.ones(64, dtype=torch.int64), generator())
    assert {tuple(batch.tolist()) for batch in made} == {tuple(batch.tolist()) for batch in batches}


# In a training.


def ragged(num=24, seed=0):
    """Noise of which some images are said to be longer than others, and the batches that were asked for."""
    split, asked = noise(num, seed), []

    def inputs(indices, level, draws):
        asked.append(indices.tolist())
        return split.inputs(indices, level, draws)

    lengths = torch.arange(num).roll(7) // 2
    return LoadedSplit(inputs, split.targets, num_draws=3, lengths=lengths), asked


def test_a_training_sees_batches_of_like_length_in_another_order_in_each_epoch():
    split, asked = ragged()
    run(custom(), PLANS["full"](custom()), train=split, fabric=Fabric(accelerator="cpu", devices=1))
    epochs = [asked[start : start + 4] for start in range(0, 12, 4)]
    assert len(asked) == 12
    for epoch in epochs:
        assert sorted(index for batch in epoch for index in batch) == list(range(24))
        spans = sorted((int(split.lengths[batch].min()), int(split.lengths[batch].max())) for batch in epoch)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert epochs[0] != epochs[1] != epochs[2]
    again, others = ragged()
    run(custom(), PLANS["full"](custom()), train=again)
    assert others == asked


def test_it_resumes_after_any_epoch_to_the_same_bits(tmp_path):
    def go(state=None):
        files, model = [], custom()

        def save(state):
            files.append(tmp_path / f"{len(list(tmp_path.iterdir()))}")
            checkpoints.save(files[-1], state)

        train, val = (ragged(num, seed)[0] for num, seed in ((24, 0), (16, 1)))
        fitted = run(model, PLANS["lp_ft"](custom()), train=train, val=val, augment="light", ema=0.6, state=state, save=save)
        return copied(model), fitted, files

    model, fitted, files = go()
    assert len(files) == 4
    for file in files:
        again, resumed, _ = go(checkpoints.load(file))
        assert equal(again, model) and without_times(resumed.history) == without_times(fitted.history)
