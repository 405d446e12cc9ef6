"""What a model may be used for, by the licences of everything that went into it: data, weights and the code of its network.

A licence in params.yaml is an SPDX expression (https://spdx.org/licenses), with a note in brackets if you like: "CC-BY-NC-SA-4.0
(ELPV)", "MIT OR Apache-2.0". Spaces may stand for its hyphens. Beside these, a few words are known (WORDS). Anything else is
unknown, and so is a licence of SPDX that is not sorted here. This sorts names; it is not legal advice, and says nothing about
rights that no licence names, such as those of people in pictures.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Answer = Literal["may be sold", "copyleft", "unknown", "not for commercial use"]
ANSWERS: tuple[Answer, ...] = ("may be sold", "copyleft", "unknown", "not for commercial use")  # each worse for a seller
Asked = Literal["any", "commercial", "closed"]
ALLOWED: dict[Asked, tuple[Answer, ...]] = {  # what `checks.use` lets pass
    "any": ANSWERS,
    "commercial": ("may be sold", "copyleft"),
    "closed": ("may be sold",),
}
WORDS: dict[str, Answer] = {
    "none": "may be sold", "own": "may be sold", "our own": "may be sold", "public domain": "may be sold", "cc0": "may be sold",
    "research": "not for commercial use", "for research": "not for commercial use", "research use": "not for commercial use",
    "research only": "not for commercial use", "free for research": "not for commercial use",
    "non-commercial": "not for commercial use", "not for commercial use": "not for commercial use",
}  # fmt: skip
SORTED: tuple[tuple[Answer, str], ...] = (  # patterns of SPDX identifiers; the first that matches counts
    ("not for commercial use", "*-NC-*"),
    ("unknown", "CC-BY-*ND-*"),
    ("copyleft", "CC-BY-SA-* CDLA-Sharing-* ODbL-* GPL-* AGPL-* LGPL-* MPL-* EUPL-* EPL-* CDDL-* OSL-* CECILL-2* GFDL-*"),
    ("may be sold", "CC-BY-* CC0-1.0 CC-PDDC PDDL-* ODC-By-* CDLA-Permissive-* OGL-UK-* MIT* Apache-* BSD-* 0BSD ISC Zlib "
                    "BSL-1.0 Unlicense HPND PSF-2.0 Python-2.0* NCSA WTFPL libtiff"),
)  # fmt: skip


class Use(NamedTuple):
    """What a model may be used for, and the licences that say so."""

    answer: Answer
    because: list[str]

    def __str__(self) -> str:
        """For readers: not for commercial use (CC-BY-NC-SA-4.0 (ELPV))."""
        return self.answer + (f" ({'; '.join(self.because)})" if self.because else "")


def use(licences: Iterable[str]) -> Use:
    """The worst of what the licences allow; all of them hold together."""
    found = {licence: of(licence) for licence in licences}
    worst: Answer = max(found.values(), key=ANSWERS.index, default="unknown")
    return Use(worst, sorted(licence for licence, answer in found.items() if answer == worst and worst != "may be sold"))


def of(licence: str) -> Answer:
    """What one licence of params.yaml allows.

    Of alternatives (OR) one may choose the best; licences that hold together (AND) give the worst.
    """
    without_note = re.sub(r"\s*\([^()]*\)[^()]*$", "", licence)
    for words in dict.fromkeys((licence.strip(), without_note.strip(), licence.partition("(")[0].strip())):
        if words.lower() in WORDS:
            return WORDS[words.lower()]
        if expression := _expression(words) or _expression(words.replace(" ", "-")):
            return _answer(expression.replace("(", " ( ").replace(")", " ) ").split())
    return "unknown"


def _expression(words: str) -> str | None:
    """A valid SPDX expression in its canonical form, or None."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(words))
    except InvalidLicenseExpression:
        return None


def _answer(tokens: list[str]) -> Answer:
    """The answer to an expression; OR binds less than AND, and WITH only adds permissions to what stands before it."""
    parts = _split(tokens, "OR")
    if len(parts) > 1:
        return min((_answer(part) for part in parts), key=ANSWERS.index)
    parts = _split(tokens, "AND")
    if len(parts) > 1:
        return max((_answer(part) for part in parts), key=ANSWERS.index)
    if tokens[0] == "(":
        return _answer(tokens[1:-1])
    known = ((answer, pattern) for answer, patterns in SORTED for pattern in patterns.split())
    return next((answer for answer, pattern in known if fnmatch.fnmatchcase(tokens[0], pattern)), "unknown")


def _split(tokens: list[str], at: str) -> list[list[str]]:
    """The parts between a word outside of brackets."""
    parts, depth = [list[str]()], 0
    for token in tokens:
        depth += (token == "(") - (token == ")")  # noqa: S105 (brackets)
        if token == at and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
