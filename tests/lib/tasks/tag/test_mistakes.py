"""The kinds of mistakes, and the most certain ones in words."""

import numpy as np
import pytest

from stages.lib.core.contracts import NO_TARGET
from stages.lib.tasks.tag import entities, metrics, mistakes
from stages.lib.tasks.tag.measures import most_certain
from tests.lib.tasks.tag.cases import case

NAMES = ["O", "B-drug", "I-drug", "B-gene", "I-gene"]
KINDS = ["right", "wrong type", "wrong boundary", "wrong type and boundary", "missed", "false alarm"]


@pytest.mark.parametrize(("kind", "tags"), [
    ("right", [0, 1, 2, 0]),
    ("right", [0, 2, 2, 0]),
    ("wrong type", [0, 3, 4, 0]),
    ("wrong boundary", [0, 1, 0, 0]),
    ("wrong boundary", [1, 2, 2, 0]),
    ("wrong type and boundary", [0, 0, 3, 4]),
    ("missed", [0, 0, 0, 0]),
])  # fmt: skip
def test_each_kind_of_mistake(kind, tags):
    assert mistakes.kinds(np.array([tags]), np.array([[0, 1, 2, 0]]), NAMES) == dict.fromkeys(KINDS, 0) | {kind: 1}


def test_false_alarms_are_entities_where_there_is_none():
    found = mistakes.kinds(np.array([[1, 0, 3], [0, 0, -1]]), np.array([[1, 0, 0], [0, 0, NO_TARGET]]), NAMES)
    assert found == dict.fromkeys(KINDS, 0) | {"right": 1, "false alarm": 1}


def test_kinds_add_up():
    for seed in range(100):
        each = case(seed)
        tags = metrics.tags(each.predictions, each.targets)
        found = mistakes.kinds(tags, each.targets, each.names)
        assert list(found) == KINDS and min(found.values()) >= 0
        assert sum(found.values()) - found["false alarm"] == len(entities.find(each.targets).rows)
        assert sum(found.values()) - found["missed"] == len(entities.find(tags).rows)


def predicted(tags, probabilities):
    return np.stack([np.array(tags), np.array(probabilities)], 2).astype(np.float32)


def test_the_most_certain_mistakes_come_first_in_words_and_then_what_is_right():
    targets = np.array([[0, 1, 2, 0], [1, 2, 0, 0], [0, 0, 0, NO_TARGET], [3, 0, 1, 0], [0, 1, 0, 0], [0, 3, 4, 0]])
    tags = [[0, 0, 0, 0], [3, 4, 0, 0], [0, 0, 1, -1], [3, 0, 0, 1], [0, 1, 0, 0], [0, 3, 0, 0]]
    sure = [[1, 0.5, 0.7, 1], [0.7, 0.9, 1, 1], [1, 1, 0.98, -1], [0.99, 1, 0.3, 0.4], [1, 0.6, 1, 1], [1, 0.7, 1, 1]]
    rows, outputs, titles = most_certain(predicted(tags, sure), targets, list("abcdef"), NAMES, 9)
    assert titles == [
        "false alarm: drug, word 3 (98 %)\nc",
        "gene, words 1 to 2 (80 %)\nis drug, words 1 to 2\nb",
        "gene, word 2 (70 %)\nis gene, words 2 to 3\nf",
        "missed: drug, words 2 to 3 (60 %)\na",
        "false alarm: drug, word 4 (40 %)\nd",
        "drug, word 2 (60 %), right\ne",
    ]
    assert rows.tolist() == [2, 1, 5, 0, 3, 4]
    assert outputs[:, 1].tolist() == [1, 3, 3, 1, 1, 1], "the tag that began an entity, or should have begun the one missed"


def test_so_many_mistakes_as_asked_for_and_half_as_many_that_are_right():
    each = case(6, num=60)
    for num in (0, 1, 4, 100):
        rows, outputs, titles = most_certain(each.predictions, each.targets, list(map(str, range(60))), each.names, num)
        assert len(rows) == len(outputs) == len(titles) == len(set(rows.tolist()))
        right = [", right\n" in title for title in titles]
        assert right == sorted(right) and sum(right) <= num // 2 and len(right) - sum(right) <= num
        assert num == 0 or (len(right) - sum(right) == num) or num == 100
        assert all(title.endswith(f"\n{row}") for row, title in zip(rows, titles, strict=True))


def test_an_entity_whose_words_were_cut_off_is_the_least_certain_mistake():
    targets = np.array([[0, 0, 0, 1], [1, 2, 0, 0]])
    tags, sure = [[0, 0, -1, -1], [0, 0, 0, 0]], [[1, 1, -1, -1], [0.6, 0.6, 1, 1]]
    for steps in (4, 2):
        rows, _, titles = most_certain(predicted(tags, sure)[:, :steps], targets, ["a", "b"], NAMES, 5)
        assert rows.tolist() == [1, 0] and titles[1] == "missed: drug, word 4 (0 %)\na"


def test_a_broken_entity_is_explained_by_the_tag_that_it_begins_with():
    rows, outputs, _ = most_certain(predicted([[0, 2]], [[1, 1]]), np.array([[0, 0]]), ["a"], NAMES, 1)
    assert rows.tolist() == [0] and outputs.tolist() == [[1, 2]]
