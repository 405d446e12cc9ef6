"""Tagged texts in CoNLL's format: what is read, and every mistake at once with its line."""

import shutil
import tarfile

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import conll

TRAIN = "Cystic\tB-Disease\nfibrosis\tI-Disease\nis\tO\nrare\tO\n\nSo\tO\n"
DEVEL = "It\tO\n.\tO\n"
TEST = "Gout\tB-Disease\n\nGout\tB-Disease\nArthritis\tB-Disease\n"


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", "/")).parent.mkdir(exist_ok=True)
        (folder / name.replace("__", "/")).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def alone(tmp_path, text, name="data.tsv"):
    """The file by itself."""
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


def sentences(raw):
    return [(example.open().decode(), example.label) for example in conll.read(raw)]


def mistake(raw):
    with pytest.raises(UserError) as error:
        conll.read(raw)
    return str(error.value)


def test_files_of_a_folder_are_its_splits(tmp_path):
    raw = write(
        tmp_path / "raw", **{"train.tsv": TRAIN, "devel.tsv": DEVEL, "test.tsv": TEST, "README.md": "x", ".hidden.tsv": "x"}
    )
    examples = conll.read(raw)
    assert [tuple(example[:4]) for example in examples] == [
        ("devel.tsv:000001", "O O", "", "val"),
        ("test.tsv:000001", "B-Disease", "", "test"),
        ("test.tsv:000002", "B-Disease B-Disease", "", "test"),
        ("train.tsv:000001", "B-Disease I-Disease O O", "", "train"),
        ("train.tsv:000002", "O", "", "train"),
    ]
    assert examples[3].open() == b"Cystic fibrosis is rare" and examples[4].open() == b"So"


@pytest.mark.parametrize(("names", "splits"), [
    ("wnut17train.conll emerging.dev.conll emerging.test.conll", "train val test"),
    ("NER-training.txt NER-validation.txt NER-testing.txt", "train val test"),
    ("valid.bio TRAIN.IOB2", "val train"),
    ("train__a.iob dev__train.iob test_data__val.iob", "train train val"),
    ("train1.tsv train2.tsv test.tsv", "train train test"),
])  # fmt: skip
def test_splits_are_in_the_names_of_files_or_else_of_folders(tmp_path, names, splits):
    raw = write(tmp_path / "raw", **dict.fromkeys(names.split(), DEVEL))
    found = {example.key.partition(":")[0]: example.split for example in conll.read(raw)}
    assert found == dict(zip(names.replace("__", "/").split(), splits.split(), strict=True))


def test_names_that_say_no_split_or_two_are_refused_where_others_say_one(tmp_path):
    raw = write(tmp_path / "raw", **dict.fromkeys(["train.tsv", "rest.tsv", "dev-test.tsv", "contest.tsv"], DEVEL))
    text = mistake(raw)
    assert "training, validation or test: contest.tsv, dev-test.tsv, rest.tsv. " in text and "Put exactly one of train," in text


def test_a_file_alone_has_no_split_whatever_its_name(tmp_path):
    for raw in (write(tmp_path / "raw", **{"train.tsv": TRAIN}), alone(tmp_path, TRAIN, "train.tsv")):
        assert [(example.key, example.split, example.group) for example in conll.read(raw)] == [
            ("train.tsv:000001", "", ""), ("train.tsv:000002", "", ""),
        ]  # fmt: skip


def test_files_without_splits_are_documents(tmp_path):
    raw = write(tmp_path / "raw", **{"one.tsv": TRAIN, "two.tsv": DEVEL})
    assert [(example.split, example.group) for example in conll.read(raw)] == [("", "one.tsv")] * 2 + [("", "two.tsv")]


def test_documents_are_groups(tmp_path):
    text = "\ufeff-DOCSTART- -X- O O\n\nJapan NNP B-NP B-LOC\n\nA DT B-NP O\n\n-DOCSTART- -X- O O\nB NN I-NP O\n"
    raw = write(tmp_path / "raw", **{"train.txt": text, "test.txt": "C O\n"})
    assert [(*example[:3], example.open()) for example in conll.read(raw)] == [
        ("test.txt:000001", "O", "", b"C"),
        ("train.txt:000001", "B-LOC", "train.txt#1", b"Japan"),
        ("train.txt:000002", "O", "train.txt#1", b"A"),
        ("train.txt:000003", "O", "train.txt#2", b"B"),
    ]


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_is_read_as_its_folder(tmp_path, kind):
    folder = write(tmp_path / "corpus", **{"train.tsv": TRAIN, "test.tsv": TEST})
    (tmp_path / "raw").mkdir()
    archive = shutil.make_archive(str(tmp_path / "raw/download"), kind, folder)
    for raw in (tmp_path / "raw", archive):
        examples = conll.read(type(tmp_path)(raw))
        assert [tuple(example[:4]) for example in examples] == [tuple(example[:4]) for example in conll.read(folder)]
        assert [example.open() for example in examples] == [example.open() for example in conll.read(folder)]


