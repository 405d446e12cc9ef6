"""Images: decoding and packing of the files that people have, augmentation and mixing."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms

from stages.lib.core.contracts import Mix
from stages.lib.core.datasets import in_memory
from stages.lib.modalities.image import inputs
from stages.lib.training import mixing

random = np.random.default_rng(0)
COLOURS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 40]]], np.uint8)


def blocks(mode="RGB"):
    """Four colours, a quarter of the image each: 40 wide, 20 high."""
    return Image.fromarray(COLOURS.repeat(10, 0).repeat(20, 1)).convert(mode)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(image):
    pixels = np.asarray(image).astype(int)
    return pixels[[2, 2, -3, -3], [2, -3, 2, -3]].reshape(2, 2, 3)


@pytest.mark.parametrize("kind, options, tolerance", [
    ("PNG", {}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 95}, 12),
])  # fmt: skip
def test_formats(kind, options, tolerance):
    image = inputs.decode(encoded(blocks(), kind, **options))
    assert image.mode == "RGB" and image.size == (40, 20)
    assert np.abs(corners(image) - COLOURS).max() <= tolerance


def test_palette_with_transparency():
    palette = blocks("P")
    image = inputs.decode(encoded(palette, "PNG", transparency=palette.getpixel((0, 0))))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(palette.convert("RGB")))


def test_alpha_grey_and_one_bit():
    assert np.abs(corners(inputs.decode(encoded(blocks("RGBA"), "PNG"))) - COLOURS).max() == 0
    grey = np.asarray(inputs.decode(encoded(blocks("L"), "PNG")))
    assert (grey == np.asarray(blocks("L"))[..., None]).all()
    ink = np.asarray(inputs.decode(encoded(blocks("L").point(lambda v: 255 * (v > 100), "1"), "PNG")))
    assert set(np.unique(ink)) == {0, 255}


def test_cmyk_jpeg_has_the_colours_of_its_rgb():
    image = inputs.decode(encoded(blocks("CMYK"), "JPEG", quality=95))
    assert np.abs(corners(image) - COLOURS).max() <= 12


def test_sixteen_bits_are_scaled_not_cut_off():
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = np.asarray(inputs.decode(encoded(Image.fromarray(values), "PNG")))
    np.testing.assert_array_equal(image[..., 0], np.arange(256).reshape(16, 16))
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("orientation, quarter_turns", [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_camera_orientation(orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = inputs.decode(encoded(blocks(), "PNG", exif=exif))
    np.testing.assert_array_equal(corners(image), np.rot90(COLOURS, quarter_turns))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_raises(kind):
    noise = Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise, kind)
    assert inputs.decode(whole).size == (64, 64)
    with pytest.raises(OSError, match="truncated"):
        inputs.decode(whole[: len(whole) // 2])


def smooth(width, height):
    return Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def as_torchvision(image, short, px):
    scaled = transforms.functional.resize(image, short, transforms.InterpolationMode.BICUBIC)
    return np.asarray(transforms.functional.center_crop(scaled, px)).astype(int)


def difference_to_torchvision(width, height, px, short, crop_pct):
    """Of our crop and torchvision's Resize and CenterCrop, in grey levels."""
    image = smooth(width, height)
    ours = inputs.pack(image, px=px, fit="crop", channels=3, crop_pct=crop_pct, interpolation="bicubic").astype(int)
    return np.abs(ours - as_torchvision(image, short, px)).max()


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="unknown range"):
        inputs.decode(Image.fromarray(np.random.default_rng(0).random((8, 8), dtype=np.float32)))


@pytest.mark.parametrize("width, height", [(500, 375), (375, 500), (300, 300), (512, 384), (200, 150), (1023, 767)])
def test_crop_is_the_evaluation_of_imagenet_models(width, height):
    assert difference_to_torchvision(width, height, 224, 256, 0.875) <= 1


@pytest.mark.parametrize("width, height", [(640, 427), (200, 150)])
@pytest.mark.parametrize("px, short, crop_pct", [(160, 182, 0.875), (32, 32, 1.0)])
def test_crop_is_the_evaluation_of_imagenet_models_at_odd_sides(width, height, px, short, crop_pct):
    assert difference_to_torchvision(width, height, px, short, crop_pct) <= 1


def test_squash_keeps_the_whole_image():
    ours = inputs.pack(blocks(), px=20, fit="squash", channels=3, crop_pct=0.5, interpolation="nearest")
    np.testing.assert_array_equal(ours, COLOURS.repeat(10, 0).repeat(10, 1))


