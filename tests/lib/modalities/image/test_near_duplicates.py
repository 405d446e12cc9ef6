"""Copies of an image that were resized, cropped, recompressed or mirrored are found, and others are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.lib.modalities.image import near_duplicates
from stages.lib.modalities.image.near_duplicates import find, fingerprint

SETTINGS = {"correlation": 0.9, "nearness": 0.35}


def blobs(seed, side=96):
    """A grey image of some soft spots at random places, all on the same frame."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    spots = sum(
        height * np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * width**2))
        for height, top, left, width in zip(
            random.uniform(-90, 90, 12), random.random(12), random.random(12), random.uniform(0.04, 0.12, 12), strict=True
        )
    )
    pixels = 128 + spots + random.normal(0, 6, (side, side))
    pixels[:6] = 20
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


def recompressed(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


CHANGES = {
    "resized": lambda image: image.resize((70, 61)),
    "cropped": lambda image: image.crop((7, 2, 93, 88)),
    "recompressed": recompressed,
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: image.point(lambda value: round(0.8 * value + 40)),
    "all of it": lambda image: recompressed(ImageOps.mirror(image.crop((7, 2, 93, 88)).resize((70, 70)))),
}
IMAGES = [blobs(seed) for seed in range(40)]
PRINTS = np.stack([fingerprint(image) for image in IMAGES])


def test_a_fingerprint_is_a_small_grey_copy():
    assert (PRINTS.shape, PRINTS.dtype) == ((40, 32, 32), np.uint8)
    assert fingerprint(Image.new("RGB", (300, 20), (255, 0, 0))).tolist() == [[76] * 32] * 32


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_changed_copy_is_found_on_either_side(change, swapped):
    copies = np.stack([fingerprint(CHANGES[change](image)) for image in IMAGES[:10]])
    tests, others = (PRINTS[:10], np.concatenate([PRINTS[10:], copies])) if swapped else (copies, PRINTS)
    found = find(tests, others, **SETTINGS)
    assert [(each.test, each.other) for each in found] == [(row, row + 30 * swapped) for row in range(10)]
    assert all(each.correlation >= 0.9 and each.nearness <= 0.35 for each in found)


def test_a_large_copy_has_the_fingerprint_of_the_original():
    """Blocks of its pixels are averaged first."""
    for image in IMAGES[:5]:
        large = image.resize((1700, 1300), Image.Resampling.BICUBIC)
        slow = np.asarray(large.convert("L").resize((32, 32), Image.Resampling.BICUBIC))
        assert np.abs(fingerprint(large).astype(int) - slow).max() <= 2


def test_other_images_are_not_found():
    assert find(PRINTS[:20], PRINTS[20:], **SETTINGS) == []
    assert find(PRINTS[:0], PRINTS, **SETTINGS) == find(PRINTS, PRINTS[:0], **SETTINGS) == []


def test_what_is_alike_among_many_alike_ones_is_no_copy():
    """One motif in 30 poses that differ a little: they correlate, but so do all of them."""
    random, motif = np.random.default_rng(0), np.asarray(blobs(0, 32).convert("L")).astype(float)
    alike = np.stack([motif + random.normal(0, 12, motif.shape) for _ in range(30)]).clip(0, 255).astype(np.uint8)
    assert find(alike[:10], alike[10:], correlation=0.9, nearness=0.2) == []
    assert np.corrcoef(alike.reshape(30, -1)).min() > 0.8, "by what all of them show they would be"
    copy = np.concatenate([alike[10:], alike[3:4]])
    assert [(each.test, each.other) for each in find(alike[:10], copy, **SETTINGS)] == [(3, 20)]


def test_a_cropped_copy_is_found_where_most_of_an_image_is_what_all_of_them_show():
    """Bars as on solar cells: other images correlate more with the original than its own crop does."""
    bars = np.where(np.arange(96) % 32 < 4, -100.0, 20.0)[:, None]
    alike = [Image.fromarray((0.4 * np.asarray(each.convert("L")) + bars + 110).clip(0, 255).astype(np.uint8)) for each in IMAGES]
    prints = np.stack([fingerprint(each) for each in alike])
    copies = np.stack([fingerprint(CHANGES["cropped"](each)) for each in alike[:10]])
    assert np.corrcoef(prints.reshape(40, -1)).min() > np.corrcoef(prints[0].ravel(), copies[0].ravel())[0, 1]
    assert {each[:2] for each in find(copies, prints, **SETTINGS)} == {(row, row) for row in range(10)}


@pytest.mark.parametrize("images", [np.zeros((3, 32, 32), np.uint8), np.full((3, 32, 32), 255, np.uint8)])
def test_images_without_structure_are_no_copies(images):
    assert find(images, images, **SETTINGS) == []


def test_a_single_other_image_is_enough():
    assert [each[:2] for each in find(PRINTS[:3], PRINTS[1:2], **SETTINGS)] == [(1, 0)]


def test_parts_give_what_the_whole_gives(monkeypatch):
    copies = np.stack([fingerprint(recompressed(image)) for image in IMAGES[:10]])
    whole = find(copies, PRINTS, **SETTINGS)
    monkeypatch.setattr(near_duplicates, "MOST_AT_ONCE", 100)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 7)
    assert [each[:2] for each in find(copies, PRINTS, **SETTINGS)] == [each[:2] for each in whole]


def test_the_picture_is_the_same_twice(tmp_path):
    pairs = [(f"test: {row}\nother: a/long/path/to/some/image/{row}.png", PRINTS[row], PRINTS[row]) for row in range(5)]
    for name in ("a.png", "b.png"):
        near_duplicates.show(tmp_path / name, pairs)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").width == 720
