"""No setting is parsed and ignored: each hyperparameter changes what its plug-in does, each field of a section is read."""

import ast
import copy
import inspect
from functools import cache

import pytest
import torch
from pydantic import BaseModel

from stages.lib.core import closure, plugins
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from stages.lib.params import schema
from stages.lib.params.fields import Trainable
from stages.lib.tasks.classify import learning
from stages.lib.training import setup as setups
from tests.reading import STAGES, code, sections
from tests.tiny import ROOT, noise, options

FUNCTIONS = {"downloads": ["fetch"], "readers": ["read"], "weights": ["fetch"],
             "strategies": ["plan", "adapt", "finish", "head"], "baselines": ["predictions"]}  # fmt: skip
GIVEN = {
    "architecture",
    "preprocessing",
    "start",
    "train",
    "val",
    "task",
    "batch_size",
    "num_examples",
    "options",
    "unlabelled",
}  # not from their blocks
PLUGINS = [(folder, name) for folder in FUNCTIONS for name in plugins.names(folder)]


def keywords(function) -> set[str]:
    return {each.name for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY} - GIVEN


def used_names(function) -> set[str]:
    """Names that a function's body loads."""
    (tree,) = ast.parse(inspect.getsource(function)).body
    return {node.id for line in tree.body for node in ast.walk(line) if isinstance(node, ast.Name)}


@pytest.mark.parametrize(("folder", "name"), PLUGINS)
def test_a_plugin_takes_and_uses_exactly_its_params(folder, name):
    module = plugins.load(folder, name)
    functions = [getattr(module, name) for name in FUNCTIONS[folder] if hasattr(module, name)]
    assert set().union(*map(keywords, functions)) == set(module.Params.model_fields)
    for function in functions:
        assert keywords(function) <= used_names(function)


def another(value):
    """Another value of a hyperparameter, on a network of a few blocks and for a few examples."""
    if value == "all" or isinstance(value, Trainable):
        return Trainable(last_blocks=2)
    if isinstance(value, dict):
        return {"stages.1.*": 0.5}
    if isinstance(value, list):
        return [each / 2 for each in value]
    if value in ("loss", "information"):
        return "information" if value == "loss" else "loss"
    return value + 1 if isinstance(value, int) else value / 2


@pytest.fixture(scope="module")
def does():
    """What a strategy with some hyperparameters does: its phases, its head, its network and what it shows at the end."""
    fabric = launch(accelerator="cpu", devices=1, num_nodes=1, precision="32-true", deterministic=True)
    train, val = noise(30), noise(4, seed=1)

    def does(strategy: str, hyperparameters: dict) -> tuple:
        setup = setups.prepare(
            fabric, None, {"library": "timm", "model": "test_convnext"}, 2, "example",
            strategy=strategy, hyperparameters=hyperparameters, options=options(), num_examples=30, seed=0, same_outputs=False,
        )  # fmt: skip
        phases = [phase._replace(penalties=[(each.func, each.keywords) for each in phase.penalties]) for phase in setup.phases]
        torch.manual_seed(0)
        for parameter in setup.model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        tables = {}
        if hasattr(setup.plugin, "finish"):
            own = plugins.taken(setup.plugin.finish, {"options": options(), **setup.hyperparameters})
            tables = setup.plugin.finish(
                fabric,
                setup.model,
                start=setup.before,
                train=train,
                val=val,
                task=learning,
                batch_size=8,
                **own,
                **{"unlabelled": noise(10, seed=2)} if getattr(setup.plugin, "UNLABELLED", False) else {},
            )
        with torch.no_grad():
            outputs = setup.model.eval()(val.inputs(torch.arange(4), "none", None))
        return phases, setup.architecture, outputs.tolist(), {name: table.to_dict("list") for name, table in tables.items()}

    return does


@pytest.mark.parametrize("name", sorted(set(plugins.names("strategies")) - {"auto"}))  # which has none
def test_every_hyperparameter_changes_what_its_strategy_does(name, does):
    p = params.load("strategies", "scratch", path=ROOT / "params.yaml")
    plugin = plugins.load("strategies", name)
    values = plugins.arguments(p.scratch if name == "scratch" else p.strategies[name], plugin)
    values |= {"num_alphas": 2} if name == "wise_ft" else {}
    assert does(name, copy.deepcopy(values)) == does(name, values), "the same"
    for key, value in values.items():
        assert does(name, values | {key: another(value)}) != does(name, values), key


# Fields of the sections.

SECTIONS = schema.SINGLE | {name: block for name, (block, _, _) in schema.BLOCKS.items()}
DOORS = [(name, part) for name in plugins.names("modalities") for part in ("Preprocessing", "Packing")]


def nested(block: type[BaseModel]) -> list[type[BaseModel]]:
    """A schema and those of the blocks in it."""
    inner = [field.annotation for field in block.model_fields.values()]
    return [block, *(each for kind in inner if inspect.isclass(kind) and issubclass(kind, BaseModel) for each in nested(kind))]


@cache
def read_names(file: str) -> set[str]:
    """Attributes that the code of a file reads, keys that it looks up, and arguments that its functions use."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.add(node.slice.value)
        elif isinstance(node, ast.FunctionDef):
            names = {each.arg for each in [*node.args.args, *node.args.kwonlyargs]}
            found |= names & {each.id for line in node.body for each in ast.walk(line) if isinstance(each, ast.Name)}
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_the_fields_of_a_section_are_read_by_a_stage_that_loads_it(section):
    """Checking a value does not count. What `training` says comes to the trainings through their recipes."""
    stages = [name for name in STAGES if section in sections(name)] + (["target"] if section == "training" else [])
    assert stages
    read = set().union(*(read_names(file) for stage in stages for file in code(stage)))
    for block in nested(SECTIONS[section]):
        assert set(block.model_fields) <= read, block.__name__


@pytest.mark.parametrize(("name", "part"), DOORS)
def test_the_fields_of_a_modality_are_read_by_it(name, part):
    read = set().union(*(read_names(str(path)) for path in closure.plugin("modalities", name)))
    assert set(getattr(plugins.load("modalities", name), part).model_fields) <= read


def test_every_section_is_loaded_by_a_stage():
    assert set().union(*map(sections, STAGES)) == set(schema.SECTIONS)


def test_no_schema_has_a_default():
    """Every value stands in params.yaml. (Trainable is one of four, of which exactly one is given.)"""
    blocks = [each for block in SECTIONS.values() for each in nested(block)]
    blocks += [getattr(plugins.load("modalities", name), part) for name, part in DOORS]
    blocks += [plugins.load(folder, name).Params for folder, name in PLUGINS]
    for block in blocks:
        assert all(field.is_required() for field in block.model_fields.values()), block
