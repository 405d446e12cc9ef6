"""What a person needs to know of a transcriber's test: how many characters and words it gets wrong, and who is heard worst."""

from collections.abc import Mapping
from typing import Any

from stages.lib.core.contracts import Scale
from stages.lib.evaluation.facts import Fact, Facts, ends

ERRORS = Scale(higher_is_better=False)
COUNTED = {"cer": "characters", "wer": "words"}


def facts(report: Mapping[str, Any], noun: str) -> Facts:
    """The error rates, that of the speaker who is heard worst if there are several, and for how many nothing is written; see
    stages.lib.evaluation.facts.of."""
    rates, num = report["metrics"], report["num_examples"]
    known = [name for name in COUNTED if rates[name]["value"] is not None]
    told = []
    for name in known:
        said = report["edits"][COUNTED[name]]
        told.append(_fact(name, f"{COUNTED[name].capitalize()} wrong", rates[name], f"of {said:,} that are said"))
    speakers = {name: each for name, each in report["per_speaker"].items() if each["cer"]["value"] is not None}
    if len(speakers) > 1:
        worst = max(speakers, key=lambda name: speakers[name]["cer"]["value"])
        beside = f"characters wrong; {speakers[worst]['utterances']:,} of the {noun}s"
        told.append(_fact("cer_worst", f"“{worst}”, heard worst", speakers[worst]["cer"], beside))
    if not known:
        return Facts(f"Nothing is said in the {num:,} test {noun}s", told)
    more = [f"It writes nothing at all for {report['empty']:,} of {num:,} {noun}s."] if report["empty"] else []
    return Facts(
        f"The model gets {ERRORS.text(rates['cer']['value'])} of the characters wrong, in {num:,} test {noun}s", told, more
    )


def _fact(key: str, title: str, figure: Mapping[str, float | None], beside: str) -> Fact:
    value, lower, upper = (figure[name] for name in ("value", "lower", "upper"))
    assert value is not None
    known = "" if lower is None or upper is None else f"{ends(figure, ERRORS)} · "
    return Fact(key, title, value, lower, upper, ERRORS.text(value), f"{known}{beside}")
