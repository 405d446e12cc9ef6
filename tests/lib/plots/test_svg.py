"""The report's charts: where things are drawn, and that nothing from data is more than text."""

import re

import pytest
from markupsafe import Markup

from stages.lib.plots import svg


def numbers(name: str, drawn: str) -> list[float]:
    return [float(each) for each in re.findall(rf'{name}="(-?[\d.]+)%?"', drawn)]


def test_intervals_lie_on_one_axis_in_the_order_of_their_values():
    rows = [svg.Row("a", "90 %", 0.9, 0.8, 1.0), svg.Row("b", "50 %", 0.5, 0.4, 0.6), svg.Row("chance", "40 %", 0.4)]
    drawn = svg.intervals(rows)
    first, second, chance = numbers("cx", drawn)
    assert 0 < chance < second < first < 100
    bars = re.findall(r'class="bar c0" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)
    (low, high), (lower, _) = ((float(one), float(other)) for one, other in bars)
    assert low < first < high < 100 and lower == pytest.approx(chance), "0.4 lies where 0.4 lies"
    assert first - second == pytest.approx(4 * (high - first), abs=0.05), "the axis is linear"


def test_a_mark_lies_where_its_value_lies_in_each_row():
    rows = [svg.Row("better", "+2", 2.0, 1.0, 3.0), svg.Row("worse", "-1", -1.0, -2.0, -0.5)]
    drawn = svg.intervals(rows, mark=0)
    marks = {float(place) for place in re.findall(r'class="zero" x1="([\d.]+)%"', drawn)}
    better, worse = numbers("cx", drawn)
    (mark,) = marks
    assert drawn.count('class="zero"') == 2 and (better - mark) == pytest.approx(2 * (mark - worse), abs=0.05)
    assert 'class="zero"' not in svg.intervals(rows)


def test_bars_of_a_waterfall_begin_where_the_one_before_ended():
    rows = [svg.Row("random", "60", 0.6, 0.0), svg.Row("more", "+20", 0.8, 0.6), svg.Row("less", "-10", 0.7, 0.8)]
    drawn = svg.waterfall(rows)
    assert numbers("x", drawn) == [0, 75, 87.5] and numbers("width", drawn) == [75, 25, 12.5]
    assert svg.waterfall([svg.Row("nothing", "0", 0.0, 0.0)]).count("<rect") == 1


def test_curves_have_a_marked_point_and_a_gap_where_there_is_no_number():
    line = svg.Line([1, 2, 3], [0.5, float("nan"), 0.9], "c1", kept=2)
    drawn = svg.lines("accuracy", [line], x="epoch", percent=True)
    (points,) = re.findall(r'class="line c1" points="([^"]*)"', drawn)
    assert len(points.split()) == 2 and points.split()[-1] == ",".join(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)[0])
    assert ">50<" in drawn and ">90<" in drawn and "nan" not in drawn
    assert svg.lines("nothing", [svg.Line([1], [float("nan")], "c0")], x="epoch", percent=False) == ""


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_what_never_changes_is_drawn_too(value):
    drawn = svg.lines("loss", [svg.Line([1], [value], "c0", kept=0)], x="epoch", percent=False)
    assert "<circle" in drawn and "nan" not in drawn and "inf" not in drawn
    assert "nan" not in svg.intervals([svg.Row("a", "x", value, value, value)])


def test_names_and_texts_are_text():
    bad = '<b onclick="x">&'
    drawn = [
        svg.intervals([svg.Row(bad, bad, 1.0, 0.5, 1.5, note=bad)]),
        svg.waterfall([svg.Row(bad, bad, 1.0, 0.0)]),
        svg.lines(bad, [svg.Line([1, 2], [1, 2], "c0")], x=bad, percent=False),
        svg.legend([(bad, "c0")]),
        svg.heat(bad, [bad], [(bad, [(bad, 0.5)])]),
        svg.table([bad], [[bad]]),
    ]
    for each in drawn:
        assert isinstance(each, Markup) and "<b" not in each and "&lt;b onclick=" in each


def test_cells_are_shaded_by_their_share():
    assert "--s:50%" in svg.heat("", ["a"], [("a", [("3", 0.5)])])
