"""Reading params.yaml: as DVC does, only what is asked for, and in words where it is no such file."""

import re

import pytest

from stages.lib.errors import UserError
from stages.lib.params import read as params
from tests.tiny import ROOT


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"(?m)^    lr: .*", "    lr: 3e-3", (ROOT / "params.yaml").read_text()))
    assert params.load("strategies", path=path).strategies["full"].lr == 0.003  # PyYAML would give the string "3e-3"


def test_a_stage_gets_only_the_sections_it_asks_for():
    p = params.load("seed", "target")
    assert vars(p).keys() == {"seed", "target"}


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "- 1\n", ""])
def test_a_file_that_is_no_params_file_is_said_to_be_none(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml"):
        params.load("seed", path=path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="root of the repository"):
        params.load(path=tmp_path / "params.yaml")
