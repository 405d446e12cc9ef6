"""Sentiment Labelled Sentences: the three files as UCI has them, and the errors in words."""

import shlex
import subprocess

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import labelled_sentences
from tests.tiny import ROOT

FILES = {
    "amazon_cells_labelled.txt": "So there is no way for me to plug it in.\t0\nGood case, Excellent value.\t1\n",
    "imdb_labelled.txt": 'A very, slow-moving film  \t0\r\nHe said: "1"\t1  \t1\r\n'
                         "with a\x85line and\u2028another \x96 in it\t1\n",
    "yelp_labelled.txt": "\n\nCr\u00e9pes\t\t1\n1\t0",
}  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    return made(tmp_path / "raw", FILES)


def made(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def mistake(raw):
    with pytest.raises(UserError) as error:
        labelled_sentences.read(raw)
    return str(error.value)


def test_each_line_is_a_sentence_with_its_label(raw):
    examples = labelled_sentences.read(raw)
    assert [(e.key, e.label, e.open().decode()) for e in examples] == [
        ("amazon_cells-0001", "negative", "So there is no way for me to plug it in."),
        ("amazon_cells-0002", "positive", "Good case, Excellent value."),
        ("imdb-0001", "negative", "A very, slow-moving film  "),
        ("imdb-0002", "positive", 'He said: "1"\t1  '),
        ("imdb-0003", "positive", "with a\x85line and\u2028another \x96 in it"),
        ("yelp-0003", "positive", "Cr\u00e9pes\t"),
        ("yelp-0004", "negative", "1"),
    ]
    assert {(e.group, e.split) for e in examples} == {("", "")}


def test_at_any_depth_and_without_what_other_systems_add(tmp_path, raw):
    """The archive of UCI holds such files of macOS."""
    whole = made(
        tmp_path / "zip", {"__MACOSX/a/._imdb_labelled.txt": b"\x00\x05\x16\x07", "a/readme.txt": "x", ".DS_Store": b"\0"}
    )
    made(whole / "sentiment labelled sentences", FILES)
    deep, flat = labelled_sentences.read(whole), labelled_sentences.read(raw)
    assert [(e.key, e.open()) for e in deep] == [(e.key, e.open()) for e in flat]


def test_the_mark_of_some_editors_is_no_part_of_a_sentence(tmp_path):
    (example,) = labelled_sentences.read(made(tmp_path, {"a_labelled.txt": b"\xef\xbb\xbfGood.\t1"}))
    assert example.open() == b"Good."


def test_a_file_in_two_folders_is_told(raw):
    made(raw / "copy", {"imdb_labelled.txt": "x\t1"})
    assert "has more than one imdb_labelled.txt; leave one of each" in mistake(raw)


@pytest.mark.parametrize("files", [{}, {"imdb.txt": "x\t1"}])
def test_no_such_files(tmp_path, files):
    assert "must be a folder with files called *_labelled.txt; it has none" in mistake(made(tmp_path, files))
    assert "it has none" in mistake(tmp_path / "nowhere")
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "it has none" in mistake(tmp_path / "a.zip")


def test_lines_that_are_something_else_are_told_by_number(raw):
    made(raw, {"imdb_labelled.txt": "good\t1\ngood\t2\nno tab 1\n\t1\n\ngood\t 1\ngood\t-1"})
    assert mistake(raw) == ("raw: 5 lines do not end in a tab and 0 or 1: imdb_labelled.txt, line 2; imdb_labelled.txt, line 3; "
            "imdb_labelled.txt, line 4; imdb_labelled.txt, line 6; imdb_labelled.txt, line 7.")  # fmt: skip
    made(raw, {"imdb_labelled.txt": "x\n" * 30})
    assert "raw: 30 lines" in mistake(raw) and "line 10 and 20 more." in mistake(raw)


@pytest.mark.parametrize("encoding", ["latin1", "utf-16", "windows-1252"])
def test_another_encoding_is_told_with_the_command_that_converts_it(tmp_path, encoding):
    text = "A good film.\t1\nA caf\u00e9.\t0\n"
    path = made(tmp_path, {"imdb_labelled.txt": text.encode(encoding)}) / "imdb_labelled.txt"
    told = mistake(tmp_path)
    assert f"raw: {path} is not UTF-8 (line {1 if encoding == 'utf-16' else 2})" in told
    command = told.partition("for example: ")[2].replace("WINDOWS-1252", encoding.upper())
    command = command.replace("NEW_FILE", shlex.quote(str(tmp_path / "new"))).replace("FILE", shlex.quote(str(path)))
    subprocess.run(command, shell=True, check=True)
    (tmp_path / "new").rename(path)
    assert [e.open().decode() for e in labelled_sentences.read(tmp_path)] == ["A good film.", "A caf\u00e9."]


def test_the_scenario_reads_with_it():
    text = (ROOT / "stages/scenarios/reviews.yaml").read_text()
    assert "reader: labelled_sentences" in text and labelled_sentences.ENDING in text
