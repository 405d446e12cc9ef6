"""Whatever people give is read, or refused in words: tables, folders and archives, image files, params.yaml.

The cases are drawn, but always the same ones; one that fails is shown in its shortest form.
"""

import copy
import io
import random
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from stages.lib.errors import UserError
from stages.lib.modalities.image import files, inputs
from stages.lib.params import read as params
from stages.lib.readers import csv, image_folder
from tests.lib.modalities.image.test_inputs import blocks, encoded
from tests.tiny import PARAMS

pytestmark = pytest.mark.slow


def cases(num: int) -> settings:
    return settings(max_examples=num, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def in_words(error: Exception) -> None:
    assert len(str(error)) > 10 and "Traceback" not in str(error)
    str(error).encode("utf-8")


# Tables.

WORDS = ["path", "label", "text", "group", "split", "a.png", "b.png", "train", "test", "val", "", " ", "cat", '"', ",", "\t"]
CELLS = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
HEADERS = ["path,label", "text,label", "path,text", "text,label,group,split", "path,label,label", "path,label,split"]
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=6)
ENDS = st.sampled_from(["", "", "", "", ",", ",train"])
PLAIN = st.tuples(st.sampled_from(["a.png,", "b.png,"]), st.sampled_from(["cat", "dog", "Käfer", ""]), ENDS)


def table(header: str, rows: list[str], encoding: str) -> bytes:
    return "\n".join([header, *rows]).encode(encoding, "replace")


ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-8-sig", "latin-1", "cp932"])
TABLES = st.one_of(
    st.builds(table, st.sampled_from(HEADERS), ROWS.map(lambda rows: [*map(",".join, rows)]), ENCODINGS),
    st.lists(PLAIN, max_size=2, unique_by=lambda row: row[0]).map(lambda rows: table(HEADERS[0], [*map("".join, rows)], "utf-8")),
    st.binary(max_size=60),
)


@cases(800)
@given(TABLES, st.sampled_from([".csv", ".tsv"]))
def test_tables(table: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "b.png"):
            Path(folder, name).write_bytes(b"x")
        Path(folder, f"t{ending}").write_bytes(table)
        try:
            examples = csv.read(Path(folder))
        except UserError as error:
            return in_words(error)
        keys = [example.key for example in examples]
        assert examples and keys == sorted(set(keys))
        for example in examples:
            assert example.label and example.split in ("train", "val", "test", "") and example.open()


# Folders.

PARTS = st.one_of(
    st.sampled_from(["cat", "dog", "train", "test", "val", "Training", "seg_test", "train2017", "Cat", "deep", ".git", "a b",
                     "Käfer", "Ka\u0308fer", "ねこ", "x" * 90]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4),
)  # fmt: skip
LEAVES = st.sampled_from(["1.png", "2.JPG", "3", "4.txt", "5.heic", ".DS_Store", "6.PNG"])
PATHS = st.lists(st.tuples(st.lists(PARTS, max_size=4), LEAVES), min_size=1, max_size=9)


def written(kind: str, encoding: str, paths: list[tuple[list[str], str]], folder: Path) -> Path:
    """A folder or an archive with these files, as far as they can be; the encoding is that of the names in a tar."""
    inside = {"/".join([*parts, leaf]) for parts, leaf in paths}
    if kind == "folder":
        for path in sorted(inside):
            place = folder / "raw" / path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"x")
            except OSError:  # a file where a folder must be, "..", or a name that is too long
                continue
        (folder / "raw").mkdir(exist_ok=True)
        return folder / "raw"
    raw = folder / f"raw.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(raw, "w") as archive:
            for path in sorted(inside):
                archive.writestr(zipfile.ZipInfo(path), b"x")
        return raw
    with tarfile.open(raw, "w", format=tarfile.GNU_FORMAT, encoding=encoding, errors="replace") as tar:
        for path in sorted(inside):
            member = tarfile.TarInfo(path)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    return raw


