"""Tables of files, of recordings with transcripts and of texts: what is read, and every mistake at once."""

import csv as standard
import io
import shlex
import subprocess
import sys

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import csv


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / f"images/{name}.png").write_bytes(name.encode())
    return tmp_path


def write(raw, text, name="table.csv", encoding="utf-8", newline=""):
    (raw / name).write_text(text, encoding=encoding, newline=newline)
    return raw


def contents(examples):
    return [(e.label, e.open().decode()) for e in examples]


def mistake(raw):
    with pytest.raises(UserError) as error:
        csv.read(raw)
    return str(error.value)


def test_all_columns(raw):
    write(raw, "label,split,path,group,unused\n01,train,images/b.png,p1,x\nNA,test,images/a.png,p2,y\n01,,images/c.png,,z\n")
    examples = csv.read(raw)
    assert [(e.key, e.label, e.group, e.split) for e in examples] == [
        ("images/a.png", "NA", "p2", "test"), ("images/b.png", "01", "p1", "train"), ("images/c.png", "01", "", ""),
    ]  # fmt: skip
    assert [e.open() for e in examples] == [b"a", b"b", b"c"]


def test_two_columns_as_spreadsheets_save_them(raw):
    text = f"path , label\r\n images/a.png,cat \r\n{raw / 'images/b.png'},dog\r\n"
    examples = csv.read(write(raw, text, encoding="utf-8-sig"))
    assert sorted((e.label, e.open()) for e in examples) == [("cat", b"a"), ("dog", b"b")]


def test_all_mistakes_at_once(raw):
    rows = ["images/a.png,cat,train", "images/a.png,cat,train", "images/b.png,,train", "images/c.png,dog,tset", ",dog,test"]
    rows += [f"gone{i:02}.png,dog,train" for i in range(12)]
    text = mistake(write(raw, "path,label,split\n" + "\n".join(rows)))
    assert "no label, 1: images/b.png" in text
    assert "no path, 1: row 6" in text
    assert "a duplicate path, 1: images/a.png" in text
    assert "no such file, 12: gone00.png, " in text and "gone09.png ..." in text and "gone10" not in text
    assert "none of train, val, test or empty, 1: images/c.png tset" in text


@pytest.mark.parametrize("text, said", [
    ("file,label\nimages/a.png,cat\n", "has no column path; its columns are file, label"),
    ("a;b\n1;2\n", "has no column path and no column label"),
    ("path,label\n", "no rows"),
    ("", "cannot be read as a table"),
    ("path,label\na,b,c,d\n1,2\n3,4,5,6,7\n", "cannot be read as a table"),
])  # fmt: skip
def test_no_such_table(raw, text, said):
    assert said in mistake(write(raw, text))


