"""Names in any script are readable in plots, or at least differ: no empty boxes."""

import io
import warnings

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from stages.lib.plots import style
from stages.lib.tasks.classify import plots

LACKING = [char for char in "犬猫ねกक" if not style._has(char)]


def saved(make):
    """The pixels of a figure, and what matplotlib warned of."""
    file = io.BytesIO()
    with plt.rc_context(style.STYLE), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure, axes = plt.subplots(layout="constrained")
        make(figure, axes)
        style.save(figure, file)
    return np.asarray(Image.open(file)), [str(each.message) for each in told]


@pytest.mark.parametrize("text", ["cat", "Käfer", "кошка", "γάτα", "Ka\u0308fer", "a\nb", "→ 5 %"])
def test_what_the_font_has_is_drawn_as_it_is(text):
    assert style.drawn(text) == text


@pytest.mark.skipif(not LACKING, reason="fonts for all scripts are installed")
def test_what_no_font_has_is_its_code_point():
    assert style.drawn(f"a{LACKING[0]}é") == f"aU+{ord(LACKING[0]):04X}é"


@pytest.mark.parametrize("place", ["title", "ticks", "legend", "text"])
def test_no_glyph_is_missing_wherever_a_name_stands(place):
    def make(name, figure, axes):
        if place == "title":
            axes.set_title(name)
        elif place == "ticks":
            axes.set_xticks([0, 1], [name, "dog"])
        elif place == "legend":
            axes.plot([0, 1], label=name)
            figure.legend()
        else:
            axes.text(0.1, 0.1, name)

    one, told = saved(lambda figure, axes: make("犬ね", figure, axes))
    other, _ = saved(lambda figure, axes: make("猫ก", figure, axes))
    assert not [line for line in told if "missing from font" in line]
    assert one.shape != other.shape or (one != other).any(), "different names look different"


def test_two_classes_in_chinese_are_told_apart_in_the_confusion_matrix(tmp_path):
    counts = np.array([[3, 1], [0, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(tmp_path / "a.png", counts, ["犬", "猫"], "犬と猫")
        plots.confusion(tmp_path / "b.png", counts, ["猫", "犬"], "犬と猫")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