@cases(500)
@given(PATHS, st.sampled_from(["folder", "zip", "tar"]), st.sampled_from(["utf-8", "latin-1", "cp437", "cp932"]))
def test_folders(paths: list[tuple[list[str], str]], kind: str, encoding: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = written(kind, encoding, paths, Path(folder))
        try:
            examples = image_folder.read(raw, group_from="")
        except UserError as error:
            return in_words(error)
        keys = [example.key for example in examples]
        assert keys == sorted(set(keys)) and len({example.label for example in examples}) > 1
        assert len({example.split == "" for example in examples}) == 1, "splits are given for all or for none"
        for example in examples:
            assert example.open() == b"x" and "\n".join([example.key, example.label]).encode("utf-8")
            assert example.label in normalize("NFC", example.key).split("/")


# Images.

noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8))
grey16 = Image.fromarray(np.arange(108, dtype=np.uint16).reshape(9, 12) * 600)
KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "QOI", "JPEG2000", "PCX", "SGI")
WHOLE = [encoded(blocks(), kind) for kind in KINDS] + [encoded(grey16, kind) for kind in ("PNG", "TIFF")]
WHOLE += [encoded(noise.convert("P"), "PNG"), encoded(noise, "TIFF", compression="jpeg")]
FITS = st.sampled_from(["squash", "crop", "frame"])


@pytest.fixture(scope="module", autouse=True)
def no_large_images() -> Iterator[None]:
    """A changed header may promise 100 million pixels, which take seconds: here, an image has a million at most."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
        warnings.simplefilter("ignore")  # Pillow's, about metadata
        yield


@cases(600)
@given(
    st.sampled_from(WHOLE), st.integers(0, 2**32), st.integers(0, 6), st.booleans(), st.sampled_from(["squash", "crop", "frame"])
)
def test_images(whole: bytes, seed: int, changes: int, cut: bool, fit: str) -> None:
    draw, content = random.Random(seed), bytearray(whole)
    for _ in range(changes):
        content[draw.randrange(min(len(content), draw.choice([64, 10**6])))] = draw.randrange(256)
    damaged = bytes(content[: draw.randrange(len(content))] if cut else content)
    assert files.recognised(lambda num: damaged if num < 0 else damaged[:num]) in (True, False)
    try:
        image = inputs.decode(damaged)
    except Exception as error:  # prepare leaves it out with this reason
        assert not isinstance(error, MemoryError | RecursionError | AssertionError)
        return
    assert image.mode == "RGB"
    packed = inputs.pack(image, px=32, fit=fit, channels=3, crop_pct=0.875, interpolation="bicubic")
    assert packed.shape == (32, 32, 3) and packed.dtype == np.uint8


# params.yaml.

SINGLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["tiny", "lines", "full"]),
)
VALUES: Any = st.recursive(
    SINGLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=4
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all keys and items."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in [(*path, key), *places(each, (*path, key))]]


PLACES = places(PARAMS)


@cases(150)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(["set", "remove", "add"]), VALUES), min_size=1, max_size=3))
def test_params(changes: list[tuple[tuple, str, Any]]) -> None:
    values: Any = copy.deepcopy(PARAMS)
    for path, how, value in changes:
        holder = values
        for key in path[:-1]:
            try:
                holder = holder[key]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(holder, dict) and how == "remove":
                holder.pop(path[-1], None)
            elif isinstance(holder, dict):
                holder[path[-1] if how == "set" else "another"] = value
            elif isinstance(holder, list) and how == "set":
                holder[:] = [value]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "params.yaml")
        YAML(typ="safe").dump(values, place)
        refused_or_read(place)


@cases(80)
@given(st.integers(0, 10**6), st.text(max_size=5), st.integers(0, 40))
def test_params_that_are_no_yaml(at: int, text: str, cut: int) -> None:
    whole = io.StringIO()
    YAML(typ="safe").dump(PARAMS, whole)
    content = whole.getvalue()
    at %= len(content)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "params.yaml")
        place.write_bytes((content[:at] + text + content[at + cut :]).encode("utf-8", "surrogatepass"))
        refused_or_read(place)


def refused_or_read(place: Path) -> None:
    before = place.read_bytes()
    try:
        params.load("datasets", path=place)
    except UserError as error:
        in_words(error)
    assert place.read_bytes() == before
