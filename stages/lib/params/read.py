"""Read params.yaml as DVC does, and return the sections that a stage asks for."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import UserError, listed, nearest
from stages.lib.params.schema import SECTIONS
from stages.lib.params.validate import validate

PATH = Path("params.yaml")
Block = TypeVar("Block")


def load(*sections: str, path: Path = PATH) -> SimpleNamespace:
    """Read params.yaml, check all of it, and return only the sections that a stage asks for.

    Raises:
        UserError: the file is missing, is not valid YAML, or contains mistakes; the text lists all of them.
    """
    checked = validate(read(path))
    return SimpleNamespace(**{name: getattr(checked, name) for name in sections})


def read(path: Path = PATH) -> dict[str, Any]:
    """The raw values, parsed as DVC parses them (YAML 1.2: 1e-3 is a number, `no` is a word)."""
    raw = parsed(path, f"{path} is not here ({Path.cwd()}). Run the command in the root of the repository.")
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold sections ({', '.join(SECTIONS)}), not {type(raw).__name__}.")
    return raw


def parsed(path: Path, missing: str) -> Any:
    """What a YAML file of the user's holds; `missing` is what is said if there is none."""
    try:
        return YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(missing) from None
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML. {error}") from None


def block(blocks: Mapping[str, Block], section: str, name: str) -> Block:
    """One block, by its name on the command line."""
    if name not in blocks:
        raise UserError(f"{section} in {PATH} has no block {name!r}.{nearest(name, blocks)} Blocks: {listed(blocks)}.")
    return blocks[name]
