"""Tables of images: what is read, and every mistake at once."""

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import csv


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / f"images/{name}.png").write_bytes(name.encode())
    return tmp_path


def write(raw, text, **options):
    (raw / "table.csv").write_text(text, **options)
    return raw


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
    examples = csv.read(write(raw, text, encoding="utf-8-sig", newline=""))
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
