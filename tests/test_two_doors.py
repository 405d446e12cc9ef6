"""What trains and what measures knows of no modality and no task: the loop and the intervals are the same for all of them."""

import re
import tokenize

import pytest

from stages.lib.core import closure

FILES = [
    path
    for package in ("training", "calibration", "evaluation")
    for path in sorted((closure.STAGES / "lib" / package).rglob("*.py"))
]
WORDS = re.compile(r"(?<![a-z])(images?|pixels?|class|classes|accuracy|accuracies|cross[ _-]?entropy)(?![a-z])", re.IGNORECASE)


def found(path) -> list[str]:
    """Lines with one of the words, in code, text or a part of a name; the keyword `class` is none."""
    lines = []
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            keyword = token.type == tokenize.NAME and token.string == "class"
            if not keyword and token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", token.string)  # NumClasses
                lines += [f"{path.name}:{token.start[0]}: {match[0]}" for match in WORDS.finditer(text)]
    return lines


TEXT = '''
class Fine:
    @classmethod
    def of(cls): return imaged
x = num_classes
y = "an Image"  # 3 pixels
f(CrossEntropy, cross_entropy, "cross-entropy")
"""
Two accuracies.
"""
z = NumClasses
'''


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_word_about_images_or_classes(path):
    assert not found(path)


def test_the_words_would_be_found(tmp_path):
    (tmp_path / "file.py").write_text(TEXT)
    assert [line.partition(": ")[2] for line in found(tmp_path / "file.py")] == [
        "classes", "Image", "pixels", "Cross Entropy", "cross_entropy", "cross-entropy", "accuracies", "Classes",
    ]  # fmt: skip
    assert len(FILES) > 12
