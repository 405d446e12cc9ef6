"""Entities in tags, against the two libraries of the field."""

import numpy as np
import pytest
from nervaluate.loaders import ListLoader
from seqeval.metrics.sequence_labeling import get_entities

from stages.lib.tasks.tag import entities
from tests.lib.tasks.tag.cases import case

NO, BA, IA, BB, IB = range(5)


def found(*tags):
    """(first word, word after the last, type) of each entity in one text."""
    return [tuple(map(int, each)) for each in zip(*entities.find(np.array([tags]))[1:], strict=True)]


@pytest.mark.parametrize(("tags", "expected"), [
    ((NO, BA, IA, NO, BB), [(1, 3, 0), (4, 5, 1)]),
    ((BA, BA, IA), [(0, 1, 0), (1, 3, 0)]),
    ((BA, IB, IB), [(0, 1, 0), (1, 3, 1)]),
    ((IA, IA, NO, IA), [(0, 2, 0), (3, 4, 0)]),
    ((IA, BA), [(0, 1, 0), (1, 2, 0)]),
    ((NO, NO), []),
    ((BA, -1, IA), [(0, 1, 0), (2, 3, 0)]),
    ((BB, -100, -100), [(0, 1, 1)]),
])  # fmt: skip
def test_entities_of_one_text(tags, expected):
    assert found(*tags) == expected


def test_no_entity_goes_from_one_text_into_the_next():
    rows, starts, ends, types = entities.find(np.array([[NO, BA], [IA, NO], [BB, IB]]))
    assert (rows.tolist(), starts.tolist(), ends.tolist(), types.tolist()) == ([0, 1, 2], [1, 0, 0], [2, 1, 2], [0, 0, 1])


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_holds_no_entity(shape):
    empty = np.zeros(shape, dtype=np.int64)
    assert len(entities.find(empty).rows) == 0 and not entities.right(entities.find(empty), entities.find(empty)).any()
    assert entities.counts(empty, empty, 2).shape == (shape[0], 2, 3) and not entities.counts(empty, empty, 2).any()


def test_entities_are_those_of_nervaluate_and_of_seqeval():
    seen = broken = 0
    for seed in range(300):
        each = case(seed)
        for tags, texts in (
            (each.targets, each.actual),
            (entities.on_words(each.predictions[..., 0], each.targets), each.predicted),
        ):
            ours = [[] for _ in texts]
            for row, start, end, kind in zip(*entities.find(tags.astype(int)), strict=True):
                ours[row].append((each.names[2 * kind + 1][2:], int(start), int(end) - 1))
                seen, broken = seen + 1, broken + (tags[row, start] % 2 == 0)
            assert ours == [[(one.label, one.start, one.end) for one in text] for text in ListLoader().load(texts)]
            assert ours == [get_entities(text) for text in texts]
    assert seen > 10_000 and broken > 2_000, "broken sequences were among the cases"


def test_predicted_tags_are_fitted_to_the_words():
    targets = np.array([[NO, BA, IA], [BB, -100, -100]])
    for predicted in ([[NO, BA], [BB, BA]], [[NO, BA, -1], [BB, -1, -1]], [[NO, BA, -1, BA], [BB, IB, IB, IB]]):
        assert entities.on_words(np.array(predicted), targets).tolist() == [[NO, BA, NO], [BB, -1, -1]]


def test_an_entity_is_right_if_its_text_place_and_type_are():
    actual = entities.find(np.array([[NO, BA, IA], [BB, NO, NO]]))
    for tags, right in (
        ([[NO, BA, IA], [BB, NO, NO]], [True, True]),
        ([[NO, BA, NO], [BA, NO, NO]], [False, False]),
        ([[BA, IA, IA], [NO, BB, NO]], [False, False]),
        ([[BB, NO, NO], [NO, BA, IA]], [False, False]),
        ([[NO, IA, IA], [IB, NO, NO]], [True, True]),
    ):
        assert entities.right(entities.find(np.array(tags)), actual).tolist() == right


def test_counts_of_each_text_and_type():
    targets = np.array([[BA, NO, BB, IB], [NO, NO, -100, -100]])
    predicted = np.array([[BA, BA, BB, NO], [BB, NO, -1, -1]])
    assert entities.counts(predicted, targets, 2).tolist() == [[[1, 2, 1], [0, 1, 1]], [[0, 0, 0], [0, 1, 0]]]
