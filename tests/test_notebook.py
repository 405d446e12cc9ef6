"""The notebook that reads the results: its outputs are not kept, and its cells run on a finished pipeline."""

import ast
import json
import re
import subprocess
import sys

import pytest

from tests.tiny import ROOT

NOTEBOOK = json.loads((ROOT / "results.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SHOW = """
import ast, matplotlib
matplotlib.use("agg")
names = {"__name__": "__main__"}
for cell in CELLS:
    *lines, last = ast.parse(cell).body
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        print(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    else:
        exec(compile(ast.Module([last], []), "cell", "exec"), names)
print("arms:", names["arms"][names["metric"]].round(6).to_dict())
figures = [names["plt"].figure(number) for number in names["plt"].get_fignums()]
print("drawn:", [(len(each.axes[0].lines), each.axes[0].get_xlabel()) for each in figures])
"""


def test_what_it_once_showed_is_not_kept():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["metadata"]["language_info"]) == (4, {"name": "python"})
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_its_cells_show_the_comparison_and_the_runs_of_a_finished_pipeline(finished, copy_of):
    """Run one after the other, as a notebook does, in the environment of the lock, which has no notebook server."""
    repo = copy_of(finished)
    done = subprocess.run([sys.executable, "-c", SHOW.replace("CELLS", repr(CELLS))], cwd=repo.path, env=repo.environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    compare = json.loads((repo.path / "metrics/compare.json").read_text())
    (arms,) = re.findall(r"(?m)^arms: (.*)$", done.stdout)
    assert ast.literal_eval(arms) == compare["accuracy"]
    assert compare["transfer"]["verdict"] in done.stdout and "params.strategy" in done.stdout
    assert "· dots → lines · seeds 0" in done.stdout, "the state in MLflow"
    assert "Nothing yet: python -m stages strategies --run" in done.stdout
    assert "drawn: [(1, 'accuracy on the test, 95% interval'), (2, 'epoch')]" in done.stdout, "a curve of each target"
