"""metrics/MODEL_CARD.md: what a person must know of the model to ship before they use it, as Markdown that goes where it goes.

Reference:
    Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv 1810.03993), for what belongs on one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.lib.core.cards import DataCard, ModelCard
from stages.lib.evaluation.facts import Facts

MOST_NAMES = 50  # classes that are named


def write(
    card: ModelCard,
    told: Facts,
    report: Mapping[str, Any],
    data: Sequence[DataCard],
    chips: Sequence[str],
    verdict: str,
    noun: str,
) -> str:
    """The card.

    Args:
        card: of the model to ship.
        told: what its test says, and `report` its report.json.
        data: cards of all data of its chain, the tested ones last.
        chips: what speaks against relying on it.
        verdict: verdict.md.
        noun: what it takes: "image".
    """
    names = report.get("classes") or []
    shown = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    lines = [f"# {card.name}: {card.trained_for} {noun}s of {data[-1].name}", "", f"{told.sentence}.", ""]
    lines += [f"- Answers: {len(names)} classes ({shown})"] if names else []
    lines += [f"- Takes: one {noun}, as a file; its preprocessing is part of the model",
              f"- Trained from: {' → '.join(card.ancestors)}, by the strategy {card.settings.get('strategy', 'unknown')}",
              f"- Weights: sha256 `{card.sha256}`" + ("" if card.deterministic else "; trained again, they would be others"), "",
              f"## Test: {report['num_examples']:,} {noun}s of {data[-1].name}", ""]  # fmt: skip
    lines += [f"- {line}" for line in (*(fact.words for fact in told.facts), *told.more)]
    lines += ["", "## Before you rely on it", "", *(f"- {chip}" for chip in chips)]
    lines += ["", "## Did transfer help?", "", *_section(verdict, "Did it help?")]
    lines += ["", "## Data", ""]
    lines += [f"- {each.name}: {', '.join(f'{each.num(split):,} {split}' for split in ('train', 'val', 'test'))}; licence "
              f"{each.licence}" for each in data]  # fmt: skip
    lines += ["", "## Licence", "", f"Licences of data, weights and code allow: **{card.use}**.", ""]
    return "\n".join([*lines, *(f"- {licence}" for licence in card.licences)]) + "\n"


def _section(verdict: str, title: str) -> list[str]:
    """The lines of a section of verdict.md."""
    text = verdict.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line]
