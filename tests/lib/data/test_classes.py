"""No class is lost without a word while a dataset is packed."""

import pytest

from stages.lib.core.contracts import Example
from stages.lib.data import classes
from stages.lib.errors import UserError


def examples(**counts):
    return [Example(f"{label}/{index}", label, "", "", lambda: b"") for label, num in counts.items() for index in range(num)]


def test_names_that_differ_only_in_case_or_spaces_are_told(capsys):
    classes.tell_alike(
        [Example("1", "Cat", "", "", bytes), Example("2", "cat ", "", "", bytes), *examples(dog=2, STRASSE=1, straße=1)]
    )
    told = capsys.readouterr().out
    assert told == (
        "WARNING: classes whose names differ only in case or spaces: 'Cat' and 'cat ', 'STRASSE' and 'straße'. If they are one "
        "class, name it once.\n"
    )
    classes.tell_alike(examples(cat=3, dog=2))
    assert capsys.readouterr().out == ""


def test_a_lost_class_is_named_with_what_it_had():
    classes.require_all(examples(cat=2, dog=1), examples(cat=1, dog=1), "")
    with pytest.raises(UserError) as error:
        classes.require_all(examples(cat=2, dog=1, owl=12), examples(cat=1), "For this reason.")
    assert str(error.value) == "2 of 3 classes would be lost: dog (1), owl (12). For this reason."
    with pytest.raises(UserError, match=r"40 of 40 .* and 30 more\. "):
        classes.require_all(examples(**{f"c{i:02}": 1 for i in range(40)}), [], "")
