"""Which files of stages/ a file imports, directly and through others, read from the code without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _file(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate.relative_to(ROOT)
    return None


def imports(path: Path) -> set[Path]:
    """Files of stages/ that one file imports, at its top or inside its functions."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for module in modules:
        parts = module.split(".")
        if parts[0] == "stages":  # importing a.b.c runs the __init__ of a and of a.b too
            found |= {file for end in range(1, len(parts) + 1) if (file := _file(".".join(parts[:end])))}
    return found


def closure(*paths: Path) -> set[Path]:
    """All files of stages/ that are read when these run, themselves included."""
    todo, done = list(paths), set()
    while todo:
        path = todo.pop()
        if path not in done:
            done.add(path)
            todo += imports(path)
    return done
