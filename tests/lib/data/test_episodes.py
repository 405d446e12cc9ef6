"""Episodes: new classes, support apart from queries, nested, the same for the same seed, and clear where they cannot be drawn."""

import numpy as np
import pytest

from stages.lib.core import datasets
from stages.lib.data import episodes
from stages.lib.errors import UserError

HOW = {"way": [5, 20], "shots": [1, 5, 10], "queries": 3, "number": 40, "seed": 0}
LABELS = np.random.default_rng(0).permutation([f"{index:02}" for index in range(25) for _ in range(13 + index % 3)]).tolist()


def draw(labels=LABELS, known=(), noun="image", **changes):
    return episodes.draw(labels, known, **HOW | changes, noun=noun)


def mistake(*given, **changes):
    with pytest.raises(UserError) as error:
        draw(*given, **changes)
    return str(error.value)


def test_an_episode_has_different_classes_and_of_each_only_its_own_examples():
    labels, drawn = np.array(LABELS), draw()
    assert drawn.support.shape == (40, 20, 10) and drawn.queries.shape == (40, 20, 3)
    for support, queries in zip(drawn.support, drawn.queries, strict=True):
        rows = np.concatenate([support, queries], axis=1)
        assert len(set(rows.ravel())) == rows.size, "no support example is a query, and none is there twice"
        classes = [set(labels[own]) for own in rows]
        assert all(len(own) == 1 for own in classes) and len(set.union(*classes)) == 20


def test_fewer_classes_and_shots_are_parts_of_the_same_episodes():
    drawn = draw()
    most = drawn.part(20, 10)
    for way, shot in ((5, 1), (20, 5), (5, 10)):
        support, queries = drawn.part(way, shot)
        np.testing.assert_array_equal(support, most[0][:, :way, :shot])
        np.testing.assert_array_equal(queries, most[1][:, :way])


def test_the_seed_alone_decides_and_fewer_episodes_are_the_first_ones():
    first, again, other, few = draw(), draw(), draw(seed=1), draw(number=7)
    np.testing.assert_array_equal(first.support, again.support)
    np.testing.assert_array_equal(first.queries, again.queries)
    assert not np.array_equal(first.support, other.support)
    np.testing.assert_array_equal(few.support, first.support[:7])


def test_classes_and_examples_are_drawn_evenly():
    labels, drawn = np.array(LABELS), draw(number=2000, way=[5], shots=[1])
    _, by_class = np.unique(labels[drawn.support[:, :, 0]], return_counts=True)
    assert len(by_class) == 25 and by_class / 400 == pytest.approx(np.ones(25), abs=0.2)
    assert set(drawn.support.ravel()) == set(range(len(LABELS))), "every example is a support example of some episode"


def test_what_cannot_be_drawn_is_named_with_what_to_do():
    said = mistake(LABELS, {"03", "24", "no such class"})
    assert "2 classes of the test are in training or validation too (03, 24)" in said and "split.by_group: true" in said
    said = mistake(way=[5, 26])
    assert "episodes.way: 26 classes of the test are needed, and it has 25 (00, 01," in said and "and 15 more" in said
    said = mistake(shots=[1, 11])
    assert "each class needs 14 images (shots: 11, queries: 3), and 9 of 25 in the test have fewer: 00 has 13, 03 has 13" in said
    draw(shots=[10, 1])


def test_they_come_back_as_they_were_and_equal_ones_are_equal_bytes(tmp_path):
    drawn, files = draw(), []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        datasets.write_episodes(tmp_path, name, drawn)
        files.append((tmp_path / name / datasets.EPISODES).read_bytes())
    assert files[0] == files[1]
    inputs = np.zeros((len(LABELS), 2))
    table = datasets.pd.DataFrame({"key": range(len(LABELS)), "label": LABELS, "group": LABELS})
    datasets.write_split(tmp_path, "a", inputs, table)
    read = datasets.read_split(tmp_path, "a").episodes
    assert (read.ways, read.shots) == ([5, 20], [1, 5, 10])
    np.testing.assert_array_equal(read.support, drawn.support)
    np.testing.assert_array_equal(read.queries, drawn.queries)
    (tmp_path / "a" / datasets.EPISODES).write_bytes(files[0][:100])
    with pytest.raises(UserError, match="not complete"):
        datasets.read_split(tmp_path, "a")
