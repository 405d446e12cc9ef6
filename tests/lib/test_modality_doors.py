"""Every modality keeps the contract of stages/README.md: those of the project, and the toy that tests add."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from stages.lib.advice.look import moved
from stages.lib.core import plugins
from stages.lib.core.contracts import Mix
from stages.lib.networks.backbones import Model
from tests.fragments import Shown
from tests.lib.doors import CPU, MODALITIES, Modality, leaves, modality_of, structure, toys

__all__ = ["toys"]  # a fixture for all tests of this file
DAMAGED = [b"", b"\x00 damaged \xff"]
EVERYTHING = torch.arange(6)


@pytest.fixture(params=MODALITIES)
def modality(request: pytest.FixtureRequest) -> Modality:
    return modality_of(request.param)


def test_a_modality_says_what_its_inputs_are(modality):
    door = modality.door
    assert isinstance(door.NOUN, str) and door.NOUN and "none" in door.AUGMENTATIONS
    assert isinstance(door.CAPTION, str) and door.CAPTION.endswith(".")
    assert isinstance(door.MIXES, bool) and isinstance(door.RAGGED, bool) and "example" in door.PER
    assert set(door.PER) <= {"example", "word", "frame"}


@pytest.mark.parametrize("name", ["Preprocessing", "Packing"])
def test_its_params_are_all_required_and_no_others_allowed(modality, name):
    params, block = getattr(modality.door, name), getattr(modality.described, name.lower())
    assert all(field.is_required() for field in params.model_fields.values())
    assert params.model_config["strict"] and json.loads(params.model_validate(block).model_dump_json()) == block
    for wrong in [block | {"another": 1}, *({key: block[key] for key in block if key != left} for left in block)]:
        with pytest.raises(ValidationError):
            params.model_validate(wrong)


@pytest.mark.parametrize("damaged", DAMAGED, ids=["empty", "damaged"])
def test_what_is_damaged_cannot_be_decoded_or_received(modality, damaged):
    for function in (modality.inputs.decode, modality.served.receive):
        with pytest.raises(Exception):  # noqa: B017  # of any kind
            function(damaged)


def test_the_digest_is_that_of_the_content(modality):
    digests = [[modality.inputs.digest(modality.inputs.decode(file)) for file in files] for files in modality.encoded]
    assert all(first == second for first, second in digests)
    assert len({first for first, _ in digests}) == len(digests)


def test_packed_inputs_are_of_one_type_and_shape(modality):
    assert json.loads(json.dumps(modality.packing)) == modality.packing
    assert len({each.dtype for each in modality.packed}) == 1
    shapes = {each.shape[1:] if modality.door.RAGGED else each.shape for each in modality.packed}
    assert len(shapes) == 1
    assert (len({len(each) for each in modality.packed}) > 1) == modality.door.RAGGED
    for (file, _), packed in zip(modality.encoded, modality.packed, strict=True):
        assert np.array_equal(modality.inputs.pack(modality.inputs.decode(file), **modality.packing), packed)


def test_data_packed_for_the_weights_do_not_mismatch(modality):
    assert modality.inputs.mismatch(modality.packing, modality.described.preprocessing) == {}


def test_what_is_cut_is_told_with_an_amount(modality):
    few, told = modality.described.few, []
    how = modality.inputs.packing(**few or modality.described.packing, preprocessing=modality.described.preprocessing)
    for file, _ in modality.encoded:
        remarks = modality.inputs.remarks(modality.inputs.decode(file), modality.card | how)
        assert all(isinstance(remark, str) and amount >= 0 for remark, amount in remarks.items())
        told += [remark.format(amount) for remark, amount in remarks.items()]
    assert bool(told) == (few is not None) and not any("{" in words for words in told)


def test_a_batch_holds_the_inputs_of_its_indices(modality):
    loaded = modality.load()
    whole = loaded.inputs(EVERYTHING, "none", None)
    assert all(len(leaf) == 6 and leaf.device == CPU for leaf in leaves(whole))
    assert loaded.targets.equal(EVERYTHING) and loaded.num_draws >= 0
    for rows in (*([row] for row in range(6)), [1, 3], [5, 0, 2], list(range(6))):
        assert modality.same(loaded.inputs(torch.tensor(rows), "none", None), whole, rows)
    assert not modality.same(loaded.inputs(torch.tensor([1]), "none", None), whole, [2])


def test_lengths_say_which_inputs_are_alike(modality):
    lengths = modality.load().lengths
    if lengths is None:
        return
    assert lengths.shape == (6,) and lengths.device == CPU and not lengths.is_floating_point()
    order = np.argsort([len(each) for each in modality.packed], kind="stable")
    assert (lengths[torch.from_numpy(order)].diff() >= 0).all() and lengths.unique().numel() > 1


def test_an_augmentation_depends_on_an_examples_own_draws_alone(modality):
    loaded = modality.load()
    draws = torch.rand(6, loaded.num_draws, generator=torch.Generator().manual_seed(0))
    for level in set(modality.door.AUGMENTATIONS) - {"none"}:
        whole = loaded.inputs(EVERYTHING, level, draws)
        assert not modality.same(whole, loaded.inputs(EVERYTHING, "none", None), list(range(6)))
        for rows in ([4], [5, 0, 2]):
            assert modality.same(loaded.inputs(torch.tensor(rows), level, draws[rows]), whole, rows)
        others = draws.roll(1, 0)
        others[2] = draws[2]
        mostly = loaded.inputs(EVERYTHING, level, others)
        assert modality.same(loaded.inputs(torch.tensor([2]), level, draws[2:3]), mostly, [2])
        assert not modality.same(mostly, whole, list(range(6)))


def test_inputs_can_be_mixed_where_the_modality_says_so(modality):
    loaded = modality.load()
    assert (loaded.mix is not None) == modality.door.MIXES
    if loaded.mix is None:
        return
    batch, partner = loaded.inputs(EVERYTHING, "none", None), EVERYTHING.roll(1)
    others = loaded.inputs(partner, "none", None)
    for how in (Mix(partner, 0.75, None), Mix(partner, 0.75, (0.25, 0.75, 0.25, 0.75))):
        mixed, fraction = loaded.mix(batch, others, how)
        assert structure(mixed) == structure(batch) and fraction == pytest.approx(0.75)
        assert not modality.same(mixed, batch, list(range(6)))
    assert modality.same(batch, loaded.inputs(EVERYTHING, "none", None), list(range(6))), "the batch itself stays as it was"


def test_the_probe_is_an_input_like_those_of_a_batch(modality):
    probe = modality.inputs.probe(modality.card, CPU)
    assert structure(probe) == structure(modality.load().inputs(torch.tensor([0]), "none", None))
    assert all(len(leaf) == 1 for leaf in leaves(probe))


def test_the_served_model_receives_what_readers_give(modality):
    inputs, served = modality.inputs, modality.served
    assert isinstance(served.COLUMN, str) and isinstance(served.ALLOWED, str)
    for file, _ in modality.encoded:
        assert inputs.digest(served.receive(file)) == inputs.digest(inputs.decode(file))
    cell = served.example(modality.card)
    packed = inputs.pack(served.receive(json.loads(json.dumps(cell))), **modality.packing)
    assert packed.dtype == modality.packed[0].dtype and packed.ndim == modality.packed[0].ndim


@pytest.mark.parametrize("named", [True, False], ids=["labels", "no labels"])
def test_samples_of_each_split_are_shown(modality, named, tmp_path):
    labels = ["<script>a</script>", "b"]
    split = modality.split()._replace(labels=labels * 3, keys=[f"<i>{row}</i>" for row in range(6)])
    show = plugins.load("modalities", modality.name, "show")
    path = tmp_path / show.FILE
    show.samples(path, {"train": split, "val": split}, labels if named else None, "<title>", modality.packing)
    require_shown(path)
    if path.suffix == ".html":
        page = Shown(path.read_text(encoding="utf-8"))
        assert "<title>" in page.text and "train" in page.text and "val" in page.text
        assert all(page.text.count(label) >= (1 if named else 2) for label in labels)


def require_shown(path: Path) -> None:
    """A picture, or a fragment of a page in which nothing from data is anything but text."""
    assert path.stem in ("samples", "mistakes") and path.suffix in (".png", ".html")
    if path.suffix == ".png":
        with Image.open(path) as drawn:
            assert min(drawn.size) > 50
        return
    page = Shown(path.read_text(encoding="utf-8"))
    assert page.open == [] and not page.tags & {"html", "head", "body", "script", "title", "i", "link", "iframe"}


def test_what_explanations_are_called(modality):
    explain = plugins.load("modalities", modality.name, "explain")
    assert callable(explain.explained) and explain.FILE in ("mistakes.png", "mistakes.html")


def having(part: str) -> list[str]:
    return [name for name in MODALITIES if plugins.has("modalities", name.split()[-1], part)]


@pytest.mark.parametrize("name", having("variants"))
def test_the_variant_as_on_card_is_what_the_network_gets_and_the_others_are_of_its_kind(name):
    modality, variants = modality_of(name), plugins.load("modalities", name.split()[-1], "variants")
    packed = modality.packed if modality.door.RAGGED else torch.from_numpy(np.stack(modality.packed))
    batch = modality.load().inputs(EVERYTHING, "none", None)
    assert modality.same(variants.as_on_card(packed, modality.card), batch, list(range(6)))
    for variant in variants.VARIANTS.values():
        changed = variant.prepare(packed, modality.card)
        assert structure(changed) == structure(batch) and variant.remedy
        assert structure(moved(changed, CPU)) == structure(batch), "the advisor can move it to its device"


@pytest.mark.parametrize("name", having("standalone"))
def test_what_is_exported_gives_the_network_what_it_gets_here(name):
    modality, standalone = modality_of(name), plugins.load("modalities", name.split()[-1], "standalone")
    same_as_given = Model(torch.nn.Identity(), torch.nn.Identity())
    network = standalone.network(same_as_given, modality.card, lambda outputs: ("activated", outputs))
    batch = modality.load().inputs(EVERYTHING, "none", None)
    given = modality.described.exported(modality.packed, batch)
    activated, found = network(*given)
    assert activated == "activated"
    assert all(one.equal(other) for one, other in zip(leaves(found)[: len(given)], leaves(batch), strict=False))
    names = inspect.signature(network.forward).parameters
    assert len(names) == len(given) and 0 in standalone.VARYING
    for num in (1, 3):
        examples: Any = standalone.examples(modality.card, num)
        made = [examples] if isinstance(examples, torch.Tensor) else list(examples)[: len(names)]
        assert [(each.dtype, each.ndim, len(each)) for each in made] == [(each.dtype, each.ndim, num) for each in given]
        fixed = [side for side in range(1, made[0].ndim) if side not in standalone.VARYING]
        assert [made[0].shape[side] for side in fixed] == [given[0].shape[side] for side in fixed]
        network(*made)
