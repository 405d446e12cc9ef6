"""Fetch pretrained (or random) weights, check that they fit their network, and write a card: python -m stages source NAME"""

from pydantic import ValidationError

from stages.lib.core import cards, closure, licences, plugins, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params


def main(name: str) -> None:
    p = params.load("modality", "source")
    block = params.block(p.source, "source", name)
    plugin = plugins.load("weights", block.weights)
    given = {key: getattr(block, key) for key in ("architecture", "preprocessing") if hasattr(block, key)}
    source = plugin.fetch(**given, **plugins.arguments(block, plugin))
    try:
        checked = plugins.load("modalities", p.modality).Preprocessing.model_validate(source.preprocessing)
    except ValidationError as error:
        raise UserError(f"source.{name}: these weights are not for the modality {p.modality}: {error}") from None
    preprocessing, files = checked.model_dump(mode="json"), dict[str, bytes]()
    if plugins.has("modalities", p.modality, "beside"):
        keep = plugins.load("modalities", p.modality, "beside").keep
        preprocessing, files = keep(preprocessing, dict(source.beside), source.architecture)
    held = sorted({block.licence, plugins.load("libraries", source.architecture["library"]).LICENCE})
    cards.write_model(runs.starting_point(name), source.tensors, cards.ModelCard(
        kind="source", name=name, modality=p.modality, architecture=source.architecture,
        preprocessing=preprocessing, output_names=source.classes, pretrained=block.weights != "random",
        origin=source.origin, code=closure.digest(closure.of_plugin("libraries", source.architecture["library"])),
        chain=[name], licences=held, use=licences.use(held).answer,
    ), files)  # fmt: skip
    print(f"{name}: {source.architecture['library']} {source.architecture['model']} from {source.origin}; {block.licence}")
