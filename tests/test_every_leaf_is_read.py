"""No knob is parsed and not read: each is used by the function that takes it, or by the stage whose section it is in."""

import ast
import inspect
from pathlib import Path

import pytest

from stages.lib import device, fit, heads, plugins, schema, splits
from tests.closure import ROOT

FUNCTIONS = {"downloads": ["fetch"], "readers": ["read"], "weights": ["fetch"],
             "strategies": ["plan", "adapt", "finish", "head"]}  # fmt: skip
GIVEN = {"start", "train", "val", "batch_size", "num_examples"}  # what a strategy's functions get beside its knobs
PLUGINS = [(folder, name) for folder in FUNCTIONS for name in plugins.names(folder)]
READERS = {  # schema: the files that read it
    schema.Download: ["stages/download.py"],
    schema.Dataset: ["stages/prepare.py"],
    schema.Source: ["stages/source.py"],
    schema.Target: ["stages/target.py"],
    schema.Advise: ["stages/advise.py"],
    schema.Checks: ["stages/lib/hop.py", "stages/lib/words.py"],
    schema.Evaluate: ["stages/evaluate.py"],
    schema.Compare: ["stages/compare.py", "stages/lib/words.py"],
}


def used_names(function) -> set[str]:
    """Names that a function's body loads."""
    (tree,) = ast.parse(inspect.getsource(function)).body
    return {node.id for line in tree.body for node in ast.walk(line) if isinstance(node, ast.Name)}


def read_names(*files: str) -> set[str]:
    """Attributes that the code of these files reads, and the keys that it looks up (`checks["loss_jump"]`)."""
    nodes = [node for file in files for node in ast.walk(ast.parse((ROOT / file).read_text()))]
    keys = {node.slice.value for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)}
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)} | keys


@pytest.mark.parametrize(("folder", "name"), PLUGINS)
def test_a_plugin_takes_and_uses_exactly_its_knobs(folder, name):
    module = plugins.load(folder, name)
    functions = [getattr(module, name) for name in FUNCTIONS[folder] if hasattr(module, name)]
    keywords = {p.name for f in functions for p in inspect.signature(f).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert keywords - GIVEN == set(module.Knobs.model_fields)
    for function in functions:
        own = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert own - GIVEN <= used_names(function)
    assert all(field.is_required() for field in module.Knobs.model_fields.values()), "a hidden default"


def test_training_device_and_split_are_used():
    assert set(schema.Split.model_fields) <= used_names(splits.assign)
    assert set(schema.Training.model_fields) - {"head"} <= used_names(fit.fit)
    assert set(schema.Head.model_fields) <= used_names(heads._linear)
    assert set(schema.Device.model_fields) <= used_names(device.launch)


@pytest.mark.parametrize("schema", READERS, ids=lambda schema: schema.__name__)
def test_the_fields_of_a_section_are_read_by_its_stage(schema):
    assert set(schema.model_fields) <= read_names(*READERS[schema])


@pytest.mark.parametrize("stage", ["intermediate", "scratch"])
def test_the_fields_of_a_hop_are_read_by_its_stage(stage):
    section = {"intermediate": schema.Hop, "scratch": schema.Scratch}[stage]
    assert set(section.model_fields) <= read_names(f"stages/{stage}.py")


def test_every_section_is_loaded_by_a_stage():
    loaded = set()
    for path in Path(ROOT / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load":
                loaded |= {argument.value for argument in node.args}
    assert loaded == set(schema.SECTIONS)
