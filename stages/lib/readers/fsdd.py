"""Free Spoken Digit Dataset (Jackson et al.): English digits at 8 kHz, recordings/<digit>_<speaker>_<index>.wav, CC BY-SA 4.0.

It is read as single digits, as speakers, or as strings of digits for tests of transcription.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from stages.lib.core.contracts import Example
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError, listed, nearest
from stages.lib.params.fields import Strict
from stages.lib.readers._folders import files

if TYPE_CHECKING:
    import numpy as np

SELECTS = ("speakers",)  # params that select which recordings are read

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.wav")
TEST, VAL = range(5), range(5, 10)  # indices: the official test, and what is taken for validation
PEAK, BEFORE, GAPS = 0.5, 0.1, (0.05, 0.15)  # of a string: level of each digit, seconds of silence before it and between digits


class Params(Strict):
    what: Literal["digits", "speakers", "strings"]
    speakers: list[str]  # whose recordings are read; [] for all
    test_speakers: list[str]  # whose recordings are the test split
    val_speakers: list[str]  # whose recordings are the validation split
    num_strings: int = Field(ge=0)  # of each speaker; 0 unless `what` is strings
    seed: int = Field(ge=0)  # decides the strings

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [*self.test_speakers, *self.val_speakers]
        twice = sorted({name for name in given if given.count(name) > 1})
        missing = sorted(set(given) - set(self.speakers)) if self.speakers else []
        for wrong, text in (
            (twice, f"test_speakers and val_speakers must have nobody twice, but they have {', '.join(twice)}"),
            (missing, f"{', '.join(missing)} must be among speakers too, or speakers must be []"),
            (self.what == "speakers" and given, "for what: speakers, test_speakers and val_speakers must be []: every speaker is "
                                                "in training, and recordings 0 to 4 of each digit are the test"),
            (self.what == "strings" and not self.num_strings, "for what: strings, num_strings must be 1 or more"),
            (self.what != "strings" and self.num_strings, f"for what: {self.what}, num_strings must be 0; only strings have it"),
        ):  # fmt: skip
            if wrong:
                raise PydanticCustomError("fsdd", "{text}", {"text": text})
        return self


class Spoken(NamedTuple):
    """One recording of a digit."""

    digit: int
    number: int  # of this digit and speaker, from 0
    name: str
    open: Callable[[], bytes]


def read(
    raw: Path, *, what: str, speakers: list[str], test_speakers: list[str], val_speakers: list[str], num_strings: int, seed: int
) -> list[Example]:
    """List the examples.

    Args:
        raw: the folder or archive with recordings/ in it, or in its only folder.
        what: "digits": the label is the digit in words, the group is the speaker. "speakers": the label is the speaker; the
            official test (recordings 0 to 4 of each digit) is the test split. "strings": 3 or 4 digits of one speaker with short
            silences between them; the label is their words ("two zero five"), the group is the speaker. No recording is in
            strings of two splits: where test_speakers or val_speakers name nobody, a fifth of each speaker's strings are made for
            that split, from recordings that no others are made from (0 to 4 of each digit for the test, 5 to 9 for validation).
        speakers: [] for all.
        test_speakers, val_speakers: whose recordings are these splits; [] for none.
        num_strings: of each speaker.
        seed: decides the strings.

    Raises:
        UserError: there is no such speaker, or no recordings.
    """
    found = _recordings(raw)
    for name, given in (("speakers", speakers), ("test_speakers", test_speakers), ("val_speakers", val_speakers)):
        for unknown in [each for each in given if each not in found]:
            raise UserError(
                f"{name}: {raw} has no speaker {unknown!r}.{nearest(unknown, found)} Allowed: {listed(sorted(found))}."
            )
    chosen = {speaker: found[speaker] for speaker in sorted(found) if speaker in speakers or not speakers}
    if what == "speakers":
        examples = [
            Example(each.name, speaker, "", "test" if each.number in TEST else "", each.open)
            for speaker, recordings in chosen.items()
            for each in recordings
        ]
        return sorted(examples, key=lambda example: example.key)
    by_speaker = {name: "test" for name in test_speakers} | {name: "val" for name in val_speakers}
    others = "train" if by_speaker else ""  # the split of all the others
    examples = []
    for speaker, recordings in chosen.items():
        split = by_speaker.get(speaker, others)
        if what == "digits":
            examples += [Example(each.name, WORDS[each.digit], speaker, split, each.open) for each in recordings]
        else:
            pools = _pools(recordings, by_speaker, speaker)
            examples += _strings(speaker, pools, num_strings, seed_for(seed, "fsdd", speaker))
    return sorted(examples, key=lambda example: example.key)


def _recordings(raw: Path) -> dict[str, list[Spoken]]:
    """The recordings of each speaker, by digit and index."""
    found = defaultdict(list)
    for path, open in files.find(raw, (".wav",), "").files.items():
        match = NAME.fullmatch(path.name)
        if match and (path.parent.name == "recordings" or path.parent == PurePosixPath(".")):
            found[match["speaker"]].append(Spoken(int(match["digit"]), int(match["index"]), path.stem, open))
    if not found:
        raise UserError(
            f"raw: {raw} has no recordings of the Free Spoken Digit Dataset. Allowed: a folder, .zip or .tar with "
            "recordings/<digit>_<speaker>_<index>.wav (such as recordings/7_jackson_32.wav)."
        )
    return {speaker: sorted(recordings, key=lambda each: each[:3]) for speaker, recordings in found.items()}


def _pools(recordings: list[Spoken], by_speaker: dict[str, str], speaker: str) -> list[tuple[str, list[Spoken]]]:
    """Which recordings the strings of one speaker are made from in turn: five entries (split, recordings)."""
    if speaker in by_speaker:
        return [(by_speaker[speaker], recordings)] * 5
    own = {split: indices for split, indices in (("test", TEST), ("val", VAL)) if split not in by_speaker.values()}
    pools = [(split, [each for each in recordings if each.number in indices]) for split, indices in own.items()]
    rest = [each for each in recordings if not any(each.number in indices for indices in own.values())]
    return pools + [("train", rest)] * (5 - len(pools))


def _strings(speaker: str, pools: list[tuple[str, list[Spoken]]], num: int, seed: int) -> list[Example]:
    """Strings of digits of one speaker, made from a seed."""
    import numpy as np

    random = np.random.default_rng(seed)
    examples = []
    for number in range(num):
        split, recordings = pools[number % len(pools)]
        if not recordings:
            raise UserError(f"raw: {speaker} has no recordings from which strings of {split} could be made.")
        of_digit = defaultdict(list)
        for each in recordings:
            of_digit[each.digit].append(each)
        digits = random.choice(sorted(of_digit), random.integers(3, 5))
        spoken = [of_digit[digit][random.integers(len(of_digit[digit]))] for digit in digits]
        gaps = random.uniform(*GAPS, len(spoken))
        label = " ".join(WORDS[digit] for digit in digits)
        examples.append(Example(f"{speaker}_{number:05}", label, speaker, split, partial(_joined, spoken, gaps.tolist())))
    return examples


def _joined(spoken: list[Spoken], gaps: list[float]) -> tuple["np.ndarray", int]:
    """The samples of a string, each digit at the same level with silence after it, and their rate."""
    import numpy as np

    from stages.lib.modalities.audio.files import decode

    decoded: list[Any] = []
    for each in spoken:
        try:
            decoded.append(decode(each.open()))
        except ValueError as error:
            raise ValueError(f"{each.name}: {error}") from None
    if len(rates := {each.rate for each in decoded}) > 1:
        raise ValueError(f"its recordings have different sample rates: {listed(sorted(rates))} Hz")
    (rate,) = rates
    parts = [np.zeros(round(BEFORE * rate), np.float32)]
    for each, gap in zip(decoded, gaps, strict=True):
        parts += [each.samples * (PEAK / np.abs(each.samples).max()), np.zeros(round(gap * rate), np.float32)]
    return np.concatenate(parts), rate