def test_images_that_dvc_would_not_see_change_are_refused(raw, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "d.png"
    other.write_bytes(b"d")
    text = mistake(write(raw, f"path,label\nimages/a.png,cat\n{other},dog\n../{raw.name}/images/b.png,dog\n"))
    assert f"which DVC would not see change, 1: {other}" in text


def test_no_file_and_two(raw):
    assert "exactly one .csv file; found: none" in mistake(raw)
    for name in ("one.csv", "two.csv"):
        (raw / name).write_text("path,label\n")
    assert "found: one.csv, two.csv" in mistake(raw)
    assert "found: none" in mistake(raw / "nowhere")


def test_a_path_may_be_a_text_and_is_then_no_such_file(raw):
    """Such as a path column that holds the texts; the system refuses to look for names this long."""
    assert "no such file, 1: wordword" in mistake(write(raw, f"path,label\n{'word' * 2000},pos\n"))


# Recordings and their transcripts.


def test_transcripts_are_the_answers(raw):
    write(raw, 'path,text,group,split\nimages/b.png," Ja,  gut. ",p1,train\nimages/a.png,NA,p2,test\nimages/c.png,"äh\n🎉",,\n')
    assert [(e.key, e.label, e.group, e.split, e.open()) for e in csv.read(raw)] == [
        ("images/a.png", "NA", "p2", "test", b"a"),
        ("images/b.png", "Ja,  gut.", "p1", "train", b"b"),
        ("images/c.png", "äh\n🎉", "", "", b"c"),
    ]


def test_mistakes_in_transcripts(raw):
    text = mistake(write(raw, "path,text\nimages/a.png,\nimages/b.png,eins\nimages/b.png,zwei\n,drei\n,  \ngone.wav,vier\n"))
    assert "no text, 1: images/a.png\n" in text
    assert "no path, 1: row 5\n" in text, "row 6 is empty"
    assert "a duplicate path, 1: images/b.png\n" in text
    assert "no such file, 1: gone.wav" in text


def test_text_and_label_of_a_file_are_ambiguous(raw):
    text = mistake(write(raw, "path,label,text\nimages/a.png,one,eins\nimages/b.png,two,zwei\n"))
    assert "has the columns path, text and label: is text or label the answer? Rename or remove the other one" in text


# Texts.

TEXTS = [
    ("NA", "plain"),
    ("01", "  spaces around,\tand a tab "),
    ("B-Disease I-Disease O", 'She said "no", twice: ""'),
    ("two words", "one line\nanother\r\nand\rone more\n\n"),
    ("NaN", '"in quotes"'),
    ("🎉", "emoji 👩‍👩‍👧, ümlaut, 中文, \u2028 \x85 \x0c"),
    ("long", "x" * 200_000),
    ("plain", "plain"),
]


def written(rows, end="\r\n"):
    """As Python's own writer quotes them."""
    file = io.StringIO(newline="")
    standard.writer(file, lineterminator=end).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_texts_are_read_as_they_are(raw, end, encoding, capsys):
    limit = standard.field_size_limit()
    examples = csv.read(write(raw, written([("label", "text"), *TEXTS], end), encoding=encoding))
    assert contents(examples) == TEXTS
    assert [e.key for e in examples] == [f"{row:07}" for row in range(2, 10)]
    assert {(e.group, e.split) for e in examples} == {("", "")}
    assert standard.field_size_limit() == limit
    assert capsys.readouterr().out == ""


def test_groups_and_splits_of_texts(raw):
    write(raw, "split,text,id,group,label\ntrain,a,1, g 1 ,x\n test ,b,2,g2,y\n,c,3,,x\n")
    assert [(e.key, e.label, e.group, e.split) for e in csv.read(raw)] == [
        ("0000002", "x", "g 1", "train"), ("0000003", "y", "g2", "test"), ("0000004", "x", "", ""),
    ]  # fmt: skip


def test_a_table_of_texts_may_be_given_itself_but_not_one_of_files(raw):
    write(raw, "text,label\na,x\n", "texts.csv")
    write(raw, "path,label\nimages/a.png,x\n", "files.csv")
    assert contents(csv.read(raw / "texts.csv")) == [("x", "a")]
    text = mistake(raw / "files.csv")
    assert f"files.csv lists files, which DVC would not see change. Give their folder: {raw}" in text


def test_rows_added_at_the_end_change_no_key(raw):
    before = csv.read(write(raw, written([("text", "label"), *[("a", "b")] * 5])))
    after = csv.read(write(raw, written([("text", "label"), *[("a", "b")] * 2000])))
    assert [e.key for e in after[:5]] == [e.key for e in before]
    assert [int(e.key) for e in after] == list(range(2, 2002)), "in the table's order"


def test_empty_rows_are_counted_as_a_spreadsheet_counts_them(raw):
    examples = csv.read(write(raw, "\r\ntext,label,\r\na,x,\r\n\r\n,,\r\n  , ,\r\nb,y,\r\n,,\r\n"))
    assert [(e.key, e.label) for e in examples] == [("0000003", "x"), ("0000007", "y")]


def test_all_mistakes_in_texts_at_once(raw):
    rows = ['"a\nb",x,train', "c,,train", '"  \n",x,', ",y,", "d, ,Test", *["e,,"] * 10]
    text = mistake(write(raw, "text,label,split\n" + "\n".join(rows)))
    assert "no label, 12: row 3, row 6, row 7, row 8, row 9, row 10, row 11, row 12, row 13, row 14 ...\n" in text
    assert "no text, 2: row 4, row 5\n" in text
    assert "none of train, val, test or empty, 1: row 6 Test" in text


@pytest.mark.parametrize("name", ["table.tsv", "TABLE.TSV"])
def test_tabs_between_cells_and_quotes_that_mean_nothing(raw, name, capsys):
    texts = [("x", '"Quoted", he said'), ("y", '"'), ("x", " a  b "), ("y", "it's 5\" tall"), ("z", "🎉, ok")]
    text = "label\ttext\r\n" + "\r\n".join("\t".join(row) for row in texts)
    assert contents(csv.read(write(raw, text, name, encoding="utf-8-sig"))) == texts
    assert "in quotes" not in capsys.readouterr().out
    csv.read(write(raw, 'text\tlabel\n"a, b"\tx\nc\ty\n', name))
    assert "1 rows have a cell in quotes; in a .tsv file these are a part of the cell" in capsys.readouterr().out


# What is no table.


@pytest.mark.parametrize("text, said", [
    ("text,label\na,b\nc,d,e\nf\n", "its header has 2 cells, but row 3 has 3, row 4 has 1. A cell with a comma, "),
    ("path,label\nimages/a.png,cat,x\nimages/b.png,dog,y\n", "its header has 2 cells, but row 2 has 3, row 3 has 3. "),
    ('text,label\na,b\n"c,d\ne,f\n', "the row that begins in line 3 do not match (line 4: unexpected end of data)"),
    ('text,label\n"a\nb",x\n"Great" film,pos\n"c",neg\n', "the row that begins in line 4 do not match (line 4: ',' expected"),
    (" \n,,\r\n", "it is empty. Needed: a first line with the columns path and label"),
    ("text,label,text\na,b,c\n", "has more than one column text"),
    ("text,label,group,group\na,b,c,d\n", "has more than one column group"),
    ("text\na\n", "has no column label; its columns are text. "),
    ("path\na\n", "has no column label; its columns are path. "),
    ("Text,Label\na\n", "has no column path and no column label; its columns are Text, Label. "),
    ("text;label\na;b\n", "its columns are text;label. The first line must name the columns, with commas between them."),
    ("A film that one forgets before it has ended at all,neg\n", "are A film that one forgets before it has en, neg. The first"),
])  # fmt: skip
def test_what_is_no_table_of_texts(raw, text, said):
    assert said in mistake(write(raw, text))


def test_what_is_no_table_with_tabs(raw):
    assert "with tabs between them" in mistake(write(raw, "text,label\na,b\n", "table.tsv"))
    text = mistake(write(raw, 'text\tlabel\n"a\nb"\tx\nc\td\te\n', "table.tsv"))
    assert "its header has 2 cells, but row 2 has 1, row 4 has 3. A cell of a .tsv file holds no tab and no line break" in text


def test_which_file_is_the_table(raw):
    write(raw, "text,label\na,x\n", "Table.CSV")
    write(raw, "binary", "._Table.csv")
    (raw / "folder.csv").mkdir()
    assert contents(csv.read(raw)) == [("x", "a")]
    write(raw, "text\tlabel\n", "other.tsv")
    assert "found: Table.CSV, other.tsv" in mistake(raw)
    assert "exactly one .csv file; found: none" in mistake(raw / "images/a.png")


# Encodings.

ROWS = [("Label", "Schön, nicht?"), ("gut", "a bad film"), ("mäßig", "So la la, très moyen")]


def convert(text):
    """Run the command in an error as a person does who pastes it into a shell."""
    command = text[text.index("python -c") :].splitlines()[0]
    subprocess.run(command.replace("python", shlex.quote(sys.executable), 1), shell=True, check=True)


@pytest.mark.parametrize("encoding, line, looks", [
    ("cp1252", 2, "cp1252"), ("latin-1", 2, "cp1252"), ("utf-16", 1, "utf-16"), ("utf-16-le", 1, "utf-16-le"),
    ("utf-16-be", 1, "utf-16-be"), ("utf-32", 1, "utf-32"),
])  # fmt: skip
def test_the_command_in_the_error_converts_the_file(tmp_path, encoding, line, looks):
    raw = tmp_path / "it's a folder"
    raw.mkdir()
    text = mistake(write(raw, written([("label", "text"), *ROWS]), encoding=encoding))
    assert f"table.csv cannot be read as a table: it is not UTF-8 from line {line} on, but looks like {looks}" in text
    assert ("""that line holds 'Label,"Schön, nicht?"'.""" in text) == (looks == "cp1252"), "are the letters right?"
    convert(text)
    assert contents(csv.read(raw)) == ROWS


def test_the_first_bad_line_of_many(raw):
    good = "text,label\r\n" + "".join(f"number {row},x\r\n" for row in range(2, 3000))
    data = b"\xef\xbb\xbf" + (good + "ß,y\r\n").encode("cp1252") + b"last,x"
    (raw / "table.csv").write_bytes(data)
    assert "not UTF-8 from line 3000 on, but looks like cp1252 (Latin-1, Windows), as which that line holds 'ß,y'." in mistake(
        raw
    )
    (raw / "table.csv").write_bytes(data.replace(b"\r\n", b"\r"))
    assert "not UTF-8 from line 3000 on" in mistake(raw)


@pytest.mark.parametrize("encoding, words", [
    ("cp1251", "Совсем не плохо"), ("gb18030", "不错的电影"), ("cp932", "悪くない映画"), ("koi8-r", "Совсем не плохо"),
])  # fmt: skip
def test_other_alphabets_are_not_guessed(raw, encoding, words):
    text = mistake(write(raw, "text,label\n" + f"{words},x\n" * 20, encoding=encoding))
    assert "not UTF-8 from line 2 on. This converts it, with the name of its encoding in place of ENCODING" in text
    convert(text.replace("'ENCODING'", f"'{encoding}'"))
    assert contents(csv.read(raw)) == [("x", words)] * 20


def test_a_file_of_two_encodings_is_not_converted(raw):
    lines = ["text,label", *["Schöne Grüße,x"] * 5]
    data = [line.encode("cp1252" if row in (2, 5) else "utf-8") for row, line in enumerate(lines)]
    (raw / "table.csv").write_bytes(b"\r\n".join(data))
    text = mistake(raw)
    assert "it is UTF-8, but not in 2 of its lines: 3, 6. They are damaged, or come from a file in another encoding." in text
    assert "python" not in text


@pytest.mark.parametrize("damage", ["b\0b,ü\n", "\0" * 1000])  # one byte; zeros as a crash of the system leaves them
def test_nul_bytes(raw, damage):
    write(raw, "text,label\na,x\n" + damage)
    assert "cannot be read as a table: line 3 holds a NUL byte, so the file is damaged or no text." in mistake(raw)