@pytest.mark.parametrize(
    ("width", "height", "box"), [(16, 16, (4, 4, 24, 24)), (40, 20, (4, 9, 24, 19)), (7, 70, (13, 4, 15, 24))]
)
@pytest.mark.parametrize("channels", [3, 1])
def test_a_frame_holds_the_whole_image_in_its_own_proportions_on_black(width, height, box, channels):
    """20 of 28 pixels, as in MNIST."""
    image = smooth(width, height)
    framed = inputs.pack(image, px=28, fit="frame", channels=channels, crop_pct=1.0, interpolation="bilinear").copy()
    assert framed.shape == (28, 28, channels)
    left, top, right, bottom = box
    small = (image if channels == 3 else image.convert("L")).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(framed[top:bottom, left:right], np.asarray(small).reshape(bottom - top, right - left, channels))
    framed[top:bottom, left:right] = 0
    assert not framed.any()


@pytest.mark.parametrize("fit", ["squash", "crop", "frame"])
def test_grey_images_keep_their_grey_levels_and_colours_become_grey(fit):
    how = {"px": 20, "fit": fit, "crop_pct": 0.5, "interpolation": "bilinear"}
    grey = inputs.pack(blocks("L").convert("RGB"), channels=1, **how)
    assert grey.shape == (20, 20, 1) and grey.dtype == np.uint8
    np.testing.assert_array_equal(grey[..., 0], inputs.pack(blocks("L").convert("RGB"), channels=3, **how)[..., 1])
    np.testing.assert_array_equal(grey, inputs.pack(blocks(), channels=1, **how))


@pytest.mark.parametrize(("mean", "std"), [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.1307], [0.3081])])
def test_to_network_normalises_as_torchvision_does(mean, std):
    batch = random.integers(0, 255, (3, 8, 8, len(mean)), dtype=np.uint8)
    steps = [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True), transforms.Normalize(mean, std)]
    expected = torch.stack([transforms.Compose(steps)(image) for image in batch])
    ours = inputs.to_network(torch.from_numpy(batch), mean, std)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_a_loaded_split_gives_the_images_asked_for_as_the_network_takes_them():
    packed = random.integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    how = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    split = inputs.load(in_memory(packed, False), torch.arange(5), how, torch.device("cpu"))
    rows, draws = torch.tensor([3, 0]), torch.from_numpy(random.random((2, split.num_draws), dtype=np.float32))
    chosen = torch.from_numpy(packed[[3, 0]])
    assert torch.equal(split.inputs(rows, "none", None), inputs.to_network(chosen, how["mean"], how["std"]))
    changed = inputs.augment(chosen, "strong", draws)
    assert torch.equal(split.inputs(rows, "strong", draws), inputs.to_network(changed, how["mean"], how["std"]))
    assert split.targets.tolist() == [0, 1, 2, 3, 4] and split.mix is inputs.mix


def test_what_was_packed_otherwise_than_the_weights_know_it_is_named():
    card = {"px": 224, "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    packed = inputs.packing(64, "crop", card)
    assert packed == {"px": 64, "fit": "crop", "channels": 3, "crop_pct": 0.9, "interpolation": "bicubic"}
    assert inputs.mismatch(packed, card) == {}, "another side is a choice"
    other = card | {"crop_pct": 1.0, "interpolation": "bilinear"}
    assert inputs.mismatch(packed, other) == {"interpolation": ("bicubic", "bilinear"), "crop_pct": (0.9, 1.0)}
    assert inputs.mismatch(packed | {"fit": "squash"}, other) == {"interpolation": ("bicubic", "bilinear")}, "nothing is cropped"
    assert inputs.mismatch(packed, card | {"mean": [0.5], "std": [0.5]}) == {"channels": (3, 1)}


def test_inspection_mirrors_and_turns_and_loses_nothing():
    """Eight draws give the eight positions of a square, each once."""
    image = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3)
    draws = torch.cartesian_prod(*[torch.tensor([0.2, 0.8])] * 3)
    seen = inputs.augment(image.repeat(8, 1, 1, 1), "inspection", draws)
    both = image[0].numpy(), image[0].numpy()[:, ::-1]
    positions = {tuple(np.rot90(each, turns).ravel()) for each in both for turns in range(4)}
    assert {tuple(each.numpy().ravel()) for each in seen} == positions


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("level", ["light", "strong", "inspection"])
def test_an_image_changes_by_its_own_draws_alone(level, channels):
    batch = torch.from_numpy(random.integers(0, 255, (6, 32, 32, channels), dtype=np.uint8))
    draws = torch.from_numpy(random.random((6, inputs.NUM_DRAWS), dtype=np.float32))
    together = inputs.augment(batch, level, draws)
    assert together.dtype == torch.uint8 and together.shape == batch.shape
    assert (together != batch).any()
    for index in range(6):
        torch.testing.assert_close(inputs.augment(batch[[index]], level, draws[[index]])[0], together[index])


