"""What can change no result reruns nothing: another comment and another word in each file that only watches and tells."""

import ast
import json
import subprocess
import sys

import pytest

from stages.lib.core import closure
from tests.tiny import ROOT

pytestmark = pytest.mark.slow

WATCHING = [path for path in sorted(closure.STAGES.rglob("*.py")) if closure.observes(path) or path.parent.name == "commands"]
TELLING = [closure.STAGES / "lib/reporting" / name for name in ("page.py", "report.html")]  # for the stage report alone
STATUS = """
import json, sys
from pathlib import Path
from dvc.repo import Repo
for name, text in json.load(sys.stdin):
    before = Path(name).read_text()
    Path(name).write_text(text)
    print(json.dumps([name, sorted(Repo(".").status())]), flush=True)
    Path(name).write_text(before)
"""


def reworded(path):
    """The text of a file with another comment, and with another word in the last of its texts that has several."""
    text = path.read_text()
    if path.suffix == ".html":
        return text.replace("</body>", "<!-- another comment -->Another word.</body>")
    nodes = list(ast.walk(ast.parse(text)))
    documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = [
        node
        for node in texts
        if node.value.isascii() and "(" not in node.value and node.value.count(" ") > 2 and node.lineno == node.end_lineno
    ]
    words = [node for node in words if id(node) not in documents] or words
    lines = text.splitlines(keepends=True)
    if words:
        node = max(words, key=lambda node: node.lineno)
        line = lines[node.lineno - 1]
        end = (
            line.index(" ", node.col_offset + 1)
            if " " in line[node.col_offset + 1 : node.end_col_offset]
            else node.end_col_offset
        )
        lines[node.lineno - 1] = line[:end] + " perhaps" + line[end:]
    return "".join(lines) + "\n# another comment\n"


def test_another_word_in_what_only_watches_reruns_nothing(finished, copy_of):
    repo = copy_of(finished)
    counted = [path.relative_to(ROOT).as_posix() for path in [*WATCHING, *TELLING, closure.STAGES / "lib/core/seeds.py"]]
    changes = [(name, reworded(repo.path / name)) for name in counted]
    for name, text in changes:
        if name.endswith(".py"):
            ast.parse(text)
        assert text != (repo.path / name).read_text()
    done = subprocess.run([sys.executable, "-c", STATUS], input=json.dumps(changes), cwd=repo.path, env=repo.environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    stale = {name: set(stages) for name, stages in map(json.loads, done.stdout.splitlines())}
    told = {path.relative_to(ROOT).as_posix() for path in TELLING}
    assert len(stale.pop("stages/lib/core/seeds.py")) > 10, "a change of what counts is seen"
    assert stale == {name: {"track", "report"} if name in told else {"track"} for name in counted[:-1]}
    assert len(stale) > 20


def test_a_training_resumes_whatever_was_reworded_meanwhile(finished, copy_of):
    repo = copy_of(finished)
    for path in [*WATCHING, *TELLING]:
        copied = repo.path / path.relative_to(ROOT)
        copied.write_text(reworded(copied))
    assert set(repo.status()) == {"track", "report"}, "all at once"
    assert "scratch 0 resumes after" in repo.run(sys.executable, "-m", "stages", "scratch", "0")
    assert set(repo.status()) == {"track", "report"}, "and to the same bits"
