"""Reading what the stages wrote, without the imports that a card needs: `track` runs often and mostly has nothing to do."""

import json
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError


def read(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(there(path).read_text(encoding="utf-8"))


def there(path: Path) -> Path:
    """The path; a UserError if nothing is there."""
    if not path.exists():
        raise UserError(f"{path} is missing. Make it again with: dvc repro")
    return path