@pytest.mark.parametrize("level", ["none", "light", "strong", "inspection"])
def test_images_that_lie_on_the_device_give_the_same_batches(level, monkeypatch):
    packed = in_memory([random.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(9)], False)
    how = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    indices, draws = torch.tensor([8, 0, 3]), torch.from_numpy(random.random((3, inputs.NUM_DRAWS), dtype=np.float32))
    there = []
    for fits in (False, True):
        monkeypatch.setattr(inputs, "_fits", lambda images, device, fits=fits: fits)
        split = inputs.load(packed, torch.arange(9), how, torch.device("cpu"))
        there.append(split.inputs(indices, level, draws))
    assert torch.equal(*there)
    assert there[0].is_contiguous(memory_format=torch.channels_last)


def test_light_shifts_by_at_most_a_sixteenth():
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[0, 16, 16] = 255
    corner = inputs.augment(image, "light", torch.tensor([[0.9, 0.0, 0.999]]))
    assert corner[0, :, :, 0].nonzero().tolist() == [[18, 14]]


# "strong": draws of 0.5 change nothing, and each of the others does one thing

STILL = torch.full((1, inputs.NUM_DRAWS), 0.5)
DRAWS = ["mirror", "turn", "scale", "shift_x", "shift_y", "contrast", "brightness", "side", "row", "column", "cover"]


def picture(side=64):
    """A smooth image, so that interpolation hardly matters."""
    return torch.from_numpy(np.asarray(smooth(side, side)).copy())[None]


def strong(image, **drawn):
    draws = STILL.clone()
    for name, value in drawn.items():
        draws[0, DRAWS.index(name)] = value
    return inputs.augment(image, "strong", draws)[0].numpy().astype(int)


def test_strong_in_the_middle_of_every_range_leaves_the_image_as_it_is():
    image = picture()
    np.testing.assert_array_equal(strong(image), image[0])


def test_strong_mirrors_left_and_right():
    image = picture()
    np.testing.assert_array_equal(strong(image, mirror=0.49), image[0].numpy()[:, ::-1])


@pytest.mark.parametrize(("drawn", "degrees"), [(0.0, -15), (0.25, -7.5), (0.9999, 15)])
def test_strong_turns_by_up_to_15_degrees(drawn, degrees):
    image = picture()
    bilinear = transforms.InterpolationMode.BILINEAR
    turned = transforms.functional.rotate(image.permute(0, 3, 1, 2), degrees, bilinear)[0].permute(1, 2, 0).numpy().astype(int)
    inner = (slice(12, -12), slice(12, -12))  # outside it torchvision fills with black
    ours = strong(image, turn=drawn)[inner]
    assert np.abs(ours - turned[inner]).max() <= 2
    assert np.abs(ours - image[0].numpy()[inner]).max() > 20


@pytest.mark.parametrize(("drawn", "scale"), [(0.0, 4 / 3), (0.9999, 3 / 4)])
def test_strong_scales_by_a_third_and_back(drawn, scale):
    image = picture()
    bilinear = transforms.InterpolationMode.BILINEAR
    scaled = transforms.functional.affine(image.permute(0, 3, 1, 2), 0, [0, 0], scale, [0, 0], bilinear)
    inner = (slice(10, -10), slice(10, -10))
    ours = strong(image, scale=drawn)[inner]
    assert np.abs(ours - scaled[0].permute(1, 2, 0).numpy().astype(int)[inner]).max() <= 3
    assert np.abs(ours - image[0].numpy()[inner]).max() > 20


def test_strong_shifts_by_up_to_an_eighth_and_reflects_what_is_beyond_the_border():
    image = picture()
    still = image[0].numpy().astype(int)
    np.testing.assert_allclose(strong(image, shift_x=0.0)[:, 8:], still[:, :-8], atol=1)
    np.testing.assert_allclose(strong(image, shift_x=0.0)[:, :8], still[:, 7::-1], atol=1)
    np.testing.assert_allclose(strong(image, shift_y=0.0)[8:], still[:-8], atol=1)
    np.testing.assert_allclose(strong(image, shift_y=0.75)[:-4], still[4:], atol=1)


