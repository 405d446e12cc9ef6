"""Fetch one starting point, check that it fits its architecture, and write it with its card: python -m stages.source NAME"""

from pathlib import Path

from stages.lib import artifacts, command, params, plugins


def main(name: str) -> None:
    block = params.block(params.load("source").source, "source", name)
    plugin = plugins.load("weights", block.weights)
    source = plugin.fetch(**plugins.knobs(block, plugin))
    artifacts.write_model(Path("models") / name, source.tensors, {
        "kind": "source",
        "name": name,
        "modality": "image",
        "architecture": source.architecture,
        "preprocessing": source.preprocessing,
        "classes": source.classes,
        "origin": source.origin,
        "pretrained": block.weights != "random",
        "parent": None,
        "chain": [name],
        "licences": [block.licence],
    })  # fmt: skip
    print(f"{name}: {source.architecture['library']} {source.architecture['model']} from {source.origin}; {block.licence}")


if __name__ == "__main__":
    command.run(main)
