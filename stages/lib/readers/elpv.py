"""ELPV: electroluminescence images of solar cells, read from the wheel elpv-dataset (Deitsch et al., Solar Energy 2019)."""

import zipfile
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

LABELS = "elpv_dataset/data/labels.csv"  # one line per image: path, defect probability, kind of cell


SELECTS = ("cells",)  # params that select which images are read


class Params(Strict):
    cells: Literal["mono", "poly"]
    threshold: float = Field(ge=0, le=1)
    block: int = Field(ge=0)


def read(raw: Path, *, cells: str, threshold: float, block: int) -> list[Example]:
    """List the cells of one kind.

    Args:
        raw: the wheel, or the folder that contains it.
        cells: mono- or polycrystalline.
        threshold: defect probability (0, 1/3, 2/3 or 1) from which a cell counts as defective.
        block: number of consecutive cells (of both kinds) that form one group; 0 for no groups. Cells were cut from
            photographs of whole modules in order, so neighbours look alike for reasons other than defects.

    Raises:
        UserError: the wheel is missing, or is a different one.
    """
    wheels = [raw] if raw.suffix == ".whl" else sorted(raw.glob("*.whl"))
    if len(wheels) != 1 or not zipfile.is_zipfile(wheels[0]):
        raise UserError(f"raw: {raw} must hold the wheel elpv-dataset, and no other. Fetch it with: dvc repro download")
    archive = zipfile.ZipFile(wheels[0])
    if LABELS not in archive.namelist():
        raise UserError(f"raw: {wheels[0]} has no {LABELS}; the reader elpv reads the wheel elpv-dataset alone.")
    examples = []
    for index, line in enumerate(archive.read(LABELS).decode().splitlines()):
        path, probability, kind = line.split()
        if kind == cells:
            label = "defective" if float(probability) >= threshold else "intact"
            group = str(index // block) if block else ""
            name = f"elpv_dataset/data/{path}"
            examples.append(Example(Path(path).stem, label, group, "", partial(archive.read, name)))
    return sorted(examples, key=lambda example: example.key)