def test_strong_changes_brightness_and_contrast_by_up_to_40_percent():
    image = picture()
    pixels = image[0].numpy().astype(float)
    np.testing.assert_allclose(strong(image, brightness=0.0), pixels * 0.6, atol=0.51)
    np.testing.assert_allclose(strong(image, brightness=0.9999), (pixels * 1.4).clip(0, 255), atol=1)
    np.testing.assert_allclose(strong(image, contrast=0.0), pixels.mean() + (pixels - pixels.mean()) * 0.6, atol=0.51)
    stretched = pixels.mean() + (pixels - pixels.mean()) * 1.4
    np.testing.assert_allclose(strong(image, contrast=0.9999), stretched.clip(0, 255), atol=1)


@pytest.mark.parametrize(("row", "column"), [(0.5, 0.5), (0.25, 0.75), (0.0, 0.0)])
def test_strong_covers_at_most_a_square_of_a_third(row, column):
    image = picture(60)
    expected = image[0].numpy().copy()
    top, left = (max(0, round(60 * place - 10)) for place in (row, column))
    expected[top : round(60 * row + 10), left : round(60 * column + 10)] = 128
    np.testing.assert_array_equal(strong(image, cover=0.1, side=0.9999, row=row, column=column), expected)
    np.testing.assert_array_equal(strong(image, cover=0.6, side=0.9999, row=row, column=column), image[0])
    np.testing.assert_array_equal(strong(image, cover=0.1, side=0.0, row=row, column=column), image[0])


def test_strong_is_no_identity_and_covers_half_of_the_images():
    batch = picture().repeat(400, 1, 1, 1)
    draws = torch.rand(400, inputs.NUM_DRAWS, generator=torch.Generator().manual_seed(0))
    seen = inputs.augment(batch, "strong", draws)
    assert seen.shape == batch.shape and seen.dtype == torch.uint8
    assert (seen != batch).flatten(1).float().mean(1).min() > 0.3
    assert torch.unique(seen.flatten(1), dim=0).shape[0] == 400
    draws[:, 7:10] = torch.tensor([1.0, 0.5, 0.5])
    grey = (inputs.augment(batch, "strong", draws)[:, 28:36, 28:36] == 128).flatten(1).all(1)
    assert 160 < grey.sum() < 240


def test_an_unknown_level_is_an_error():
    with pytest.raises(ValueError, match="'strog'"):
        inputs.augment(picture(), "strog", STILL)


# Mixing


def by_label(labels, num_classes, height, width):
    """Images that show their label: channel c is 1 where the label is c. The mean over pixels is then the soft label."""
    images = torch.nn.functional.one_hot(labels, num_classes).float()
    return images[:, :, None, None].expand(-1, -1, height, width).contiguous()


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("sides", [(32, 32), (17, 40)])
def test_the_pixels_of_a_mixed_image_say_the_fractions_of_its_labels(kind, sides):
    labels = torch.tensor([0, 1, 2, 2, 0])
    images = by_label(labels, 3, *sides)
    random, fractions = np.random.default_rng(0), []
    for _ in range(200):
        mix = mixing.draw(5, **{"mixup": 0, "cutmix": 0} | {kind: 1.0}, random=random)
        mixed, kept = inputs.mix(images, images[mix.partner], mix)
        wanted = kept * images[:, :, 0, 0] + (1 - kept) * images[mix.partner][:, :, 0, 0]
        torch.testing.assert_close(mixed.mean((2, 3)), wanted, atol=1e-5, rtol=0)
        assert 0 <= kept <= 1 and mixed.shape == images.shape
        fractions.append(kept)
    assert min(fractions) < 0.2 and max(fractions) > 0.9


def test_mixup_is_a_straight_line_between_two_images():
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    mix = Mix(torch.tensor([2, 0, 3, 1]), 0.3, None)
    mixed, kept = inputs.mix(images, images[mix.partner], mix)
    assert kept == 0.3
    np.testing.assert_allclose(mixed, 0.3 * images.numpy() + 0.7 * images.numpy()[[2, 0, 3, 1]], atol=1e-6)


def test_cutmix_pastes_one_rectangle_and_leaves_the_rest():
    images = torch.randn(3, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    mix = Mix(torch.tensor([1, 2, 0]), 0.5, (0.1, 0.5, 0.25, 0.8))
    mixed, kept = inputs.mix(images, images[mix.partner], mix)
    expected = given.numpy().copy()
    expected[:, :, 2:10, 10:32] = given.numpy()[[1, 2, 0], :, 2:10, 10:32]
    np.testing.assert_array_equal(mixed, expected)
    assert kept == pytest.approx(1 - 8 * 22 / 800)
    assert torch.equal(images, given)  # what was given may be someone else's


def test_mixed_images_stay_in_the_memory_format_that_is_fast():
    images = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    for box in (None, (0.0, 0.5, 0.0, 0.5)):
        mixed, _ = inputs.mix(images, images.flip(0), Mix(torch.tensor([1, 0]), 0.5, box))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
