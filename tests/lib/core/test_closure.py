"""Which code a result depends on: what the imports say, and that its hash is that of these files alone."""

import shutil

import pytest

from stages.lib.core import closure, plugins
from tests.tiny import ROOT

MODULES = {
    "train.py": "from stages.lib.loop import fit\nimport os\nimport numpy.linalg\n",
    "lib/loop.py": "def fit():\n    from stages.lib import optimizers\n    import stages.lib.kinds.two.inputs\n",
    "lib/optimizers.py": "from stages.lib.errors import UserError\nfrom stages.lib.loop import fit\n",
    "lib/errors.py": "import stages.lib.shell.progress\n",
    "lib/shell/progress.py": "",
    "lib/params/schema.py": "from stages.lib import optimizers\n",
    "lib/kinds/one.py": "from stages.lib.params import schema\nfrom stages.lib.kinds import _shared\n",
    "lib/kinds/_shared.py": "",
    "lib/kinds/relative/__init__.py": "from .penalty import attach\nfrom .. import one\n",
    "lib/kinds/relative/penalty.py": "from . import helper\nfrom ..two.show import show\n",
    "lib/kinds/relative/helper.py": "",
    "lib/kinds/two/__init__.py": "from stages.lib.params.schema import Strict\n",
    "lib/kinds/two/inputs.py": "from stages.lib.nowhere import nothing\n",
    "lib/kinds/two/show.py": "",
    "lib/kinds/two/__pycache__/show.pyc": "",
}


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A small project of its own."""
    folder = tmp_path / "stages"
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(closure, "STAGES", folder)
    return folder


def names(paths, stages):
    return {path.relative_to(stages).as_posix() for path in paths}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("train.py", {"lib/loop.py"}),
        ("lib/loop.py", {"lib/optimizers.py", "lib/kinds/two/__init__.py", "lib/kinds/two/inputs.py"}),
        ("lib/optimizers.py", {"lib/errors.py", "lib/loop.py"}),
        ("lib/kinds/one.py", {"lib/params/schema.py", "lib/kinds/_shared.py"}),
        ("lib/kinds/two/inputs.py", set()),
        ("lib/kinds/relative/__init__.py", {"lib/kinds/relative/__init__.py", "lib/kinds/relative/penalty.py",
                                            "lib/kinds/one.py"}),
        ("lib/kinds/relative/penalty.py", {"lib/kinds/relative/helper.py", "lib/kinds/relative/__init__.py",
                                           "lib/kinds/two/__init__.py", "lib/kinds/two/show.py"}),
    ],
)  # fmt: skip
def test_what_a_file_imports_at_its_top_and_in_its_functions(stages, name, found):
    """With the packages on the way, whose __init__ runs; what is not of this project does not count."""
    assert names(closure.imports(stages / name), stages) == found


def test_all_files_that_are_read_when_one_runs_without_the_observers(stages):
    code = {"train.py", "lib/loop.py", "lib/optimizers.py", "lib/kinds/two/__init__.py", "lib/kinds/two/inputs.py"}
    assert names(closure.files(stages / "train.py"), stages) == code
    observers = {"lib/errors.py", "lib/shell/progress.py", "lib/params/schema.py"}
    assert names(closure.files(stages / "train.py", observers=True), stages) == code | observers
    assert names(closure.files(stages / "lib/kinds/one.py"), stages) == {"lib/kinds/one.py", "lib/kinds/_shared.py"}
    both = closure.files(stages / "lib/kinds/one.py", stages / "train.py")
    assert names(both, stages) == code | {"lib/kinds/one.py", "lib/kinds/_shared.py"}


def test_the_files_of_a_plugin(stages):
    assert names(closure.plugin("kinds", "one"), stages) == {"lib/kinds/one.py"}
    whole = ["lib/kinds/two/__init__.py", "lib/kinds/two/inputs.py", "lib/kinds/two/show.py"]
    assert [path.relative_to(stages).as_posix() for path in closure.plugin("kinds", "two")] == whole
    assert names(closure.plugin("kinds", "two", "inputs"), stages) == {"lib/kinds/two/inputs.py"}


def test_a_digest_changes_with_a_name_or_a_content_and_with_nothing_else(stages, tmp_path, monkeypatch):
    files = [stages / "train.py", stages / "lib/loop.py"]
    before = closure.digest(files)
    assert closure.digest(reversed(files)) == before
    (stages / "lib/optimizers.py").write_text("changed")
    assert closure.digest(files) == before != closure.digest(files[:1])
    shutil.copytree(stages, tmp_path / "elsewhere/stages")
    monkeypatch.setattr(closure, "STAGES", tmp_path / "elsewhere/stages")
    assert closure.digest(closure.STAGES / path.relative_to(stages) for path in files) == before, "wherever it lies"
    monkeypatch.setattr(closure, "STAGES", stages)
    text = files[0].read_text()
    files[0].write_text(text + "#")
    assert closure.digest(files) != before
    files[0].write_text(text)
    assert closure.digest(files) == before
    moved = files[0].rename(stages / "other.py")
    assert closure.digest([moved, files[1]]) != before


def test_what_moves_from_one_file_to_the_next_is_another_digest(stages):
    first, second = stages / "train.py", stages / "lib/loop.py"
    first.write_text("ab")
    second.write_text("c")
    before = closure.digest([first, second])
    first.write_text("a")
    second.write_text("bc")
    assert closure.digest([first, second]) != before


def test_a_key_is_of_code_and_values(stages):
    files = [stages / "train.py"]
    key = closure.key(files, {"a": 1, "b": [2]})
    assert closure.key(files, {"b": [2], "a": 1}) == key
    assert len({key, closure.key(files, {"a": 2, "b": [2]}), closure.key([], {"a": 1, "b": [2]})}) == 3


# On the files of this project.


@pytest.mark.parametrize(
    ("name", "observes"),
    [("__main__.py", True), ("lib/errors.py", True), ("lib/shell/progress.py", True), ("lib/tracking/store.py", True),
     ("lib/params/schema.py", True), ("lib/core/cards.py", False), ("lib/reporting/page.py", False), ("target.py", False)],
)  # fmt: skip
def test_the_observers(name, observes):
    assert closure.observes(ROOT / "stages" / name) == observes and (ROOT / "stages" / name).exists()


def test_what_only_watches_is_in_no_closure():
    for path in (ROOT / "stages").glob("*.py"):
        assert not [file for file in closure.files(path) if closure.observes(file)] or path.name == "__main__.py"
    assert {"errors.py", "validate.py", "command.py", "store.py"} <= {
        path.name for path in closure.files(ROOT / "stages/__main__.py", ROOT / "stages/track.py", observers=True)
    }


@pytest.mark.parametrize("name", plugins.names("strategies"))
def test_the_hash_of_a_strategy_covers_its_files(name):
    found = closure.of_plugin("strategies", name)
    assert set(closure.plugin("strategies", name)) <= found
    assert all(path.is_relative_to(ROOT / "stages/lib/strategies") for path in found)


def test_the_hash_of_a_strategy_covers_what_it_takes_from_another():
    folder = ROOT / "stages/lib/strategies"
    assert closure.of_plugin("strategies", "delta") == {folder / name for name in ("delta/__init__.py", "delta/penalty.py",
                                                               "l2_sp/__init__.py", "l2_sp/penalty.py")}  # fmt: skip
    assert closure.of_plugin("strategies", "l2_sp") == {folder / "l2_sp/__init__.py", folder / "l2_sp/penalty.py"}
    assert closure.of_plugin("strategies", "full") == {folder / "full.py"}
