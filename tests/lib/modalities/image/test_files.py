"""Image files: greys of more than 8 bits, metadata that is damaged or too long, pages, and what is refused."""

import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.lib.modalities.image import files, inputs, served
from tests.lib.modalities.image.test_inputs import blocks, corners, encoded

RAMP = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)


def tiff(values, bits, *, signed=False, big=False, photometric=1):
    """A grey TIFF of one strip, as detectors write it: its data are the packed values."""
    order = ">" if big else "<"
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        data = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in pairs)
    else:
        data = values.astype(f"{order}{'i' if signed else 'u'}{bits // 8}").tobytes()
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height),
            (279, len(data)), (339, 2 if signed else 1)]  # fmt: skip
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    head = struct.pack(f"{order}2sHI", b"MM" if big else b"II", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + table + b"\0\0\0\0"


def grey(content):
    image = inputs.decode(content)
    assert image.mode == "RGB"
    return np.asarray(image)[..., 0]


def remarks(content):
    return list(inputs.remarks(inputs.decode(content), {}))


@pytest.mark.parametrize("big", [False, True])
def test_16_bits_of_a_tiff_become_8(big):
    values = (RAMP.astype(int) * 65535 // 4095).astype(np.uint16)
    content = tiff(values, 16, big=big)
    np.testing.assert_array_equal(grey(content), (values / 257).round())
    assert remarks(content) == []


def test_12_bits_that_the_file_states_fill_the_range():
    content = tiff(RAMP, 12)
    np.testing.assert_array_equal(grey(content), (RAMP / 4095 * 255).round())
    assert remarks(content) == []


@pytest.mark.parametrize("most", [1023, 4095, 16383])
def test_fewer_bits_in_16_are_dark_and_told(most):
    content = tiff((RAMP.astype(int) * most // 4095).astype(np.uint16), 16)
    assert grey(content).max() == round(most / 257)
    assert remarks(content) == [files.TOO_DARK]
    assert remarks(encoded(Image.fromarray(RAMP), "PNG")) == [files.TOO_DARK]


def test_where_white_is_zero_the_image_is_inverted():
    values = (RAMP.astype(int) * 65535 // 4095).astype(np.uint16)
    np.testing.assert_array_equal(grey(tiff(values, 16, photometric=0)), 255 - (values / 257).round())
    np.testing.assert_array_equal(grey(tiff(values // 257, 8, photometric=0)), 255 - values // 257)


@pytest.mark.parametrize("bits, signed", [(16, True), (32, True), (32, False)])
@pytest.mark.parametrize("big", [False, True])
def test_whole_numbers_without_a_known_range_are_refused(bits, signed, big):
    values = RAMP.astype(np.int32) - (1000 if signed else 0)
    with pytest.raises(Exception, match=r"with a sign|identify"):
        inputs.decode(tiff(values, bits, signed=signed, big=big))


def test_signed_and_floating_point_pixels_are_refused_in_words():
    with pytest.raises(ValueError, match=r"with a sign, or of 32 bits .* save it with 8 or 16 bits without a sign"):
        inputs.decode(tiff(RAMP.astype(np.int32) - 1000, 16, signed=True))
    with pytest.raises(ValueError, match="unknown range"):
        served.receive(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_a_pgm_says_what_is_white(most):
    values = (RAMP.astype(int) * most // 4095).astype(">u2")
    content = f"P5 16 16 {most}\n".encode() + values.tobytes()
    assert np.abs(grey(content).astype(int) - values / most * 255).max() <= 0.51
    assert remarks(content) == []


# Metadata.


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(content, *chunks):
    """A PNG with more chunks behind its header."""
    at = 8 + 25
    return content[:at] + b"".join(chunks) + content[at:]


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("damaged", [b"", b"\0\x08\0\x02", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40])
def test_pixels_are_whole_whatever_their_exif(damaged):
    content = with_chunk(encoded(blocks(), "PNG"), chunk(b"eXIf", damaged))
    np.testing.assert_array_equal(np.asarray(inputs.decode(content)), np.asarray(blocks()))


def test_exif_that_cannot_be_read_is_told():
    assert remarks(with_chunk(encoded(blocks(), "PNG"), chunk(b"eXIf", b"\0\x08\0\x02"))) == [files.TURNED]
    assert remarks(encoded(blocks(), "PNG", exif=exif(6))) == []


@pytest.mark.parametrize("chunks", [
    [chunk(b"zTXt", b"note\0\0" + zlib.compress(b"x" * 3_000_000))],
    [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000))],
    [chunk(b"tEXt", b"note\0" + b"x" * 900_000)] * 90,
    [chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 3_000_000))],
    [chunk(b"zTXt", b"note\0\0" + b"no zlib")],
    [chunk(b"tEXt", b"note\0abc")[:-4] + b"\0\0\0\0"],
])  # fmt: skip
def test_long_or_damaged_texts_are_no_pixels(chunks):
    content = with_chunk(encoded(blocks(), "PNG"), *chunks)
    np.testing.assert_array_equal(np.asarray(inputs.decode(content)), np.asarray(blocks()))
    assert files.recognised(lambda num: content if num < 0 else content[:num])


def test_transparency_and_orientation_outlive_what_is_left_out():
    content = with_chunk(encoded(blocks("P"), "PNG", exif=exif(3)), chunk(b"tEXt", b"note\0abc"))
    np.testing.assert_array_equal(corners(inputs.decode(content)), np.rot90(corners(blocks("P").convert("RGB")), 2))


@pytest.mark.parametrize("cut", [8, 12, 20, 33, 60])
def test_a_cut_png_still_raises(cut):
    content = with_chunk(encoded(blocks(), "PNG"), chunk(b"tEXt", b"note\0abc"))
    with pytest.raises(Exception, match=r"truncated|identify|broken|Truncated"):
        inputs.decode(content[:cut])


# Pages, kinds, sizes.


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_several_pages_the_first_is_used_and_told(kind):
    one, other = Image.new("RGB", (20, 20), (200, 30, 30)), Image.new("RGB", (20, 20), (30, 30, 200))
    several = encoded(one, kind, save_all=True, append_images=[other])
    assert remarks(several) == [files.PAGES] and remarks(encoded(one, kind)) == []
    assert np.abs(np.asarray(inputs.decode(several)).astype(int) - (200, 30, 30)).max() <= 8


def test_programs_and_pictures_that_are_no_pixels_are_refused():
    for content in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"%PDF-1.7\n", b"<svg/>", b""):
        assert not files.recognised(lambda num, content=content: content if num < 0 else content[:num])
        with pytest.raises(Image.UnidentifiedImageError):
            inputs.decode(content)


# Slivers.


@pytest.mark.parametrize("width, height", [(1, 16_000), (16_000, 1), (3, 60_000)])
@pytest.mark.parametrize("fit", ["crop", "squash", "frame"])
def test_a_sliver_takes_no_more_memory_than_its_result(width, height, fit):
    image = Image.new("RGB", (width, height), (200, 30, 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packed = inputs.pack(image, px=224, fit=fit, channels=3, crop_pct=0.875, interpolation="bicubic")
    assert packed.shape == (224, 224, 3) and (packed == (200, 30, 30)).all(-1).any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"


def test_what_is_kept_of_a_sliver_is_the_part_that_a_crop_keeps():
    """Just below the limit an image is resized as a whole; the same image a little longer gives nearly the same centre."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 331, 3), dtype=np.uint8)
    how = {"px": 32, "fit": "crop", "channels": 3, "crop_pct": 1.0, "interpolation": "bicubic"}
    longer = np.concatenate([pixels[:, :1], pixels, pixels[:, -1:]], 1)
    sides = [max(image.shape[:2]) * 32 // 20 for image in (pixels, longer)]
    assert max(sides) > inputs.LONGEST * 32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "LONGEST", 1000)
        whole = inputs.pack(Image.fromarray(longer), **how).astype(int)
    part = inputs.pack(Image.fromarray(longer), **how).astype(int)
    assert np.abs(whole - part).max() <= 3 and np.abs(whole - part).mean() < 0.1


def test_a_heic_photo_with_the_name_of_another_is_answered_with_how_to_convert_it():
    with pytest.raises(ValueError, match=r"it is a HEIC photo, whatever its name says\. Convert it to JPEG: heif-convert"):
        files.decode(b"\0\0\0\x18ftypheic" + bytes(50))


def photo(width, height):
    """Noise, of which no part is like another."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(40, 30), (1700, 1200)])
def test_equal_images_have_equal_digests_in_any_format_and_changed_ones_others(size):
    pixels = photo(*size)
    wanted = inputs.digest(inputs.decode(encoded(Image.fromarray(pixels), "PNG")))
    assert {inputs.digest(inputs.decode(encoded(Image.fromarray(pixels), kind))) for kind in ("BMP", "TIFF", "PPM")} == {wanted}
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees to the right
    onto_its_side = Image.fromarray(np.rot90(pixels))
    assert inputs.digest(inputs.decode(encoded(onto_its_side, "PNG", exif=turned))) == wanted, "upright, they are equal"
    others = {"one spot": pixels.copy(), "lighter": pixels + (pixels < 255), "cut": pixels[:, :-1], "mirrored": pixels[:, ::-1]}
    others["one spot"][7:10, 9:12] ^= 64
    assert wanted not in {inputs.digest(inputs.decode(encoded(Image.fromarray(each), "PNG"))) for each in others.values()}


def test_an_image_that_is_given_is_not_changed():
    given = Image.fromarray(photo(30, 20))
    given.info = {"kept": 1}
    decoded = inputs.decode(given)
    assert decoded is not given and given.info == {"kept": 1} and np.array_equal(decoded, given)