def test_one_file_in_a_damaged_archive(tmp_path):
    (tmp_path / "raw.tar").write_bytes(b"\0" * 100)
    assert not tarfile.is_tarfile(tmp_path / "raw.tar") and "raw.tar" in mistake(tmp_path / "raw.tar")


@pytest.mark.parametrize("text", [
    "a\tO\nb c\tB-x\n\n\n\nd\tO",
    "\ufeffa\tO\r\nb c\tB-x\r\n\r\nd\tO\r\n",
    "a\tO\rb c\tB-x\r\rd\tO\r",
    "\n\na\tNN\tO\t\nb c\tNN\tB-x \n \t\nd\tNN\tO\n\n",
])  # fmt: skip
def test_line_endings_marks_and_blanks_at_the_end_do_not_matter(tmp_path, text):
    assert sentences(alone(tmp_path, text)) == [("a b c", "O B-x I-x"), ("d", "O")]


def test_columns_may_have_any_number_of_spaces_between_them(tmp_path):
    assert sentences(alone(tmp_path, "  Japan   NNP  B-LOC \n#  # O\n")) == [("Japan #", "B-LOC O")]


def test_white_space_in_a_word_makes_several_words_of_one_entity(tmp_path):
    """So there is one tag for each word of the text, whatever its words are made of."""
    inner = [
        "10\u2009000\tO",
        "St\u00a0John\u00a0s\tB-B-x",
        "of\u3000X\tI-B-x",
        "a\u200bb\tO",
        "c\u2028d\tB-x",
        "\ufeff.\tO",
        "\x1ce\tO",
    ]
    ((text, label),) = sentences(alone(tmp_path, "\n".join(inner)))
    words, tags = text.split(), label.split(" ")
    assert list(zip(words, tags, strict=True)) == [
        ("10", "O"), ("000", "O"), ("St", "B-B-x"), ("John", "I-B-x"), ("s", "I-B-x"), ("of", "I-B-x"), ("X", "I-B-x"),
        ("a\u200bb", "O"), ("c", "B-x"), ("d", "I-x"), (".", "O"), ("e", "O"),
    ]  # fmt: skip


# Mistakes


def test_all_mistakes_at_once_with_their_lines(tmp_path):
    lines = [
        "a\tI-x",
        "b\tI-x",
        "c\tB-y",
        "d\tI-x",
        "",
        "e\tI-y",
        "f\tS-x",
        "g",
        "h\tO",
        "\u00a0\tO",
        "i\tb-x",
        "j\t-x",
        "k\tB-",
        "l\tB-x y",
    ]
    raw = write(tmp_path / "raw", **{"train.tsv": "\n".join(lines), "test.tsv": "m\tI-x\n", "dev.tsv": b"n\tO\nM\xfcller\tO\n"})
    text = mistake(raw)
    expected = (
        "an I- tag that continues no entity of its type, 4: test.tsv:1 I-x, train.tsv:1 I-x, train.tsv:4 I-x, train.tsv:6 I-y\n"
    )
    assert expected in text and "the tags are IOB1" in text
    assert (
        "of O, B-<type> and I-<type>, 5: train.tsv:7 S-x, train.tsv:11 b-x, train.tsv:12 -x, train.tsv:13 B-, train.tsv:14 B-x y"
        in text
    )
    assert "IOBES" in text
    assert "no word and tag, with a tab or spaces between them, 2: train.tsv:8 g, train.tsv:10 O\n" in text
    assert "a file that is not UTF-8, 1: dev.tsv:2 byte 0xfc\n" in text and "iconv -f WINDOWS-1252 -t UTF-8" in text


def test_of_many_mistakes_the_first_are_named(tmp_path):
    text = mistake(alone(tmp_path, "a\tI-x\n\n" * 30))
    assert "type, 30: data.tsv:1 I-x, data.tsv:3 I-x," in text and "data.tsv:19 I-x ...\n" in text and "data.tsv:21" not in text


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART-\tO\n"])
def test_files_without_sentences(tmp_path, text):
    assert "has no sentences" in mistake(alone(tmp_path, text))


def test_no_such_files(tmp_path):
    assert "there is no" in mistake(tmp_path / "raw")
    raw = write(tmp_path / "raw", **{"README.txt": "x", "LICENSE": "y"})
    assert "holds no file that ends in .tsv, .txt" in mistake(raw)


def test_other_files_are_skipped_with_a_word(tmp_path, capsys):
    conll.read(write(tmp_path / "raw", **{"train.tsv": TRAIN, "test.tsv": TEST, "README.txt": "x y", "make.py": "x"}))
    assert "skipping files that are not tagged texts by their names: README.txt, make.py" in capsys.readouterr().out
